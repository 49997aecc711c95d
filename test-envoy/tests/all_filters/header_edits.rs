//! What the filters do to headers besides the trace context itself: families, `baggage`, the header
//! of `force`, and what is malformed.
//!
//! RFC 9110, section 5.5, and RFC 9113, section 8.2.1, say what a value may be; W3C Baggage, section
//! 3.3.1, what a member is.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, WasmFilter,
};
use envoy_test_harness::upstream::{ClosedPort, RecordedRequest};
use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_test_support::common::{Mesh, access_log_trace, get, module, trace_context};
use meshtrace_test_support::promises;
use serde_json::json;

fn filter(name: &str, config: &str) -> WasmFilter {
    WasmFilter::new(name, module(name))
        .configuration(config)
        .env("FORCE_KEY", "hunter2")
}

/// With room for 2,000 headers.
fn roomy(filters: Vec<WasmFilter>) -> HttpConnectionManager {
    let manager = HttpConnectionManager::new()
        .route(Route::prefix("/").cluster("upstream"))
        .merge(json!({
            "max_request_headers_kb": 512,
            "common_http_protocol_options": {"max_headers_count": 2000},
        }));
    filters
        .into_iter()
        .fold(manager, HttpConnectionManager::filter)
}

fn start(envoy: &EnvoyBinary, managers: Vec<(&str, HttpConnectionManager)>) -> Mesh {
    let collector = ClosedPort::reserve().expect("a port");
    let bootstrap = Bootstrap::new().cluster(Cluster::http1("collector", collector.address()));
    let listeners = managers
        .into_iter()
        .map(|(name, manager)| Listener::http(name, manager));
    Mesh::with(envoy, listeners.fold(bootstrap, Bootstrap::listener))
}

fn names_with(left: &RecordedRequest, prefix: &str) -> Vec<String> {
    let names = left
        .headers
        .iter()
        .map(|(name, _)| String::from_utf8_lossy(name).to_lowercase());
    names.filter(|name| name.starts_with(prefix)).collect()
}

#[test]
fn a_family_of_headers_goes_whatever_its_number() {
    let clear = r#"{"clear": ["jaeger", "ottrace"]}"#;
    let prefix = r#"{"emit": {"request_header_prefix": "x-p-"}}"#;
    let mesh = format!(
        r#"{{"trace_context": {clear}, "span_attributes": {prefix}, "report": {{"cluster": "collector"}}}}"#
    );
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let mesh = start(
            envoy,
            vec![
                ("context", roomy(vec![trace_context(clear)])),
                ("attributes", roomy(vec![filter("span_attributes", prefix)])),
                ("mesh", roomy(vec![filter("mesh_tracing", &mesh)])),
            ],
        );
        for count in [1, 99, 150, 600] {
            for (listener, gone) in [
                ("context", &["uberctx-", "ot-baggage-"][..]),
                ("attributes", &["x-p-"]),
                ("mesh", &["uberctx-", "ot-baggage-", "x-p-"]),
            ] {
                let request = gone.iter().fold(Request::get("/"), |request, prefix| {
                    (0..count).fold(request, |request, i| {
                        // Each name twice.
                        request.header(format!("{prefix}k{}", i / 2), "v")
                    })
                });
                let request = request.header("x-kept", "1").header("uberct-k", "1");
                let left = mesh.pass(&mut mesh.connect(listener), &request);
                for prefix in gone {
                    let left = names_with(&left, prefix);
                    assert_eq!(left, [""; 0], "{listener}, {count} on {version}");
                }
                assert!(left.header("x-kept").is_some() && left.header("uberct-k").is_some());
            }
        }
        for counter in [
            "trace_context.edits_dropped",
            "span_attributes.dropped",
            "host_errors",
        ] {
            let name = format!("wasmcustom.meshtrace.{counter}");
            assert_eq!(
                mesh.envoy.stat(&name).ok(),
                Some(0),
                "{counter} on {version}"
            );
        }
    });
    promises::held(
        "Headers and connections",
        "`clear` and `request_header_prefix` remove a whole family of headers, whatever their number.",
        "1 to 600 lines of uberctx-*, ot-baggage-* and the prefix, max_headers_count 2000, alone and in mesh_tracing.",
        "0 lines left, 4 versions",
    );
}

