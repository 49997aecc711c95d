//! Shared by all parts: one runtime for the servers, and blocking waits for the tests.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::{Error, WAIT_LIMIT};

/// The runtime for the servers of all tests of a process. So a test needs no runtime of its own.
pub(crate) fn runtime() -> Result<&'static Runtime, Error> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());

    let _one_at_a_time = lock(&STARTING);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("envoy-test-harness")
        .enable_all()
        .build()
        .map_err(Error::io("start the runtime of the test servers"))?;
    Ok(RUNTIME.get_or_init(|| runtime))
}

/// Binds a free port on the loopback interface.
pub(crate) fn bind() -> Result<(TcpListener, SocketAddr), Error> {
    let _context = runtime()?.enter();
    let bound = || -> io::Result<(TcpListener, SocketAddr)> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((TcpListener::from_std(listener)?, address))
    };
    bound().map_err(Error::io("bind a port on 127.0.0.1"))
}

/// A task that ends when the value is dropped.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Result<Self, Error> {
        Ok(Self(runtime()?.spawn(future)))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A list that servers append to and tests wait on.
#[derive(Debug)]
pub(crate) struct Recorder<T> {
    items: Mutex<Vec<T>>,
    changed: Condvar,
}

impl<T> Default for Recorder<T> {
    fn default() -> Self {
        Self {
            items: Mutex::default(),
            changed: Condvar::new(),
        }
    }
}

impl<T: Clone> Recorder<T> {
    pub(crate) fn extend(&self, items: impl IntoIterator<Item = T>) {
        lock(&self.items).extend(items);
        self.changed.notify_all();
    }

    pub(crate) fn all(&self) -> Vec<T> {
        lock(&self.items).clone()
    }

    pub(crate) fn take(&self) -> Vec<T> {
        std::mem::take(&mut *lock(&self.items))
    }

    /// Waits until `choose` finds a value in the list, or until the limit is over.
    pub(crate) fn wait_until<R>(
        &self,
        what: impl FnOnce() -> String,
        choose: impl Fn(&[T]) -> Option<R>,
        describe: impl FnOnce(&[T]) -> String,
    ) -> Result<R, Error> {
        let deadline = Instant::now() + WAIT_LIMIT;
        let mut items = lock(&self.items);
        loop {
            if let Some(chosen) = choose(&items) {
                return Ok(chosen);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut {
                    what: what(),
                    limit: WAIT_LIMIT,
                    seen: describe(&items),
                });
            }
            items = self
                .changed
                .wait_timeout(items, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Tries again every few milliseconds, for conditions without a notification.
pub(crate) fn poll<R>(
    what: impl FnOnce() -> String,
    mut check: impl FnMut() -> Result<Option<R>, Error>,
    seen: impl FnOnce() -> String,
) -> Result<R, Error> {
    let deadline = Instant::now() + WAIT_LIMIT;
    loop {
        if let Some(found) = check()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(Error::TimedOut {
                what: what(),
                limit: WAIT_LIMIT,
                seen: seen(),
            });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Locks the mutex also after a panic: a panic of another test must not hide the result of this
/// one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const POLL_INTERVAL: Duration = Duration::from_millis(5);
