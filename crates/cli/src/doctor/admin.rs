//! Envoy's admin interface.

use std::io::ErrorKind;
use std::time::Duration;

use ureq::Agent;

/// As much as `check` reads of a file.
const MAX_BYTES: u64 = 64 << 20;
/// How long Envoy may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Envoy's admin interface.
pub(super) struct Admin {
    agent: Agent,
    url: String,
}

impl Admin {
    pub(super) fn at(url: &str) -> Result<Self, String> {
        let url = match url.split_once("://") {
            None => format!("http://{url}"),
            Some(("http", _)) => url.to_owned(),
            Some((scheme, _)) => {
                return Err(format!(
                    "{scheme}:// is not spoken by Envoy's admin interface; write http://HOST:PORT"
                ));
            }
        };
        // The address of one of its pages is that of the interface too.
        let base = ["/stats", "/config_dump", "/server_info", "/clusters"]
            .iter()
            .find_map(|page| url.trim_end_matches('/').strip_suffix(page))
            .unwrap_or(&url);
        let config = Agent::config_builder()
            // The admin interface is this machine's, whatever proxy the environment names.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .build();
        Ok(Self {
            agent: config.into(),
            url: base.trim_end_matches('/').to_owned(),
        })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(super) fn get(&self, path: &str) -> Result<Vec<u8>, String> {
        let url = self.url(path);
        let mut response = self.agent.get(&url).call().map_err(|error| {
            let advice = match &error {
                ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    "nothing listens there; the address is that of `admin` in Envoy's bootstrap, \
                     in Istio --pod NAMESPACE/POD finds it"
                }
                ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                    "write the address as http://HOST:PORT"
                }
                ureq::Error::HostNotFound => "the name of the host is not known",
                ureq::Error::Timeout(_) => "the admin interface does not answer in time",
                _ => "is it the address of Envoy's admin interface?",
            };
            format!("{url} cannot be read: {error}; {advice}")
        })?;
        if response.status() != 200 {
            return Err(format!(
                "{url} answers {}; {}",
                response.status(),
                self.no_envoy()
            ));
        }
        let body = response.body_mut().with_config().limit(MAX_BYTES);
        body.read_to_vec()
            .map_err(|error| format!("{url} cannot be read to its end: {error}"))
    }

    pub(super) fn no_envoy(&self) -> String {
        format!(
            "{} is not the admin interface of an Envoy; it is at the address of `admin` in the \
             bootstrap, and no listener's",
            self.url
        )
    }
}
