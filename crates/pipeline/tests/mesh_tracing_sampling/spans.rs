//! What is exported, and of which requests.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::traced::{Filter, KEPT, LOST, Lines, config, parent};

#[test]
fn a_never_rule_wins_over_keep_whoever_has_decided() {
    let rules = r#"{"rules": [
        {"match": {"path": {"exact": "/health"}}, "sample": "never"},
        {"match": {"path": {"exact": "/zero"}}, "sample": {"ratio": 0}},
        {"match": {"path": {"exact": "/tiny"}}, "sample": {"ratio": 0.000001}}
    ], "default": "never"}"#;
    for report in ["", r#", "keep": {"errors": false, "slower_than_ms": 1}"#] {
        let mut filter = Filter::new(&config(rules, report));
        filter.host.code = 503;
        for traceparent in [None, Some(parent(LOST, "00"))] {
            for (path, kept) in [("/health", 0), ("/zero", 0), ("/tiny", 1), ("/", 1)] {
                let traceparent = traceparent.as_deref();
                let lines = traceparent.map(|value| ("traceparent", value));
                let lines: Vec<_> = lines.into_iter().chain([(":path", path)]).collect();
                let left = filter.run(&lines);
                let what = format!("{report} {lines:?}");
                assert!(!left.traceparent().0, "{what}");
                assert_eq!(left.spans.len(), kept, "{what}");
            }
        }
        // Who decided to record is believed.
        let sampled = parent(LOST, "01");
        let left = filter.run(&[(":path", "/health"), ("traceparent", &sampled)]);
        assert_eq!(left.spans.len(), 1);
    }
}

#[test]
fn what_keep_reports_claims_no_probability() {
    let mut filter = Filter::sampling(r#"{"default": {"ratio": 0.5}}"#);
    filter.host.code = 500;
    for (flags, state) in [("00", "ot=th:8,a=1"), ("00", "a=1")] {
        let traceparent = parent(LOST, flags);
        let left = filter.run(&[("traceparent", &traceparent), ("tracestate", state)]);
        assert_eq!(left.tracestate(), state, "the head decision stands");
        let [span] = left.spans.as_slice() else {
            panic!("{left:?}");
        };
        assert_eq!((span.flags & 1, span.trace_state.as_str()), (0, ""));
        assert_eq!(left.attribute("meshtrace.kept").as_deref(), Some("error"));
    }
}

#[test]
fn what_no_callback_saw_is_decided_by_the_same_rules() {
    let rules = r#"{"rules": [
        {"name": "a", "match": {"route": "checkout"}, "sample": "always"},
        {"name": "b", "match": {"cluster": "ledger"}, "sample": "always"},
        {"name": "c", "match": {"path": {"template": "/users/{id}"}}, "sample": "always"},
        {"name": "d", "match": {"path": {"prefix": "/rate"}}, "sample": {"per_second": 1}},
        {"name": "e", "match": {"path": {"exact": "/health"}}, "sample": "never"}
    ], "default": {"ratio": 0.000001}, "parent": "respect_sampled",
       "force": {"header": "x-force", "value_env": "KEY"}}"#;
    let mut filter = Filter::sampling(rules);
    let case = |path: &str, more: &[(&str, &str)]| -> Lines {
        let lines = [(":path", path), (":method", "GET")];
        let lines = lines.iter().chain(more);
        lines
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect()
    };
    let sampled = parent(LOST, "01");
    let dropped = parent(LOST, "00");
    for (lines, route, cluster, configured, spans, state) in [
        (
            case("/", &[]),
            Some("checkout"),
            None,
            &["rule.a.sampled"][..],
            1,
            "ot=th:0",
        ),
        (
            case("/", &[]),
            None,
            Some("ledger"),
            &["rule.b.sampled"],
            1,
            "ot=th:0",
        ),
        (
            case("/users/7", &[]),
            None,
            None,
            &["rule.c.sampled"],
            1,
            "ot=th:0",
        ),
        (case("/rate", &[]), None, None, &["rule.d.sampled"], 1, ""),
        (case("/rate", &[]), None, None, &["rule.d.dropped"], 0, ""),
        (case("/health", &[]), None, None, &["rule.e.dropped"], 0, ""),
        (
            case("/health", &[("x-force", "hunter2")]),
            None,
            None,
            &[],
            1,
            "",
        ),
        (
            case("/health", &[("traceparent", &sampled)]),
            None,
            None,
            &[],
            1,
            "",
        ),
        (
            case("/", &[("traceparent", &dropped)]),
            Some("checkout"),
            None,
            &["rule.a.sampled"],
            1,
            "ot=th:0",
        ),
    ] {
        filter.host.route = route;
        filter.host.cluster = cluster;
        let left = filter.run_bytes(&lines, false);
        let what = format!("{lines:?} {route:?} {cluster:?}");
        assert_eq!(left.configured, configured, "{what}");
        assert_eq!(left.spans.len(), spans, "{what}");
        for span in &left.spans {
            assert_eq!(span.trace_state, state, "{what}");
        }
        let seen = filter.run_bytes(&lines, true);
        if !configured.contains(&"rule.d.sampled") {
            assert_eq!(seen.configured, left.configured, "{what}");
            assert_eq!(seen.spans.len(), spans, "{what}");
        }
    }
    filter.host.route = None;
    let left = filter.run_bytes(&case("/users/7", &[]), false);
    assert_eq!(left.spans[0].name, "GET /users/{id}");
}

