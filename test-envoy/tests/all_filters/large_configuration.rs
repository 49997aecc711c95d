//! A configuration may be as large as Envoy hands over. What a filter has no room for is refused with
//! its key, and never ends the VM: Envoy would not start, and would hold back other changes.

use std::thread;
use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Cluster, HttpFilter, WasmFilter};
use envoy_test_harness::{Envoy, EnvoyBinary, Upstream, each_supported};
use meshtrace_test_support::common::{deny, get, listener, module, newest};
use meshtrace_test_support::promises;

const INVALID: &str = "wasmcustom.meshtrace.config_invalid";
/// As much as a server over gRPC sends by default.
const SIZE: usize = 4_000_000;

/// About 460 steps, each with the places of 115 groups.
fn long_pattern() -> String {
    format!("({}.){{2}}", "()".repeat(113))
}

/// So many times `item`, with commas between.
fn list(item: &str, count: usize) -> String {
    vec![item; count].join(",")
}

/// As many as have room.
fn full(item: impl Fn(usize) -> String) -> String {
    let mut items = item(0);
    for i in 1.. {
        if items.len() > SIZE {
            break;
        }
        items.push(',');
        items.push_str(&item(i));
    }
    items
}

fn attribute(transform: &str) -> String {
    format!(
        r#"{{"attributes": [{{"key": "a", "from": {{"query": "a"}}, "transform": [{transform}]}}]}}"#
    )
}

