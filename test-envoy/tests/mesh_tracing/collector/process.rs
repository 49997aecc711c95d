//! A real OpenTelemetry Collector.

use std::env;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use envoy_test_harness::config::Cluster;
use envoy_test_harness::{OtlpSink, Upstream, WAIT_LIMIT};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// A Collector that takes OTLP in both forms and exports it to a sink; it ends when dropped.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) binary: std::ffi::OsString,
    pub(super) sink: SocketAddr,
    /// Gets the same as JSON, which tells the types of values.
    pub(super) typed: Upstream,
    pub(super) http: Port,
    pub(super) grpc: Port,
    pub(super) process: Option<Child>,
    pub(super) folder: TempDir,
}

/// A port that stays this test's while nobody listens on it.
#[derive(Debug)]
pub(super) struct Port(pub(super) TcpSocket);

impl Port {
    pub(super) fn reserve() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        // The Collector sets this too, and so may listen where this is only bound.
        socket.set_reuseaddr(true).expect("an option");
        socket
            .bind((Ipv4Addr::LOCALHOST, 0).into())
            .expect("a port");
        Self(socket)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("its address")
    }
}

impl Collector {
    pub(super) fn start(sink: &OtlpSink) -> Self {
        let mut collector = Self {
            binary: env::var_os("COLLECTOR_BIN").expect("COLLECTOR_BIN, as `make test-mesh` does"),
            sink: sink.http_addr(),
            typed: Upstream::start().expect("a server"),
            http: Port::reserve(),
            grpc: Port::reserve(),
            process: None,
            folder: tempfile::tempdir().expect("a folder"),
        };
        collector.run();
        collector
    }

    /// Returns when both receivers listen.
    pub(super) fn run(&mut self) {
        let config = json!({
            "receivers": {"otlp": {"protocols": {
                "http": {"endpoint": self.http.address().to_string()},
                "grpc": {"endpoint": self.grpc.address().to_string()},
            }}},
            "exporters": {
                "otlphttp": {"endpoint": format!("http://{}", self.sink)},
                "otlphttp/typed": {
                    "endpoint": format!("http://{}", self.typed.address()),
                    "encoding": "json",
                    "compression": "none",
                },
            },
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {"traces": {
                    "receivers": ["otlp"],
                    "exporters": ["otlphttp", "otlphttp/typed"],
                }},
            },
        });
        let log = self.folder.path().join("log");
        let process = Command::new(&self.binary)
            .arg(format!("--config=yaml:{config}"))
            .stderr(File::create(&log).expect("a log"))
            .spawn();
        let process = self.process.insert(process.expect("a Collector"));
        let start = Instant::now();
        for port in [&self.http, &self.grpc] {
            while TcpStream::connect(port.address()).is_err() {
                let ended = process.try_wait().expect("its state").is_some();
                if ended || start.elapsed() > WAIT_LIMIT {
                    panic!(
                        "no Collector: {}",
                        std::fs::read_to_string(&log).expect("a log")
                    );
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Ends it as systems do; what it has taken it exports before it goes.
    pub(super) fn stop(&mut self) {
        let mut process = self.process.take().expect("a Collector that runs");
        let ended = Command::new("sh")
            .args(["-c", "kill -TERM \"$0\"", &process.id().to_string()])
            .status();
        assert!(ended.expect("a shell").success());
        assert!(process.wait().expect("its end").success());
    }

    /// The cluster of the receiver for this protocol, as Istio names it.
    pub(super) fn cluster(&self, protocol: &str) -> (String, Cluster) {
        let name =
            |port: u16| format!("outbound|{port}||otel-collector.observability.svc.cluster.local");
        match protocol {
            "grpc" => {
                let name = name(4317);
                let cluster = Cluster::http2(&name, self.grpc.address());
                (name, cluster)
            }
            _ => {
                let name = name(4318);
                let cluster = Cluster::http1(&name, self.http.address());
                (name, cluster)
            }
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
