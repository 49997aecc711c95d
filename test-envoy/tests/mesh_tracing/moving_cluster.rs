//! A collector's cluster that CDS brings, removes and brings again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use envoy_test_harness::config::{Bootstrap, Listener};
use envoy_test_harness::sink::Fault;
use envoy_test_harness::{Envoy, OtlpSink};
use meshtrace_test_support::host::each_host;
use meshtrace_test_support::reporting::{Collected, reporting, sampled};
use serde_json::{Value, json};

/// The clusters that Envoy is told of: none, or that of the collector.
fn tell(folder: &Path, version: u32, sink: Option<&OtlpSink>) {
    let cluster = |sink: &OtlpSink| {
        let address = sink.http_addr();
        json!({
            "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            "name": "moving",
            "type": "STATIC",
            "load_assignment": {"cluster_name": "moving", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": {"socket_address": {
                    "address": address.ip(), "port_value": address.port(),
                }}}},
            ]}]},
        })
    };
    let resources: Vec<Value> = sink.into_iter().map(cluster).collect();
    let response = json!({"version_info": version.to_string(), "resources": resources});
    let file = folder.join("clusters.new");
    fs::write(&file, response.to_string()).expect("a file");
    fs::rename(file, folder.join("clusters.json")).expect("its place");
}

fn wait_for_clusters(envoy: &Envoy, count: u64) {
    envoy
        .wait_for_stat("cluster_manager.active_clusters", |found| found == count)
        .expect("the clusters");
}

fn send(mesh: &Collected, count: u64) {
    for _ in 0..count {
        assert_eq!(mesh.send(&sampled()).status, 200);
    }
}

#[test]
fn spans_go_out_while_the_cluster_is_there_and_no_call_is_lost_count_of() {
    each_host(|host, envoy, at| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        tell(path, 1, None);
        let watched = json!({"dynamic_resources": {"cds_config": {
            "resource_api_version": "V3",
            "path_config_source": {
                "path": path.join("clusters.json"),
                "watched_directory": {"path": path},
            },
        }}});
        let config = reporting(
            "http/protobuf",
            r#"{"cluster": "moving", "timeout_ms": 300}"#,
        );
        let listener = Listener::http("ingress", host.manager(config));
        let bootstrap = Bootstrap::new().listener(listener).merge(watched);
        let mesh = host.start_with(envoy, "http/protobuf", bootstrap);

        send(&mesh, 3);
        mesh.wait_for_counter("report.dropped.unknown_cluster", 3);
        tell(path, 2, Some(&mesh.sink));
        wait_for_clusters(&mesh.envoy, 3);
        send(&mesh, 4);
        mesh.wait_for_counter("report.exported", 4);

        // A call is on its way when the cluster goes.
        mesh.sink
            .set_fault(Some(Fault::delay(Duration::from_secs(60))));
        send(&mesh, 5);
        mesh.wait_for_counter("report.calls", mesh.counter("report.calls").max(2));
        tell(path, 3, None);
        wait_for_clusters(&mesh.envoy, 2);
        mesh.wait_for_counter("report.dropped.unknown_cluster", 8);
        mesh.sink.set_fault(None);

        tell(path, 4, Some(&mesh.sink));
        wait_for_clusters(&mesh.envoy, 3);
        send(&mesh, 6);
        mesh.wait_for_counter("report.exported", 10);
        let counters = ["exported", "dropped.unknown_cluster", "dropped.refused"];
        let counts = counters.map(|name| mesh.counter(&format!("report.{name}")));
        assert_eq!(counts, [10, 8, 0], "{at}");
        mesh.assert_sound(at);
    });
}
