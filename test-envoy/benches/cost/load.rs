//! The requests of one row, and what the proxy took for them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// As many requests are under way at once.
const CONNECTIONS: usize = 16;

/// A tracer's last batch leaves within this time: `mesh_tracing` sends what it has every 100 ms.
const LAST_BATCH: Duration = Duration::from_millis(120);

/// Connections of one row, kept from round to round.
///
/// A request goes out on each before the first answer is read. So the proxy finds as many of them
/// at a time in every round, which a load with a thread of its own leaves to the kernel's
/// scheduler: what a request costs depends on it.
pub(crate) struct Load {
    connections: Vec<TcpStream>,
    request: Vec<u8>,
    process: u32,
}

impl Load {
    /// `headers` are whole lines, such as `x-user-id: alice`.
    pub(crate) fn new<'h>(
        address: SocketAddr,
        headers: impl IntoIterator<Item = &'h str>,
        process: u32,
    ) -> Self {
        let connect = |_| {
            let connection = TcpStream::connect(address).expect("a connection");
            connection.set_nodelay(true).expect("no delay");
            connection
        };
        let mut request = "GET /api/items?id=7 HTTP/1.1\r\nhost: bench\r\n".to_owned();
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        Self {
            connections: (0..CONNECTIONS).map(connect).collect(),
            request: request.into_bytes(),
            process,
        }
    }

    /// Sends about `requests`, and returns what one cost the process, in microseconds of CPU, and
    /// how many it were.
    pub(crate) fn round(&mut self, requests: u64) -> (f64, u64) {
        let batches = requests.div_ceil(CONNECTIONS as u64);
        let before = cpu_us(self.process);
        for _ in 0..batches {
            self.batch();
        }
        std::thread::sleep(LAST_BATCH);
        let requests = batches * CONNECTIONS as u64;
        let spent = cpu_us(self.process) - before;
        (spent / requests as f64, requests)
    }

    fn batch(&mut self) {
        for connection in &mut self.connections {
            connection.write_all(&self.request).expect("a request sent");
        }
        for connection in &mut self.connections {
            let mut answer = [0; 4096];
            let mut length = 0;
            // The answers have no body.
            while !answer[..length].ends_with(b"\r\n\r\n") {
                match connection.read(&mut answer[length..]) {
                    Ok(0) | Err(_) => panic!("no answer: {:?}", &answer[..length]),
                    Ok(read) => length += read,
                }
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "another answer");
        }
    }
}

/// CPU time of all threads of a process, in microseconds.
fn cpu_us(process: u32) -> f64 {
    let tasks = Path::new("/proc").join(process.to_string()).join("task");
    let of_task = |task: fs::DirEntry| {
        // A thread may have ended since.
        let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let nanoseconds = schedstat.split(' ').next().map(str::parse::<u64>);
        nanoseconds.map_or(0, |number| number.unwrap_or(0))
    };
    let tasks = fs::read_dir(tasks).expect("the process");
    let nanoseconds: u64 = tasks.flatten().map(of_task).sum();
    nanoseconds as f64 / 1000.0
}
