//! The proxy's node, as far as the process itself has it. Envoy gives a tracer no part of it.

use std::fs;
use std::sync::OnceLock;

use serde_json::Value;

/// A text of the node, such as that of `["metadata", "NAME"]`. It comes from the command line, or
/// from the bootstrap where that is JSON, as Istio's is.
pub(crate) fn node(path: &[&str]) -> Option<String> {
    static NODE: OnceLock<Node> = OnceLock::new();

    NODE.get_or_init(|| {
        let line = fs::read("/proc/self/cmdline").unwrap_or_default();
        let arguments: Vec<_> = line.split(|byte| *byte == 0).collect();
        Node::read(&arguments, |path| fs::read(path).ok())
    })
    .text(path)
}

#[derive(Debug, Default)]
struct Node {
    id: Option<String>,
    cluster: Option<String>,
    bootstrap: Value,
}

impl Node {
    fn read(arguments: &[&[u8]], file: impl FnOnce(&str) -> Option<Vec<u8>>) -> Self {
        let option = |names: &[&str]| names.iter().find_map(|name| value_of(name, arguments));
        let path = option(&["-c", "--config-path"]);
        let content = path.and_then(|path| file(&path)).unwrap_or_default();
        let mut bootstrap: Value = serde_json::from_slice(&content).unwrap_or_default();
        Self {
            id: option(&["--service-node"]),
            cluster: option(&["--service-cluster"]),
            bootstrap: bootstrap
                .get_mut("node")
                .map(Value::take)
                .unwrap_or_default(),
        }
    }

    fn text(&self, path: &[&str]) -> Option<String> {
        let on_the_line = match path {
            ["id"] => self.id.as_ref(),
            ["cluster"] => self.cluster.as_ref(),
            _ => None,
        };
        on_the_line.cloned().or_else(|| {
            let mut place = &self.bootstrap;
            for name in path {
                place = place.get(name)?;
            }
            place.as_str().map(str::to_owned)
        })
    }
}

/// The value of a command line option, which follows the option or its `=`.
fn value_of(option: &str, arguments: &[&[u8]]) -> Option<String> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(rest) = argument.strip_prefix(option.as_bytes()) else {
            continue;
        };
        let value = match rest {
            [] => arguments.next()?,
            [b'=', value @ ..] => value,
            _ => continue,
        };
        return String::from_utf8(value.to_vec()).ok();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_bootstrap() {
        let arguments: [&[u8]; 5] = [
            b"envoy",
            b"-c",
            b"/etc/envoy.json",
            b"--service-node=sidecar~1",
            b"",
        ];
        let node = Node::read(&arguments, |path| {
            assert_eq!(path, "/etc/envoy.json");
            Some(
                br#"{"node": {"id": "x", "cluster": "shop", "metadata": {"LABELS": {"app": "a"}}}}"#
                    .to_vec(),
            )
        });
        assert_eq!(node.text(&["id"]).as_deref(), Some("sidecar~1"));
        assert_eq!(node.text(&["cluster"]).as_deref(), Some("shop"));
        let label = node.text(&["metadata", "LABELS", "app"]);
        assert_eq!(label.as_deref(), Some("a"));
        assert_eq!(node.text(&["metadata", "NAME"]), None);
    }

    #[test]
    fn a_bootstrap_that_is_no_json_tells_nothing() {
        let arguments: [&[u8]; 3] = [b"envoy", b"--config-path", b"envoy.yaml"];
        let node = Node::read(&arguments, |_| Some(b"node:\n  id: x\n".to_vec()));
        assert_eq!(node.text(&["id"]), None);
    }
}
