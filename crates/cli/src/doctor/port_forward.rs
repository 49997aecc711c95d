//! A port of a pod on this machine, by `kubectl port-forward`.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How long kubectl may take until the port is open.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A pod: `NAMESPACE/POD`, or another resource that kubectl finds pods of: `NAMESPACE/KIND/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    namespace: String,
    resource: String,
}

impl FromStr for Pod {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected NAMESPACE/POD, or NAMESPACE/deployment/NAME";
        let (namespace, resource) = text.split_once('/').ok_or(EXPECTED)?;
        // What begins with a dash would be a flag of kubectl.
        let is_name = |name: &str| !name.is_empty() && !name.starts_with('-');
        if !is_name(namespace) || !resource.split('/').all(is_name) {
            return Err(EXPECTED);
        }
        let resource = match resource.contains('/') {
            true => resource.to_owned(),
            false => format!("pod/{resource}"),
        };
        Ok(Self {
            namespace: namespace.to_owned(),
            resource,
        })
    }
}

/// A running `kubectl port-forward`. It ends with this value.
#[derive(Debug)]
pub(crate) struct PortForward {
    kubectl: Child,
    /// `http://HOST:PORT` on this machine.
    pub(crate) url: String,
}

impl PortForward {
    /// Forwards a free port of this machine to `port` of the pod.
    pub(crate) fn open(pod: &Pod, port: u16) -> Result<Self, String> {
        let (namespace, resource) = (&pod.namespace, &pod.resource);
        let mut kubectl = Command::new("kubectl")
            .args(["port-forward", "--address", "127.0.0.1", "--namespace"])
            .args([namespace, resource, &format!(":{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => format!(
                    "kubectl is not on PATH; install it, or forward the port in another way and give the address: \
                     meshtrace doctor http://127.0.0.1:{port}"
                ),
                _ => format!("kubectl cannot be run: {error}"),
            })?;
        let (stdout, stderr) = (kubectl.stdout.take(), kubectl.stderr.take());
        let (sender, lines) = mpsc::channel();
        // Both pipes are read to their ends, so that kubectl never waits for room in them.
        thread::spawn(move || {
            let lines = stdout
                .into_iter()
                .flat_map(|pipe| BufReader::new(pipe).lines());
            lines.map_while(Result::ok).for_each(|line| {
                // Nobody waits for the lines after the first.
                let _ = sender.send(line);
            });
        });
        let errors = thread::spawn(move || {
            let mut text = String::new();
            // A text that cannot be read is no more than a shorter message.
            let _ = stderr.map(|mut pipe| pipe.read_to_string(&mut text));
            text
        });
        let mut forward = Self {
            kubectl,
            url: String::new(),
        };
        loop {
            match lines.recv_timeout(TIMEOUT) {
                Ok(line) => {
                    if let Some(address) = address(&line) {
                        forward.url = format!("http://{address}");
                        return Ok(forward);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = TIMEOUT.as_secs();
                    return Err(format!(
                        "kubectl port-forward to {resource} in {namespace} opened no port in {seconds} seconds"
                    ));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    forward.end();
                    let text = errors.join().unwrap_or_default();
                    let reason = text.trim().lines().last().unwrap_or("it said nothing");
                    return Err(format!(
                        "kubectl cannot forward port {port} of {resource} in {namespace}: {reason}"
                    ));
                }
            }
        }
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        self.end();
    }
}

/// The address of `Forwarding from 127.0.0.1:40123 -> 15000`.
fn address(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("Forwarding from ")?;
    rest.split(" -> ").next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_a_namespace_and_is_no_flag() {
        let pod: Pod = "shop/cart-7".parse().expect("a pod");
        assert_eq!(pod.resource, "pod/cart-7");
        let pod: Pod = "shop/deployment/cart".parse().expect("a deployment");
        assert_eq!(pod.resource, "deployment/cart");
        for wrong in [
            "cart",
            "/cart",
            "shop/",
            "-n/cart",
            "shop/--all",
            "shop/pod/",
        ] {
            assert!(wrong.parse::<Pod>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_address_is_that_of_the_first_line() {
        let line = "Forwarding from 127.0.0.1:40123 -> 15000";
        assert_eq!(address(line), Some("127.0.0.1:40123"));
        assert_eq!(address("Handling connection for 40123"), None);
    }
}
