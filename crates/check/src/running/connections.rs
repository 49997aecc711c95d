//! Envoy's own counters of the collector's cluster, which tell why no export arrives.

use crate::document::Node;
use crate::model::Model;

use super::Observed;

/// The counters of a handshake of TLS that failed.
const TLS: [&str; 6] = [
    "ssl.connection_error",
    "ssl.fail_verify_error",
    "ssl.fail_verify_no_cert",
    "ssl.fail_verify_san",
    "ssl.fail_verify_cert_hash",
    "ssl.ocsp_staple_failed",
];

/// The reason that the counters of a `report.cluster` show, and what to look at.
pub(super) fn reason(model: &Model<'_>, observed: &Observed) -> Option<String> {
    let reports = model.plugins.iter().filter_map(|plugin| plugin.report());
    let mut names = reports.filter_map(|report| report.get("cluster").and_then(Node::text));
    names.find_map(|name| of_cluster(name, observed))
}

fn of_cluster(name: &str, observed: &Observed) -> Option<String> {
    // Envoy writes its names of counters so.
    let stat = name.replace(':', "_");
    let value = |counter: &str| observed.after.envoy(&format!("cluster.{stat}.{counter}"));
    let count = |counter: &str| value(counter).unwrap_or(0);
    let tls: u64 = TLS.iter().copied().map(count).sum();
    let [connections, closed] = [
        "upstream_cx_connect_fail",
        "upstream_cx_destroy_remote_with_active_rq",
    ]
    .map(count);
    if value("membership_healthy") == Some(0) {
        return Some(format!(
            "the cluster {name} has no healthy endpoint (`membership_healthy` is 0): see its \
             address, its name in DNS, and its health checks"
        ));
    }
    if tls > 0 {
        return Some(format!(
            "TLS with the cluster {name} failed {tls} times (`cluster.{stat}.ssl.*`): see that the \
             collector speaks TLS on this port, `trusted_ca`, `sni` and the names of its \
             certificate, and whether it wants one of the client"
        ));
    }
    if connections > 0 {
        return Some(format!(
            "{connections} connections to the cluster {name} could not be made \
             (`upstream_cx_connect_fail`): see its address and port, and that the collector listens \
             there"
        ));
    }
    (closed > 0).then(|| {
        format!(
            "the cluster {name} closed {closed} connections without an answer \
             (`upstream_cx_destroy_remote_with_active_rq`): the port speaks TLS, or another protocol \
             than `report.protocol`"
        )
    })
}