/// Both writers of `baggage`: attributes, and the baggage of other formats.
#[test]
fn both_writers_of_baggage_are_in_one_clean_list() {
    let attributes = r#"{"attributes": [{"key": "user.id", "from": {"header": "x-user-id"}},
        {"key": "plan", "from": {"literal": "gold"}}], "emit": {"baggage": true}}"#;
    let context = r#"{"baggage_from": ["jaeger", "ottrace"], "overrides": [{"host": "third.example", "clear": ["baggage"]}]}"#;
    let in_one = |report: &str| {
        let config =
            format!(r#"{{"trace_context": {context}, "span_attributes": {attributes}{report}}}"#);
        roomy(vec![filter("mesh_tracing", &config)])
    };
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let (one, other) = (
            || filter("span_attributes", attributes),
            || trace_context(context),
        );
        let mesh = start(
            envoy,
            vec![
                ("one after the other", roomy(vec![one(), other()])),
                ("mesh", in_one(r#", "report": {"cluster": "collector"}"#)),
                ("without a span", in_one("")),
                ("the other way", roomy(vec![other(), one()])),
            ],
        );
        for listener in [
            "one after the other",
            "mesh",
            "without a span",
            "the other way",
        ] {
            let sent = [
                ("baggage", "a=1,"),
                ("baggage", ",junk, user.id=mallory;p=1,=x,b = 2 ;p"),
                ("uberctx-k", "v w"),
                ("uberctx-plan", "iron"),
                ("ot-baggage-l", "1"),
                ("x-user-id", "alice"),
            ];
            let left = mesh.pass(&mut mesh.connect(listener), &get(&sent));
            let baggage: Vec<_> = left.header_values("baggage");
            let expected = match listener {
                // What was joined before is what came.
                "the other way" => "a=1,b = 2 ;p,k=v%20w,l=1,user.id=alice,plan=gold",
                _ => "a=1,b = 2 ;p,user.id=alice,plan=gold,k=v%20w,l=1",
            };
            assert_eq!(baggage, [expected.as_bytes()], "{listener} on {version}");

            let third = [&[("host", "third.example")][..], &sent].concat();
            let left = mesh.pass(&mut mesh.connect(listener), &get(&third));
            let baggage = left.header_values("baggage");
            match listener {
                "the other way" => assert_eq!(baggage, [b"user.id=alice,plan=gold"], "{version}"),
                _ => assert_eq!(baggage, [b""; 0], "{listener} on {version}"),
            }
        }
        // Nothing to join, nothing to write: what came stays to the letter.
        let left = mesh.pass(
            &mut mesh.connect("the other way"),
            &get(&[("host", "third.example"), ("x-user-id", "")]),
        );
        assert_eq!(left.header_values("baggage"), [b"plan=gold"], "{version}");
    });
    promises::held(
        "Headers and connections",
        "`baggage` has one writer a request: the members of the caller, of `emit.baggage` and of `baggage_from` are in \
         one list, without empty members and members without a key.",
        "Both in one mesh_tracing with and without report, and as two filters in either order; a destination that \
         clears baggage gets none.",
        "1 line, 6 of 6 members, 4 versions",
    );
}