#[test]
fn rules_and_attributes_each_get_the_properties_that_they_asked_for() {
    let stages = r#""span_attributes": {"attributes": [
            {"key": "cluster", "from": {"property": ["xds", "cluster_name"]}}]},
        "sampling": {"rules": [{"name": "route", "match": {"route": "checkout"}, "sample": "always"}],
            "default": "never"}"#;
    for (report, seen) in [
        (r#", "report": {"cluster": "c"}"#, true),
        (r#", "report": {"cluster": "c"}"#, false),
        ("", true),
    ] {
        let mut filter = Filter::new(&format!("{{{stages}{report}}}"));
        filter.host.cluster = Some("upstream");
        for (route, counted) in [
            (Some("checkout"), "rule.route.sampled"),
            (Some("upstream"), "default.dropped"),
            (None, "default.dropped"),
        ] {
            filter.host.route = route;
            let left = filter.run_bytes(&Vec::new(), seen);
            assert_eq!(left.configured, [counted], "{report} {seen} {route:?}");
            if let Some(span) = left.spans.first() {
                assert_eq!(span.trace_state, "ot=th:0");
                assert_eq!(left.attribute("cluster").as_deref(), Some("upstream"));
            }
            let reports = !report.is_empty() && route == Some("checkout");
            assert_eq!(left.spans.len(), usize::from(reports), "{route:?}");
        }
    }
}

#[test]
fn the_route_is_the_template_that_fits() {
    let stages = |role: &str| {
        format!(
            r#"{{"sampling": {{"rules": [
                {{"match": {{"path": {{"template": "/users/{{id}}"}}, "methods": ["GET"]}}, "sample": "never"}},
                {{"match": {{"path": {{"prefix": "/users"}}}}, "sample": "unchanged"}},
                {{"match": {{"path": {{"template": "/carts/{{cart}}"}}}}, "sample": "unchanged"}}
            ]}},
            "span_attributes": {{"attributes": [
                {{"key": "user", "from": {{"path": "/users/{{user}}/**", "capture": "user"}}}},
                {{"key": "item", "from": {{"path": "/carts/{{cart}}/items/{{item}}", "capture": "item"}}}}
            ]}},
            "report": {{"cluster": "c", "role": "{role}"}}}}"#
        )
    };
    for (role, key) in [("server", "http.route"), ("client", "url.template")] {
        let mut filter = Filter::new(&stages(role));
        for (method, path, route) in [
            ("GET", "/users/7?q=1", Some("/users/{id}")),
            ("POST", "/users/7", Some("/users/{user}/**")),
            ("GET", "/users/7/orders", Some("/users/{user}/**")),
            ("PUT", "/carts/1", Some("/carts/{cart}")),
            (
                "GET",
                "/carts/1/items/2",
                Some("/carts/{cart}/items/{item}"),
            ),
            ("GET", "/carts/1/items", None),
            ("GET", "/", None),
        ] {
            // Sampled, and kept although it is not; but for what the first rule says.
            for (flags, code) in [("01", 200), ("00", 503)] {
                filter.host.code = code;
                let traceparent = parent(LOST, flags);
                let lines = [
                    (":method", method),
                    (":path", path),
                    ("traceparent", &traceparent),
                ];
                let left = filter.run(&lines);
                let what = format!("{role} {method} {path} {flags}");
                if flags == "00" && route == Some("/users/{id}") {
                    assert!(left.spans.is_empty(), "{what}");
                    continue;
                }
                let name = route.map_or(method.to_owned(), |route| format!("{method} {route}"));
                assert_eq!(left.spans[0].name, name, "{what}");
                assert_eq!(left.attribute(key).as_deref(), route, "{what}");
                let other = if key == "http.route" {
                    "url.template"
                } else {
                    "http.route"
                };
                assert_eq!(left.attribute(other), None, "{what}");
            }
        }
    }
    let mut filter = Filter::new(&stages("gateway"));
    let traceparent = parent(LOST, "01");
    let lines = [
        (":method", "PUT"),
        (":path", "/carts/1"),
        ("traceparent", &traceparent),
    ];
    let left = filter.run(&lines);
    assert_eq!(left.spans.len(), 1, "no upstream was asked");
    assert_eq!(left.spans[0].kind(), SpanKind::Server);
    assert_eq!(
        left.attribute("http.route").as_deref(),
        Some("/carts/{cart}")
    );
}

#[test]
fn a_long_list_leaves_whole_and_is_exported_in_whole_members() {
    let mut filter = Filter::sampling(r#"{"parent": "ignore", "default": "always"}"#);
    let members: Vec<_> = (0..30)
        .map(|i| format!("m{i}={}", "x".repeat(30)))
        .collect();
    let traceparent = parent(KEPT, "01");
    let list = members.join(",");
    let left = filter.run(&[("traceparent", &traceparent), ("tracestate", &list)]);
    assert_eq!(left.tracestate(), format!("ot=th:0,{list}"));
    let exported = &left.spans[0].trace_state;
    assert!(exported.len() > 470 && exported.len() <= 512, "{exported}");
    assert!(
        left.tracestate().starts_with(&format!("{exported},")),
        "{exported}"
    );
}

#[test]
fn without_w3c_or_with_tracestate_cleared_nothing_is_written() {
    for context in [
        r#"{"inject": ["b3"], "extract": ["b3"]}"#,
        r#"{"inject": ["tracecontext"], "clear": ["tracestate"]}"#,
    ] {
        let mut filter = Filter::new(&format!(
            r#"{{"trace_context": {context}, "sampling": {{"default": "always"}}, "report": {{"cluster": "c"}}}}"#
        ));
        let left = filter.run(&[(":path", "/")]);
        assert_eq!(left.header("tracestate"), None, "{context}");
        assert_eq!(left.spans[0].trace_state, "ot=th:0", "{context}");
    }
}
