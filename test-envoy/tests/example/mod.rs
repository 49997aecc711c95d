//! What is known of the bootstraps in `examples/`.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::SocketAddr;

use serde_json::{Value, json};

/// The connection manager of the first listener.
pub(crate) const MANAGER: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";

/// Gives a cluster of the example another endpoint.
pub(crate) fn set_cluster(bootstrap: &mut Value, name: &str, address: SocketAddr) {
    let clusters = &mut bootstrap["static_resources"]["clusters"];
    let cluster = clusters
        .as_array_mut()
        .into_iter()
        .flatten()
        .find(|cluster| cluster["name"] == name)
        .expect("the cluster");
    let endpoint = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
    let endpoint = cluster.pointer_mut(endpoint).expect("its endpoint");
    *endpoint = json!({
        "socket_address": {"address": address.ip(), "port_value": address.port()},
    });
}

/// Gives the ids that are not in the command names in the order of their appearance: they differ from run to run, and
/// where they are equal they must stay so.
pub(crate) fn with_new_ids_named(output: &str, command: &str) -> String {
    let mut seen: Vec<&str> = Vec::new();
    let mut named = output.to_owned();
    for word in output.split(|c: char| !c.is_ascii_alphanumeric()) {
        let is_id = matches!(word.len(), 16 | 32) && word.bytes().all(|b| b.is_ascii_hexdigit());
        if is_id && !command.contains(word) && !seen.contains(&word) {
            seen.push(word);
            named = named.replace(word, &format!("<new id {}>", seen.len()));
        }
    }
    named
}