#[test]
fn a_baggage_without_room_takes_nothing_more_and_loses_nothing() {
    let config = r#"{"trace_context": {"baggage_from": ["jaeger"]}, "span_attributes": {"attributes":
        [{"key": "plan", "from": {"literal": "gold"}}], "emit": {"baggage": true}}}"#;
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let mesh = start(
        &envoy,
        vec![("mesh", roomy(vec![filter("mesh_tracing", config)]))],
    );
    let members = |count: usize| {
        (0..count)
            .map(|i| format!("k{i}=v"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let long = |length: usize| format!("k={}", "x".repeat(length - 2));
    for (came, left) in [
        (members(62), format!("{},plan=gold,user=1", members(62))),
        (members(63), format!("{},plan=gold", members(63))),
        (members(64), members(64)),
        (members(70), members(70)),
        (
            long(8192 - 17),
            format!("{},plan=gold,user=1", long(8192 - 17)),
        ),
        (long(8192 - 16), format!("{},plan=gold", long(8192 - 16))),
        // Nothing is joined behind an attribute that had no room: it could be a client's value of
        // it.
        (long(8192 - 9), long(8192 - 9)),
        (long(8192), long(8192)),
        (long(8193), long(8193)),
    ] {
        let sent = [("baggage", came.as_str()), ("uberctx-user", "1")];
        let passed = mesh.pass(&mut mesh.connect("mesh"), &get(&sent));
        let baggage = passed.header_text("baggage").expect("baggage");
        assert!(baggage == left, "{} bytes: {baggage}", came.len());
    }
    for (counter, requests) in [
        ("span_attributes.baggage_full", 5),
        ("trace_context.baggage.full", 7),
    ] {
        let name = format!("wasmcustom.meshtrace.{counter}");
        let counted = mesh.envoy.stat(&name).expect("a statistic");
        assert_eq!(counted, requests, "{counter}");
    }
}

#[test]
fn a_request_is_one_guess_of_the_secret() {
    let config =
        r#"{"default": "never", "force": {"header": "x-force", "value_env": "FORCE_KEY"}}"#;
    let in_mesh = format!(r#"{{"sampling": {config}, "report": {{"cluster": "collector"}}}}"#);
    let in_mesh = in_mesh.as_str();
    let mut figure = String::new();
    for (name, config) in [("route_sampling", config), ("mesh_tracing", in_mesh)] {
        let envoy = EnvoyBinary::find().expect("an Envoy");
        let mesh = start(&envoy, vec![("ingress", roomy(vec![filter(name, config)]))]);
        let forced = |lines: &[&str]| {
            let stat = |outcome: &str| {
                let name = format!("wasmcustom.meshtrace.route_sampling.force.{outcome}");
                mesh.envoy.stat(&name).expect("a statistic")
            };
            let before = (stat("sampled"), stat("refused"));
            let request = lines.iter().fold(Request::get("/"), |request, line| {
                request.header("x-force", line)
            });
            let left = mesh.pass(&mut mesh.connect("ingress"), &request);
            assert_eq!(left.header_values("x-force"), [b""; 0], "{name}: {lines:?}");
            (stat("sampled") - before.0, stat("refused") - before.1)
        };
        let mut guesses: Vec<_> = (0..900).map(|i| format!("guess{i}")).collect();
        guesses.push("hunter2".to_owned());
        let guesses: Vec<_> = guesses.iter().map(String::as_str).collect();
        let requests: [(&[&str], (u64, u64)); 5] = [
            (&["hunter2"], (1, 0)),
            (&["hunter3"], (0, 1)),
            (&guesses, (0, 1)),
            (&["hunter2", "hunter2"], (0, 1)),
            (&["hunter2,hunter3"], (0, 1)),
        ];
        let mut counted = (0, 0);
        for (lines, expected) in requests {
            let seen = forced(lines);
            assert_eq!(seen, expected, "{name}: {} lines", lines.len());
            counted = (counted.0 + seen.0, counted.1 + seen.1);
        }
        let (sampled, refused) = counted;
        figure = format!(
            "{sampled} of {} forced, {refused} refusals counted",
            requests.len()
        );
    }
    promises::held(
        "Headers and connections",
        "A request with the header of `force` is one guess of the secret, and the header goes no further.",
        "901 lines with the right value among them, two right ones, one right one; route_sampling and mesh_tracing.",
        &figure,
    );
}

/// What SECURITY.md says of malformed headers.
#[test]
fn what_is_malformed_is_dropped_by_whom_the_page_says() {
    let sent = [
        ("traceparent", "00-what"),
        ("b3", "not-b3-at-all"),
        ("x-b3-traceid", "zz"),
        ("baggage", "a=1,,junk,=x"),
    ];
    let names = ["traceparent", "b3", "x-b3-traceid"];
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let mesh = start(
            envoy,
            vec![
                ("context", roomy(vec![trace_context("")])),
                (
                    "sampling",
                    roomy(vec![filter("route_sampling", r#"{"default": "always"}"#)]),
                ),
                ("log", roomy(vec![access_log_trace("")])),
                ("attributes", roomy(vec![filter("span_attributes", "")])),
                (
                    "mesh",
                    roomy(vec![filter(
                        "mesh_tracing",
                        r#"{"trace_context": {}, "sampling": {}, "access_log": {}, "span_attributes": {}}"#,
                    )]),
                ),
                (
                    "joined",
                    roomy(vec![filter(
                        "mesh_tracing",
                        r#"{"trace_context": {"baggage_from": ["jaeger"]}, "report": {"cluster": "collector"}}"#,
                    )]),
                ),
            ],
        );
        for (listener, drops) in [
            ("context", true),
            ("mesh", true),
            ("joined", true),
            ("sampling", false),
            ("log", false),
            ("attributes", false),
        ] {
            let left = mesh.pass(&mut mesh.connect(listener), &get(&sent));
            for (name, value) in sent.iter().filter(|(name, _)| names.contains(name)) {
                let is_there = left.header(name) == Some(value.as_bytes());
                assert_eq!(is_there, !drops, "{listener}, {name} on {version}");
            }
            let baggage = left.header_text("baggage");
            assert_eq!(
                baggage.as_deref(),
                Some("a=1,,junk,=x"),
                "{listener} on {version}"
            );
        }
        let joined = [&sent[..], &[("uberctx-k", "v")]].concat();
        let left = mesh.pass(&mut mesh.connect("joined"), &get(&joined));
        assert_eq!(left.header_values("baggage"), [b"a=1,k=v"], "{version}");
        let counted = "wasmcustom.meshtrace.trace_context.baggage.malformed";
        assert_eq!(mesh.envoy.stat(counted).ok(), Some(1), "{version}");
    });
}

/// A refusal tells the path and not what may be a secret; the filter then changes nothing.
#[test]
fn no_refusal_repeats_what_may_be_a_secret() {
    let report = |rest: &str| format!(r#"{{"report": {{"cluster": "collector", {rest}}}}}"#);
    let cases = [
        ("mesh_tracing", report(r#""headers": "authorization=Bearer hunter2""#), "report.headers: "),
        ("mesh_tracing", report(r#""headers": ["authorization", "hunter2"]"#), "report.headers: "),
        ("mesh_tracing", report(r#""headers": {"authorization": ["hunter2"]}"#), "report.headers."),
        ("mesh_tracing", report(r#""headers": {"authorization: hunter2": ""}"#), "report.headers: "),
        ("mesh_tracing", report(r#""headers": {"authorization": "hunter2\n"}"#), "report.headers.authorization: "),
        ("route_sampling", r#"{"force": "hunter2"}"#.to_owned(), "force: "),
        ("route_sampling", r#"{"force": {"header": "x", "value_env": "hunter2="}}"#.to_owned(), "force.value_env: "),
        ("route_sampling", r#"{"force": {"header": ["hunter2"], "value_env": "A"}}"#.to_owned(), "force.header: "),
        (
            "span_attributes",
            r#"{"attributes": [{"key": "a", "from": {"header": "x"}, "transform": [{"hmac_sha256": "hunter2"}]}]}"#
                .to_owned(),
            "attributes[0].transform[0].hmac_sha256: ",
        ),
    ];
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let plugins: Vec<_> = (0..cases.len()).map(|i| format!("plugin-{i}")).collect();
    let managers = cases
        .iter()
        .zip(&plugins)
        .map(|((name, config, _), plugin)| {
            let filter = WasmFilter::new(plugin, module(name)).configuration(config.as_str());
            (plugin.as_str(), roomy(vec![filter]))
        });
    let mesh = start(&envoy, managers.collect());
    for ((name, config, path), plugin) in cases.iter().zip(&plugins) {
        let line = mesh.envoy.wait_for_log(&format!("{name}.{path}"));
        assert!(line.is_ok(), "{config}");
        mesh.pass(&mut mesh.connect(plugin), &get(&[]));
    }
    let log = mesh.envoy.log().expect("the log");
    let line = log.lines().find(|line| line.contains("hunter2"));
    assert_eq!(line, None);
    promises::held(
        "Configuration",
        "A refusal does not repeat what may be a secret.",
        "report.headers, force and hmac_sha256 of wrong types and with the secret in the wrong place, in Envoy's log.",
        &format!("{0} of {0} refusals without it", cases.len()),
    );
}

/// Neither a client's value, nor the environment's, nor a text of the configuration.
#[test]
fn no_control_character_reaches_a_header_or_filter_state() {
    let config = r#"{"attributes": [
        {"key": "query", "from": {"query": "a"}},
        {"key": "cut", "from": {"query": "a"}, "transform": [{"truncate": 4}]},
        {"key": "group", "from": {"query": "a"}, "transform": [{"replace": {"pattern": "(.*)y", "with": "$1-"}}]},
        {"key": "path", "from": {"path": "/{id}", "capture": "id"}},
        {"key": "claim", "from": {"jwt_claim": {"claim": "sub"}}},
        {"key": "env", "from": {"env": "CONTROLS"}}
    ], "emit": {"request_header_prefix": "x-p-", "baggage": true}}"#;
    let keys = ["query", "cut", "group", "path", "claim", "env"];
    let expected = [
        "x\u{fffd}\u{fffd}y\u{fffd}",
        "x\u{fffd}",
        "x\u{fffd}\u{fffd}-\u{fffd}",
        "\u{fffd}p",
        "\u{fffd}s",
        "e\u{fffd}",
    ];
    let with = |text: &str| {
        format!(r#"{{"attributes": [{{"key": "a", "from": {{"query": "a"}}, {text}}}]}}"#)
    };
    let refused = [
        (
            with(r#""transform": [{"replace": {"pattern": "/", "with": "\r\nx: y"}}]"#),
            "replace.with",
        ),
        (
            with(r#""transform": [{"replace": {"pattern": "/", "with": "\u0085"}}]"#),
            "replace.with",
        ),
        (with(r#""transform": [{"allow": ["a\u0000"]}]"#), "allow[0]"),
        (with(r#""default": "a\u007f""#), "default"),
        (
            r#"{"attributes": [{"key": "a", "from": {"literal": "a\tb"}}]}"#.to_owned(),
            "literal",
        ),
    ];
    let plugins: Vec<_> = (0..refused.len()).map(|i| format!("plugin-{i}")).collect();
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let states = keys.map(|key| {
            (
                key.to_owned(),
                json!(format!("%FILTER_STATE(wasm.{key}:PLAIN)%")),
            )
        });
        let states = serde_json::Map::from_iter(states);
        let filter = filter("span_attributes", config).env("CONTROLS", "e\n");
        let mut managers = vec![("ingress", roomy(vec![filter]).access_log(states.into()))];
        for ((config, _), plugin) in refused.iter().zip(&plugins) {
            let filter =
                WasmFilter::new(plugin, module("span_attributes")).configuration(config.as_str());
            managers.push((plugin, roomy(vec![filter])));
        }
        let mesh = start(envoy, managers);
        // {"sub": "\u0001s"}
        let token = "Bearer e30.eyJzdWIiOiAiXHUwMDAxcyJ9.";
        let request = Request::get("/%0Ap?a=x%0d%0ay%00").header("authorization", token);
        let left = mesh.pass(&mut mesh.connect("ingress"), &request);
        let lines = mesh
            .envoy
            .access_log("ingress")
            .wait_for_lines(1)
            .expect("a line");
        for (key, expected) in keys.iter().zip(expected) {
            let header = left.header_text(&format!("x-p-{key}"));
            assert_eq!(header.as_deref(), Some(expected), "{key} on {version}");
            assert_eq!(lines[0][*key], json!(expected), "{key} on {version}");
        }
        for ((config, key), plugin) in refused.iter().zip(&plugins) {
            let line = mesh.envoy.wait_for_log(&format!("{key}: "));
            assert!(line.is_ok(), "{config} on {version}");
            // It is inert.
            mesh.pass(&mut mesh.connect(plugin), &request);
        }
    });
    promises::held(
        "Headers and connections",
        "No control character of a value reaches a header or filter state, and texts of the configuration with one are \
         refused.",
        "CR LF, NUL and others in the query, the path, a claim and the environment, after transformations; with, allow, \
         default and literal.",
        &format!(
            "{0} of {0} values, {1} of {1} refusals, {2} versions",
            keys.len(),
            refused.len(),
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}