fn replace(pattern: &str, with: &str) -> String {
    format!(r#"{{"replace": {{"pattern": "{pattern}", "with": "{with}"}}}}"#)
}

fn rules(rule: impl Fn(usize) -> String) -> String {
    let rules: Vec<_> = (0..4096)
        .map(|i| format!(r#"{{"match": {}, "sample": "never"}}"#, rule(i)))
        .collect();
    format!(r#"{{"rules": [{}]}}"#, rules.join(","))
}

/// With `expected` it is refused, and the line has this text.
struct Tried {
    filter: &'static str,
    json: String,
    expected: Option<&'static str>,
}

fn tried(filter: &'static str, json: String, expected: Option<&'static str>) -> Tried {
    Tried {
        filter,
        json,
        expected,
    }
}

/// What traps a VM by the sum of what each part reserves.
fn patterns() -> Vec<Tried> {
    let all = |attributes: usize, each: usize| {
        let transform = list(&replace(&long_pattern(), "x"), each);
        let attributes: Vec<_> = (0..attributes)
            .map(|i| {
                format!(
                    r#"{{"key": "k{i}", "from": {{"query": "a"}}, "transform": [{transform}]}}"#
                )
            })
            .collect();
        format!(r#"{{"attributes": [{}]}}"#, attributes.join(","))
    };
    vec![
        tried(
            "span_attributes",
            all(1, 1300),
            Some("attributes[0].transform[64]: one more transformation, expected at most 64"),
        ),
        tried(
            "span_attributes",
            all(32, 40),
            Some("attributes[1].transform[3].replace.pattern: the patterns of all attributes are"),
        ),
        tried("span_attributes", all(21, 2), None),
    ]
}

/// One of each kind of list and text.
fn others() -> Vec<Tried> {
    let text = "x".repeat(SIZE);
    let report = |rest: &str| format!(r#"{{"report": {{"cluster": "upstream", {rest}}}}}"#);
    vec![
        tried(
            "span_attributes",
            attribute(&full(|_| r#""trim""#.to_owned())),
            Some("attributes[0].transform: more than 32768 items"),
        ),
        tried(
            "span_attributes",
            attribute(&replace("(a)", &"$1".repeat(SIZE / 2))),
            Some("replace.with: 4000000 bytes, expected at most 1024"),
        ),
        tried(
            "span_attributes",
            attribute(&format!(
                r#"{{"allow": [{}]}}"#,
                full(|_| "\"\"".to_owned())
            )),
            Some("allow: more than 32768 items"),
        ),
        tried(
            "span_attributes",
            attribute(&format!(r#"{{"allow": ["{text}"]}}"#)),
            None,
        ),
        tried(
            "span_attributes",
            format!(r#"{{"attributes": [{}]}}"#, full(|_| "{}".to_owned())),
            Some("missing field `key`"),
        ),
        tried(
            "route_sampling",
            format!(
                r#"{{"rules": [{}]}}"#,
                full(|_| r#"{"sample": "never"}"#.to_owned())
            ),
            Some("rules: more than 32768 items"),
        ),
        tried(
            "route_sampling",
            format!(r#"{{"rules": [{}]}}"#, full(|_| "1".to_owned())),
            Some("rules[0]: invalid type: integer `1`, expected an object"),
        ),
        tried(
            "route_sampling",
            rules(|i| match i {
                0 => format!(r#"{{"methods": [{}]}}"#, full(|i| format!("\"M{i}\""))),
                _ => "{}".to_owned(),
            }),
            Some("rules[0].match.methods: "),
        ),
        tried(
            "route_sampling",
            rules(|i| {
                let name = "a".repeat(900);
                format!(r#"{{"headers": [{{"name": "x", "exact": "{name}{i}"}}]}}"#)
            }),
            None,
        ),
        tried(
            "route_sampling",
            rules(|i| {
                format!(
                    r#"{{"headers": [{{"name": "x", "prefix": "{}"}}]}}"#,
                    "a".repeat(i / 3 + 1)
                )
            }),
            None,
        ),
        tried(
            "route_sampling",
            rules(|i| format!(r#"{{"host": "*.h{i}{}"}}"#, ".a".repeat(100))),
            None,
        ),
        tried(
            "route_sampling",
            rules(|i| format!(r#"{{"cluster": {{"prefix": "{}{i}"}}}}"#, "c".repeat(900))),
            None,
        ),
        tried(
            "route_sampling",
            rules(|i| format!(r#"{{"path": {{"exact": "/{i}{}"}}}}"#, "/a".repeat(400))),
            Some("more than 65536 segments together"),
        ),
        tried(
            "mesh_tracing",
            report(&format!(
                r#""headers": {{{}}}"#,
                full(|i| format!("\"x-{i}\": \"a\""))
            )),
            Some("report.headers: too many headers"),
        ),
        tried(
            "mesh_tracing",
            report(&format!(r#""headers": {{"x-a": "{text}"}}"#)),
            Some("report.headers: too large"),
        ),
        tried(
            "mesh_tracing",
            report(&format!(
                r#""resource": {{{}}}"#,
                full(|i| format!("\"k{i}\": 1"))
            )),
            Some("report.resource: too large"),
        ),
        tried(
            "trace_context",
            format!(r#"{{"clear": [{}]}}"#, full(|i| format!("\"x-{i}\""))),
            Some("clear"),
        ),
        tried(
            "trace_context",
            format!(r#"{{"extract": [{}]}}"#, full(|_| "\"b3\"".to_owned())),
            Some("extract"),
        ),
        tried(
            "access_log_trace",
            format!(r#"{{{}}}"#, full(|i| format!("\"k{i}\": 1"))),
            Some("unknown field"),
        ),
    ]
}

fn status(envoy: &Envoy, name: &str) -> u16 {
    let address = envoy.address(name).expect("its address");
    let mut connection =
        envoy_test_harness::client::Connection::open(address).expect("a connection");
    connection.send(&get(&[])).expect("a response").status
}

/// Two plugins with it from the start in one VM, and a third one with old and new in turn. Then a
/// rule that denies access comes into force.
fn holds(binary: &EnvoyBinary, one: &Tried) {
    let at = format!(
        "{} {} {:.60}",
        binary.reported_version(),
        one.filter,
        one.json
    );
    let plugin = |name: &str, more: usize| {
        WasmFilter::new(name, module(one.filter)).configuration(format!(
            "{}{}",
            one.json,
            " ".repeat(more)
        ))
    };
    let upstream = Upstream::start().expect("an upstream");
    let ingress = |more: Vec<HttpFilter>| {
        listener(
            "ingress",
            [more, vec![plugin("updated", 0).discovered()]].concat(),
        )
    };
    let bootstrap = Bootstrap::new()
        .listener(listener(
            "others",
            vec![plugin("one", 0).into(), plugin("other", 1).into()],
        ))
        .watched_listener(ingress(vec![]))
        .cluster(Cluster::http1("upstream", upstream.address()));
    let envoy = Envoy::start(binary, bootstrap).expect(&at);
    let invalid = u64::from(one.expected.is_some());
    for more in 2..4 {
        let update = envoy.update_extension(plugin("updated", more));
        update.expect(&at);
        for name in ["ingress", "others"] {
            assert_eq!(status(&envoy, name), 200, "{at}");
        }
        let gauge = envoy.wait_for_stat(INVALID, |value| value == invalid);
        assert_eq!(gauge.ok(), Some(invalid), "{at}");
    }
    envoy.update_listener(ingress(vec![deny()])).expect(&at);
    assert_eq!(status(&envoy, "ingress"), 403, "{at}");
    let log = envoy.log().expect("the log");
    assert!(!log.contains("proxy_on_configure failed"), "{at}: {log}");
    if let Some(expected) = one.expected {
        assert!(log.contains(expected), "{at}: no {expected}");
    }
}

#[test]
fn no_configuration_that_envoy_hands_over_ends_a_vm() {
    each_supported(|envoy| {
        for one in patterns() {
            holds(envoy, &one);
        }
    });
    let others = others();
    for one in &others {
        holds(&newest(), one);
    }
    promises::held(
        "Configuration",
        "What a configuration has too much of is refused with its key, and never ends the VM",
        "1,300 patterns of 457 steps and 115 groups, 4 MB in each list and text; two plugins in one VM, old and new in \
         turn over ECDS, then a DENY rule over LDS",
        &format!(
            "{} configurations on 4 versions and {} on the newest: Envoy starts, every request is answered, the rule \
             answers 403",
            patterns().len(),
            others.len()
        ),
    );
}

/// Each match but the last looks at all that follows it, in each of 32 attributes.
#[test]
fn one_request_holds_no_worker_with_its_replacements() {
    let pattern = format!("(?:(?:.?){{60}}{}.*X)|a", "()".repeat(60));
    let attributes: Vec<_> = (0..32)
        .map(|i| {
            let transform = replace(&pattern, "b");
            format!(r#"{{"key": "k{i}", "from": {{"query": "a"}}, "transform": [{transform}]}}"#)
        })
        .collect();
    let config = format!(r#"{{"attributes": [{}]}}"#, attributes.join(","));
    const DROPPED: &str = "wasmcustom.meshtrace.span_attributes.dropped";
    const FOUND: &str = "wasmcustom.meshtrace.span_attributes.found";
    let mut answered = 0;
    each_supported(|envoy| {
        let at = envoy.reported_version();
        let upstream = Upstream::start().expect("an upstream");
        let filter = WasmFilter::new("f", module("span_attributes")).configuration(&*config);
        let bootstrap = Bootstrap::new()
            .listener(listener("ingress", vec![filter.into()]))
            .cluster(Cluster::http1("upstream", upstream.address()));
        let envoy = Envoy::start(envoy, bootstrap).expect("an Envoy that starts");
        let address = envoy.address("ingress").expect("its address");
        let mut connection =
            envoy_test_harness::client::Connection::open(address).expect("a connection");
        let mut send = |path: &str| {
            let status = connection.send(&Request::get(path)).expect("a response");
            assert_eq!(status.status, 200, "{at}");
        };
        for time in 1..=10 {
            send(&format!("/?a={}", "a".repeat(256)));
            let dropped = envoy.wait_for_stat(DROPPED, |value| value == time);
            assert_eq!(dropped.ok(), Some(time), "{at}");
            answered += 1;
        }
        // The next request has all of the work again.
        assert_eq!(envoy.stat(FOUND).unwrap_or_default(), 0, "{at}");
        send("/?a=aXa");
        let found = envoy.wait_for_stat(FOUND, |value| value == 1);
        assert_eq!(found.ok(), Some(1), "{at}");
        thread::sleep(Duration::from_millis(50));
        assert_eq!(envoy.stat(DROPPED).ok(), Some(10), "{at}");
    });
    promises::held(
        "Hostile requests",
        "A replacement has a bound on its work, and a value that takes more is left out and counted",
        "32 attributes whose pattern looks at the whole rest of 256 bytes at each of 256 matches",
        &format!(
            "{answered} of {answered} requests answered, none with a value, each counted in dropped; 4 versions"
        ),
    );
}
