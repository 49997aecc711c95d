//! Runs one Envoy, changes its configuration, and reads its statistics and logs.

mod child;
mod options;
mod watched;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::Value;
use tempfile::TempDir;

use self::child::{Process, log_tail, read_log};
pub use self::options::Options;
use self::watched::Watched;
use crate::access_log::AccessLog;
use crate::binary::EnvoyBinary;
use crate::client::{Request, Response};
use crate::config::{self, Bootstrap, HttpFilter, Layout, Listener};
use crate::{Error, sync};

/// A running Envoy. It is killed when the value is dropped, also after a panic.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
    layout: Layout,
    watched: Mutex<Watched>,
    // The folder is removed after the process has ended, because fields are dropped in order.
    _folder: TempDir,
}

impl Envoy {
    /// Starts with one worker, and returns when Envoy is ready to take requests.
    ///
    /// # Errors
    /// [`Error::EnvoyExited`] with the end of the log when Envoy refuses the configuration, [`Error::TimedOut`] when
    /// it is not ready within [`WAIT_LIMIT`](crate::WAIT_LIMIT).
    pub fn start(binary: &EnvoyBinary, bootstrap: Bootstrap) -> Result<Self, Error> {
        Self::start_with(binary, bootstrap, Options::default())
    }

    /// As [`Envoy::start`], with other options.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub fn start_with(
        binary: &EnvoyBinary,
        bootstrap: Bootstrap,
        options: Options,
    ) -> Result<Self, Error> {
        let (folder, layout) = make_folder()?;
        let watched = Watched {
            listeners: bootstrap.watched_listeners().unwrap_or_default().to_vec(),
            version: 1,
        };
        if bootstrap.watched_listeners().is_some() {
            watched.write_listeners(&layout)?;
        }
        for filter in bootstrap.discovered_filters() {
            watched.write_extension(&layout, &filter)?;
        }
        let rendered = bootstrap.render(&layout);
        Self::launch(binary, &rendered, &options, folder, layout, watched)
    }

    /// Starts with a bootstrap in Envoy's own JSON, such as that of an example for users.
    ///
    /// The ports of the admin interface and of the static listeners are replaced by free ones; the
    /// rest is not changed.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub fn start_raw(
        binary: &EnvoyBinary,
        mut bootstrap: Value,
        options: Options,
    ) -> Result<Self, Error> {
        let (folder, layout) = make_folder()?;
        config::free_ports(&mut bootstrap);
        let watched = Watched {
            listeners: Vec::new(),
            version: 1,
        };
        Self::launch(binary, &bootstrap, &options, folder, layout, watched)
    }

    fn launch(
        binary: &EnvoyBinary,
        bootstrap: &Value,
        options: &Options,
        folder: TempDir,
        layout: Layout,
        watched: Watched,
    ) -> Result<Self, Error> {
        fs::write(layout.bootstrap(), bootstrap.to_string())
            .map_err(Error::io("write the bootstrap"))?;
        let mut process = Process::start(binary, &layout, options)?;
        let admin = process.wait_until_ready(&layout)?;
        Ok(Self {
            process,
            admin,
            layout,
            watched: Mutex::new(watched),
            _folder: folder,
        })
    }

    /// The address on which the listener of that name accepts connections.
    ///
    /// # Errors
    /// [`Error::NoSuchListener`] when it is not active.
    pub fn address(&self, listener: &str) -> Result<SocketAddr, Error> {
        let mut listeners = self.listeners()?;
        listeners
            .remove(listener)
            .ok_or_else(|| Error::NoSuchListener {
                name: listener.to_owned(),
                present: listeners.into_keys().collect(),
            })
    }

    /// Every active listener, with its address.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Http`] when Envoy does not answer.
    pub fn listeners(&self) -> Result<BTreeMap<String, SocketAddr>, Error> {
        let answer = self.admin_json("/listeners?format=json")?;
        Ok(list(&answer, "listener_statuses")
            .filter_map(|status| {
                let address = status.pointer("/local_address/socket_address")?;
                let ip = address.get("address")?.as_str()?.parse().ok()?;
                let port = address.get("port_value")?.as_u64()?.try_into().ok()?;
                Some((
                    status.get("name")?.as_str()?.to_owned(),
                    SocketAddr::new(ip, port),
                ))
            })
            .collect())
    }

    /// The address of the admin interface.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Sends a request to the admin interface. Reads such as `/stats` need GET, and changes need
    /// POST.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Http`] when Envoy does not answer.
    pub fn admin(&self, method: &str, path: &str) -> Result<Response, Error> {
        Request::new(method, path).send(self.admin)
    }

    /// All counters and gauges by name.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Http`] when Envoy does not answer.
    pub fn stats(&self) -> Result<BTreeMap<String, u64>, Error> {
        let answer = self.admin_json("/stats?format=json")?;
        Ok(list(&answer, "stats")
            .filter_map(|stat| {
                Some((
                    stat.get("name")?.as_str()?.to_owned(),
                    stat.get("value")?.as_u64()?,
                ))
            })
            .collect())
    }

    /// A counter or gauge. The value is 0 where it does not exist, because Envoy makes many of them
    /// only at their first use.
    ///
    /// # Errors
    /// As [`Envoy::stats`].
    pub fn stat(&self, name: &str) -> Result<u64, Error> {
        Ok(self.stats()?.remove(name).unwrap_or_default())
    }

    /// Waits until the counter or gauge fulfils the condition, and returns its value.
    ///
    /// # Errors
    /// As [`Envoy::stats`], and [`Error::TimedOut`] after [`WAIT_LIMIT`](crate::WAIT_LIMIT).
    pub fn wait_for_stat(&self, name: &str, condition: impl Fn(u64) -> bool) -> Result<u64, Error> {
        sync::poll(
            || format!("the statistic {name} to fulfil the test's condition"),
            || Ok(Some(self.stat(name)?).filter(|value| condition(*value))),
            || format!("it is {:?}", self.stat(name)),
        )
    }

    /// Everything that Envoy has logged until now.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read.
    pub fn log(&self) -> Result<String, Error> {
        read_log(&self.layout)
    }

    /// Waits until a line of the log contains the text, and returns the first such line.
    ///
    /// # Errors
    /// As [`Envoy::log`], and [`Error::TimedOut`] after [`WAIT_LIMIT`](crate::WAIT_LIMIT) with the
    /// end of the log.
    pub fn wait_for_log(&self, text: &str) -> Result<String, Error> {
        sync::poll(
            || format!("a log line with {text:?}"),
            || {
                let log = self.log()?;
                Ok(log
                    .lines()
                    .find(|line| line.contains(text))
                    .map(str::to_owned))
            },
            || format!("the log ends with\n{}", log_tail(&self.layout)),
        )
    }

    /// The access log of a listener whose connection manager has one.
    pub fn access_log(&self, listener: &str) -> AccessLog {
        AccessLog::new(self.layout.access_log(listener))
    }

    /// The folder with Envoy's bootstrap, watched files and logs. It is removed when the value is
    /// dropped.
    pub fn folder(&self) -> &Path {
        self.layout.staging()
    }

    /// The file with the bootstrap, in JSON.
    pub fn bootstrap(&self) -> PathBuf {
        self.layout.bootstrap()
    }

    /// The process id.
    pub fn process_id(&self) -> u32 {
        self.process.child.id()
    }

    /// Replaces the watched listener of the same name, or adds it. Returns when Envoy has accepted
    /// the change.
    ///
    /// The port of the listener may be another one afterwards. A new [`HttpFilter::discovered`] is
    /// delivered with it. One that exists already is changed only by [`Envoy::update_extension`].
    ///
    /// # Errors
    /// [`Error::UpdateRefused`] when Envoy keeps what it had, [`Error::Configuration`] without a
    /// [`Bootstrap::watched_listener`].
    pub fn update_listener(&self, listener: Listener) -> Result<(), Error> {
        self.update_listeners(vec![listener])
    }

    /// As [`Envoy::update_listener`], with several listeners in one update. Where Envoy refuses one of
    /// them, it may have taken the others.
    ///
    /// # Errors
    /// As [`Envoy::update_listener`].
    pub fn update_listeners(&self, listeners: Vec<Listener>) -> Result<(), Error> {
        let names: Vec<_> = listeners.iter().map(Listener::name).collect();
        let resource = format!("the listeners {names:?}");
        let filters = listeners.iter().flat_map(Listener::filters);
        for filter in filters.filter(|filter| filter.is_discovered()) {
            if !self.layout.extension(filter.name()).exists() {
                sync::lock(&self.watched).write_extension(&self.layout, filter)?;
            }
        }
        self.change_listeners(&resource, |present| {
            for listener in listeners {
                present.retain(|present| present.name() != listener.name());
                present.push(listener);
            }
        })
    }

    /// Removes the watched listener of that name. Returns when Envoy has accepted the change.
    ///
    /// # Errors
    /// As [`Envoy::update_listener`].
    pub fn remove_listener(&self, name: &str) -> Result<(), Error> {
        self.change_listeners(&format!("the listener {name:?}"), |listeners| {
            listeners.retain(|present| present.name() != name);
        })
    }

    /// Replaces the filter of the same name that is delivered by ECDS. Returns when Envoy has
    /// accepted the change.
    ///
    /// # Errors
    /// [`Error::UpdateRefused`] when Envoy keeps what it had, [`Error::Configuration`] when no filter of that name is
    /// [`HttpFilter::discovered`].
    pub fn update_extension(&self, filter: impl Into<HttpFilter>) -> Result<(), Error> {
        let filter = filter.into();
        if !self.layout.extension(filter.name()).exists() {
            return Err(Error::Configuration(format!(
                "no filter named {:?} is delivered by ECDS: call `discovered` on it in the bootstrap",
                filter.name()
            )));
        }
        let mut watched = sync::lock(&self.watched);
        let resource = format!("the filter {:?}", filter.name());
        // Upstream filters are counted as `upstream_http_filter`.
        let scope = format!("http_filter.{}.", filter.name());
        self.observe_update(&resource, &scope, || {
            watched.version += 1;
            watched.write_extension(&self.layout, &filter)
        })
    }

    fn change_listeners(
        &self,
        resource: &str,
        change: impl FnOnce(&mut Vec<Listener>),
    ) -> Result<(), Error> {
        if !self.layout.listeners().exists() {
            return Err(Error::Configuration(
                "this Envoy has no watched listeners: use `Bootstrap::watched_listener`".to_owned(),
            ));
        }
        let mut watched = sync::lock(&self.watched);
        let before = watched.listeners.clone();
        let outcome = self.observe_update(resource, "listener_manager.lds.", || {
            change(&mut watched.listeners);
            watched.version += 1;
            watched.write_listeners(&self.layout)
        });
        if outcome.is_err() {
            watched.listeners = before;
            return outcome;
        }
        self.wait_for_stat("listener_manager.total_listeners_warming", |warming| {
            warming == 0
        })?;
        Ok(())
    }

    /// Waits for the counters that show whether Envoy accepted an update.
    fn observe_update(
        &self,
        resource: &str,
        scope: &str,
        write: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let sum = |stats: &BTreeMap<String, u64>, counters: &[&str]| -> u64 {
            stats
                .iter()
                .filter(|(name, _)| {
                    counters.iter().any(|counter| {
                        name.strip_suffix(counter)
                            .is_some_and(|rest| rest.ends_with(scope))
                    })
                })
                .map(|(_, value)| value)
                .sum()
        };
        let taken = |stats: &BTreeMap<String, u64>| sum(stats, &["update_success"]);
        let refused =
            |stats: &BTreeMap<String, u64>| sum(stats, &["update_rejected", "config_fail"]);
        let stats = self.stats()?;
        let (taken_before, refused_before) = (taken(&stats), refused(&stats));
        let log_before = self.log()?.len();
        write()?;
        sync::poll(
            || format!("Envoy to take or refuse {resource}"),
            || {
                let stats = self.stats()?;
                if refused(&stats) > refused_before {
                    let log = self.log()?;
                    return Err(Error::UpdateRefused {
                        resource: resource.to_owned(),
                        log: log.get(log_before..).unwrap_or(&log).to_owned(),
                    });
                }
                Ok((taken(&stats) > taken_before).then_some(()))
            },
            || format!("the log ends with\n{}", log_tail(&self.layout)),
        )
    }

    fn admin_json(&self, path: &str) -> Result<Value, Error> {
        let response = self.admin("GET", path)?;
        serde_json::from_slice(&response.body).map_err(|error| Error::Http {
            peer: self.admin,
            reason: format!("{path} is not JSON: {error}"),
        })
    }
}

fn make_folder() -> Result<(TempDir, Layout), Error> {
    let folder = tempfile::Builder::new()
        .prefix("envoy-test-")
        .tempdir()
        .map_err(Error::io("make a temporary folder"))?;
    let layout = Layout::new(folder.path());
    Ok((folder, layout))
}

fn list<'a>(answer: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    answer
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}
