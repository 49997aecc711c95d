//! Facts about the bootstraps in `examples/`.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// The connection manager of the first listener.
pub const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";

/// Sets another endpoint for a cluster of the example.
pub fn set_cluster(bootstrap: &mut Value, name: &str, address: SocketAddr) {
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

/// Replaces the ids that are not in the command by names, in the order of their appearance. They
/// differ from run to run, but ids that are equal must stay equal.
pub fn with_new_ids_named(output: &str, command: &str) -> String {
    let mut seen: Vec<&str> = Vec::new();
    let mut named = output.to_owned();
    let words = output.split(|c: char| !c.is_ascii_alphanumeric());
    let hexadecimal = |word: &&str| word.bytes().all(|b| b.is_ascii_hexdigit());
    let ids = words.filter(|word| matches!(word.len(), 16 | 32));
    // A request id is a UUID: 36 characters between white space.
    let uuids = output
        .split_whitespace()
        .filter(|word| word.len() == 36 && word.split('-').count() == 5);
    for word in ids.filter(hexadecimal).chain(uuids) {
        if !command.contains(word) && !seen.contains(&word) {
            seen.push(word);
        }
    }
    // The long ids come first, because a tracer may use half of a new trace id as the id of its
    // first span.
    let mut numbered: Vec<_> = seen.iter().zip(1..).collect();
    numbered.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
    for (word, number) in numbered {
        named = named.replace(word, &format!("<new id {number}>"));
    }
    named
}
