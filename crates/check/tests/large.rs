//! An Envoy configuration of 5 MB.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

use std::fmt::Write as _;
use std::time::Instant;

use meshtrace_check::{Code, Input, Options, check};

fn listener(number: usize) -> String {
    let mut routes = String::new();
    for route in 0..20 {
        write!(
            routes,
            "\n              - match: {{prefix: \"/service-{route}/\"}}\n                route: {{cluster: service-{route}, timeout: 5s}}"
        )
        .expect("text");
    }
    format!(
        r#"
  - name: listener-{number}
    traffic_direction: INBOUND
    address: {{socket_address: {{address: 127.0.0.1, port_value: 10000}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          http_filters:
          - name: trace_context
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              config:
                name: trace_context
                failure_policy: FAIL_RELOAD
                vm_config: {{runtime: envoy.wasm.runtime.v8, code: {{local: {{filename: dist/trace_context.wasm}}}}}}
                configuration:
                  "@type": type.googleapis.com/google.protobuf.StringValue
                  value: '{{"extract": ["b3", "tracecontext"], "inject": ["tracecontext"]}}'
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:{routes}"#
    )
}

fn configuration() -> String {
    let mut text = String::from("static_resources:\n  listeners:");
    let mut number = 0;
    while text.len() < 5 << 20 {
        text.push_str(&listener(number));
        number += 1;
    }
    // One mistake, at its end.
    let wrong = listener(number).replace("\"inject\"", "\"inyect\"");
    text.push_str(&wrong);
    text.push('\n');
    text
}

#[test]
fn five_megabytes_are_read_as_yaml_and_as_one_line_of_json() {
    let yaml = configuration();
    // A configuration of the same size in one line, as tools write it.
    let number = "{\"a\": [1, 2.5, true, null, \"text\"], \"b\": {\"c\": \"d\"}},".repeat(100_000);
    let json = format!("{{\"static_resources\": {{\"clusters\": [{number}{{}}]}}}}");
    // It is also of the name of others that are right.
    let mistake = [Code::SameName, Code::UnknownKey];
    for (name, text, expected) in [
        ("large.yaml", yaml, &mistake[..]),
        ("large.json", json, &[]),
    ] {
        let size = text.len();
        let inputs = [Input {
            name: name.to_owned(),
            bytes: text.into_bytes(),
        }];
        #[allow(
            clippy::disallowed_methods,
            reason = "a test on the developer's machine"
        )]
        let start = Instant::now();
        let report = check(&inputs, &Options::default());
        println!("{name}: {size} bytes in {:?}", start.elapsed());
        let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, expected, "{name}");
    }
}
