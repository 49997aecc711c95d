//! Which rule decides about which request.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

use meshtrace_headers::{Headers, encode};
use meshtrace_sampling::{Forcing, RequestView, RuleSampler, SamplingConfig};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn sampling(config: &str) -> RuleSampler {
    let config: SamplingConfig =
        meshtrace_config::read(config.as_bytes()).unwrap_or_else(|e| panic!("{config}: {e}"));
    RuleSampler::new(&config, &|_| None).unwrap_or_else(|e| panic!("{e}"))
}

/// A rule for each of `matches`, named by its place.
fn rules(matches: &[&str]) -> RuleSampler {
    let rules: Vec<_> = matches
        .iter()
        .map(|matches| format!(r#"{{"match": {matches}, "sample": "always"}}"#))
        .collect();
    sampling(&format!(r#"{{"rules": [{}]}}"#, rules.join(",")))
}

/// Host and path of `//host/path`.
fn parts(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("//").expect("a host");
    let slash = rest.find('/').unwrap_or(rest.len());
    rest.split_at_checked(slash).expect("a place in it")
}

/// The name of the rule of a GET of `url` (`//host/path`) with these headers.
fn chosen(sampling: &RuleSampler, url: &str, headers: &[(&str, &str)]) -> Option<String> {
    let (host, path) = parts(url);
    let mut lines = vec![(":method", "GET"), (":authority", host)];
    if !path.is_empty() {
        lines.push((":path", path));
    }
    lines.extend(headers);
    let block = encode(&lines);
    let view = RequestView::of(Headers::parse(&block).expect("a block"));
    let chosen = sampling.choose(&view);
    sampling.name(chosen).map(str::to_owned)
}

#[track_caller]
fn check(matches: &str, fitting: &[&str], others: &[&str]) {
    let sampling = rules(&[matches]);
    for url in fitting {
        assert!(chosen(&sampling, url, &[]).is_some(), "{matches}: {url}");
    }
    for url in others {
        assert!(chosen(&sampling, url, &[]).is_none(), "{matches}: {url}");
    }
}

#[test]
fn a_path_is_exact_a_prefix_of_whole_segments_a_template_or_a_regex() {
    check(
        r#"{"path": {"exact": "/health"}}"#,
        &["//a/health", "//a/health?x=/y", "//a/health#f"],
        &[
            "//a/health/",
            "//a/healthy",
            "//a/Health",
            "//a/",
            "//a",
            "//a/x/health",
        ],
    );
    check(
        r#"{"path": {"prefix": "/api"}}"#,
        &["//a/api", "//a/api/", "//a/api/v1", "//a/api?q"],
        &["//a/apix", "//a/ap", "//a//api", "//a/API"],
    );
    check(
        r#"{"path": {"prefix": "/api/"}}"#,
        &["//a/api/v1", "//a/api"],
        &["//a/apix"],
    );
    check(
        r#"{"path": {"prefix": "/"}}"#,
        &["//a/", "//a/x", "//a//"],
        &["//a"],
    );
    check(
        r#"{"path": {"template": "/users/{id}/cart"}}"#,
        &["//a/users/7/cart", "//a/users/%20/cart?x"],
        &[
            "//a/users//cart",
            "//a/users/7",
            "//a/users/7/cart/",
            "//a/users/7/8/cart",
        ],
    );
    check(
        r#"{"path": {"template": "/*/{id}/**"}}"#,
        &["//a/x/7", "//a/x/7/", "//a/x/7/8/9?y"],
        &["//a/x", "//a/x/", "//a//7", "//a/"],
    );
    check(
        r#"{"path": {"template": "/**"}}"#,
        &["//a/", "//a/x/y"],
        &["//a"],
    );
    check(
        r#"{"path": {"regex": "/v[0-9]+/items|/other"}}"#,
        &["//a/v1/items", "//a/v23/items?x", "//a/other"],
        &[
            "//a/v1/items/2",
            "//a/x/v1/items",
            "//a/v/items",
            "//a/others",
        ],
    );
    check("{}", &["//a/", "//a", "//a/x?y"], &[]);
}

#[test]
fn a_host_has_no_port_and_no_case() {
    check(
        r#"{"host": "Shop.example"}"#,
        &[
            "//shop.example/",
            "//SHOP.EXAMPLE:8080/",
            "//shop.example./",
        ],
        &[
            "//www.shop.example/",
            "//shop.example.org/",
            "//xshop.example/",
        ],
    );
    check(
        r#"{"host": "*.example"}"#,
        &["//shop.example/", "//a.b.example:1/"],
        &["//example/", "//anexample/", "//example.shop/"],
    );
    check(
        r#"{"host": "[::1]"}"#,
        &["//[::1]/", "//[::1]:80/"],
        &["//[::2]/"],
    );
    check(r#"{"host": "*"}"#, &["//anything/"], &[]);
    let long = format!("//{}.example/", "x".repeat(300));
    check(r#"{"host": "*.example"}"#, &[], &[&long]);
}

#[test]
fn methods_routes_and_clusters_are_names() {
    let sampling = rules(&[
        r#"{"methods": ["POST", "PUT"]}"#,
        r#"{"route": "pay"}"#,
        r#"{"cluster": "ledger"}"#,
    ]);
    let with = |method: &str, route: Option<&str>, cluster: Option<&str>| {
        let view = RequestView {
            method: Some(method.as_bytes()),
            route: route.map(str::as_bytes),
            cluster: cluster.map(str::as_bytes),
            ..RequestView::default()
        };
        let chosen = sampling.choose(&view);
        sampling.name(chosen).map(str::to_owned)
    };
    assert_eq!(with("PUT", None, None).as_deref(), Some("0"));
    assert_eq!(with("GET", Some("pay"), None).as_deref(), Some("1"));
    assert_eq!(
        with("GET", Some("payment"), Some("ledger")).as_deref(),
        Some("2")
    );
    assert_eq!(with("put", None, None), None);
}

/// The first rule that fits, whichever of a name, its beginning and no cluster it asks for.
#[test]
fn a_cluster_is_a_name_or_the_beginning_of_one() {
    let sampling = rules(&[
        r#"{"cluster": "outbound|80|v2|pay.shop.svc", "methods": ["POST"]}"#,
        r#"{"cluster": {"prefix": "outbound|80|v2|pay"}, "methods": ["PUT"]}"#,
        r#"{"cluster": {"prefix": "outbound|80|v2|"}}"#,
        r#"{"cluster": {"exact": "ledger"}}"#,
        r#"{"methods": ["GET"]}"#,
    ]);
    let with = |method: &str, cluster: Option<&str>| {
        let view = RequestView {
            method: Some(method.as_bytes()),
            cluster: cluster.map(str::as_bytes),
            ..RequestView::default()
        };
        let chosen = sampling.choose(&view);
        sampling.name(chosen).map(str::to_owned)
    };
    for (method, cluster, rule) in [
        ("POST", Some("outbound|80|v2|pay.shop.svc"), Some("0")),
        ("PUT", Some("outbound|80|v2|pay.shop.svc"), Some("1")),
        ("PUT", Some("outbound|80|v2|payments"), Some("1")),
        ("POST", Some("outbound|80|v2|payments"), Some("2")),
        ("GET", Some("outbound|80|v2|"), Some("2")),
        ("GET", Some("outbound|80|v2"), Some("4")),
        ("GET", Some("outbound|80|v1|pay.shop.svc"), Some("4")),
        ("POST", Some("ledger"), Some("3")),
        ("POST", Some("ledger2"), None),
        ("GET", None, Some("4")),
        ("POST", None, None),
    ] {
        assert_eq!(
            with(method, cluster).as_deref(),
            rule,
            "{method} {cluster:?}"
        );
    }
}

#[test]
fn headers_are_all_asked_for_and_the_first_line_counts() {
    let sampling = rules(&[
        r#"{"headers": [{"name": "X-Tenant", "exact": "acme"}, {"name": "x-beta", "present": true}]}"#,
        r#"{"headers": [{"name": "x-tenant", "prefix": "ac"}]}"#,
        r#"{"headers": [{"name": "x-tenant", "prefix": "acme-"}]}"#,
        r#"{"headers": [{"name": "x-tenant", "present": true}]}"#,
    ]);
    let of = |headers: &[(&str, &str)]| chosen(&sampling, "//a/", headers);
    assert_eq!(
        of(&[("x-tenant", "acme"), ("x-beta", "")]).as_deref(),
        Some("0")
    );
    assert_eq!(of(&[("x-tenant", "acme")]).as_deref(), Some("1"));
    assert_eq!(of(&[("x-tenant", "acme-eu")]).as_deref(), Some("1"));
    assert_eq!(
        of(&[("x-tenant", "other"), ("x-tenant", "acme")]).as_deref(),
        Some("3")
    );
    assert_eq!(of(&[("x-beta", "1")]), None);
}

#[test]
fn the_first_rule_that_fits_decides() {
    let sampling = rules(&[
        r#"{"path": {"template": "/users/{id}"}, "host": "b"}"#,
        r#"{"path": {"exact": "/users/me"}}"#,
        r#"{"path": {"template": "/users/{id}"}}"#,
        r#"{"path": {"prefix": "/users"}}"#,
        r#"{"path": {"regex": ".*"}}"#,
    ]);
    for (url, expected) in [
        ("//b/users/me", "0"),
        ("//a/users/me", "1"),
        ("//a/users/7", "2"),
        ("//a/users/7/cart", "3"),
        ("//a/users", "3"),
        ("//a/else", "4"),
    ] {
        assert_eq!(
            chosen(&sampling, url, &[]).as_deref(),
            Some(expected),
            "{url}"
        );
    }
}

/// Templates with variables at the same place as other patterns' names.
#[test]
fn a_path_may_go_several_ways_at_once() {
    let sampling = rules(&[
        r#"{"path": {"template": "/a/{x}/c"}}"#,
        r#"{"path": {"template": "/{x}/b/{y}"}}"#,
        r#"{"path": {"prefix": "/a/b"}}"#,
        r#"{"path": {"template": "/{x}/{y}/d"}}"#,
    ]);
    for (path, expected) in [
        ("/a/b/c", Some("0")),
        ("/a/b/d", Some("1")),
        ("/a/b/c/d", Some("2")),
        ("/a/z/c", Some("0")),
        ("/z/z/d", Some("3")),
        ("/z/z/e", None),
        ("/a//c", None),
    ] {
        let url = format!("//h{path}");
        assert_eq!(chosen(&sampling, &url, &[]).as_deref(), expected, "{path}");
    }
}

/// The sets of templates that a path may fit are as many as the product of these numbers.
#[test]
fn templates_that_overlap_are_as_many_nodes_as_they_have_segments() {
    let template = |path: String| format!(r#"{{"path": {{"template": "{path}"}}}}"#);
    let begins = (0..700).map(|i| template(format!("/{{a}}/x{i}/{{b}}")));
    let ends = (0..700).map(|i| template(format!("/y{i}/{{a}}/w{i}")));
    let open = (0..700).map(|i| template(format!("/y{i}/**")));
    let last = (0..1400).map(|i| template(format!("/{{a}}/{{b}}/z{i}")));
    let tenants =
        (0..500).map(|i| format!(r#"{{"headers": [{{"name": "x-tenant-id", "exact": "t{i}"}}]}}"#));
    let templates = begins.chain(ends).chain(open).chain(last);
    let matches: Vec<_> = templates.chain(tenants).collect();
    let sampling = rules(&matches.iter().map(String::as_str).collect::<Vec<_>>());
    let of = |url, headers: &[_]| chosen(&sampling, url, headers);
    let tenant = [("x-tenant-id", "t499")];
    for (url, rule) in [
        ("//h/y7/x9/w7", "9"),
        ("//h/y7/x700/w7", "707"),
        ("//h/y7/x9", "1407"),
        ("//h/y7/x700/z1399", "1407"),
        ("//h/y700/x700/z1399", "3499"),
        ("//h/y700/x700/z1400", "3999"),
        ("//h/y700/x9/z1399/more", "3999"),
    ] {
        assert_eq!(of(url, &tenant).as_deref(), Some(rule), "{url}");
    }
    assert_eq!(of("//h/y700/x700/z1400", &[]), None);
}

/// A rule each for a thousand and for ten: hosts, paths, tenants and expressions in turn.
fn many(count: usize) -> RuleSampler {
    let matches: Vec<_> = (0..count)
        .map(|i| match i % 8 {
            0 => format!(r#"{{"path": {{"exact": "/service-{i}/health"}}}}"#),
            1 => format!(r#"{{"path": {{"prefix": "/api/v1/{i}"}}}}"#),
            2 => format!(r#"{{"path": {{"template": "/users/{{id}}/{i}"}}}}"#),
            3 => format!(r#"{{"host": "shop-{i}.example"}}"#),
            4 => format!(r#"{{"host": "*.shop-{i}.example", "path": {{"prefix": "/"}}}}"#),
            5 => format!(r#"{{"headers": [{{"name": "x-tenant", "exact": "t{i}"}}]}}"#),
            6 => format!(r#"{{"path": {{"regex": "/items-{i}/[0-9]+"}}}}"#),
            _ => format!(r#"{{"route": "route-{i}", "path": {{"prefix": "/"}}}}"#),
        })
        .collect();
    rules(&matches.iter().map(String::as_str).collect::<Vec<_>>())
}

fn steps(sampling: &RuleSampler, url: &str, headers: &[(&str, &str)]) -> (Option<String>, u64) {
    let (host, path) = parts(url);
    let mut lines = vec![(":method", "GET"), (":authority", host), (":path", path)];
    lines.extend(headers);
    let block = encode(&lines);
    let view = RequestView {
        route: Some(b"route-7"),
        ..RequestView::of(Headers::parse(&block).unwrap())
    };
    let (chosen, steps) = sampling.choose_counting(&view);
    (sampling.name(chosen).map(str::to_owned), steps)
}

#[test]
fn a_thousand_rules_cost_about_as_much_as_ten() {
    let (ten, thousand) = (many(10), many(1000));
    let tenant: &[(&str, &str)] = &[("accept", "*/*"), ("x-tenant", "t5")];
    for (url, headers, rule) in [
        ("//h/service-0/health", tenant, "0"),
        ("//h/api/v1/1/x", &[], "1"),
        ("//h/users/me/2", &[], "2"),
        ("//shop-3.example/x", &[], "3"),
        ("//a.b.shop-4.example/x", &[], "4"),
        ("//h/x", tenant, "5"),
        ("//h/items-6/77", &[], "6"),
        ("//h/anything/else?q=1", &[], "7"),
    ] {
        let (few_rule, few) = steps(&ten, url, headers);
        let (many_rule, many) = steps(&thousand, url, headers);
        assert_eq!(few_rule.as_deref(), Some(rule), "{url}");
        assert_eq!(few_rule, many_rule, "{url}");
        // A list is searched by halves.
        assert!(many <= few + 8, "{url}: {many} steps and not {few}");
    }
    // The last of them is found as quickly as the first.
    let (rule, last) = steps(&thousand, "//h/users/me/994", &[]);
    assert_eq!(
        rule.as_deref(),
        Some("7"),
        "a route of all paths stands before it"
    );
    assert!(last < 40, "{last}");
}

/// What no index tells apart: one path, one host, a thousand tenants.
#[test]
fn a_thousand_rules_that_share_all_but_a_header_are_told_apart_at_once() {
    let matches: Vec<_> = (0..1000)
        .map(|i| {
            format!(
                r#"{{"path": {{"prefix": "/"}}, "host": "shop.example",
                     "headers": [{{"name": "x-tenant", "prefix": "t{i}-"}}]}}"#
            )
        })
        .collect();
    let sampling = rules(&matches.iter().map(String::as_str).collect::<Vec<_>>());
    let (rule, steps) = steps(&sampling, "//shop.example/x", &[("x-tenant", "t999-eu")]);
    assert_eq!(rule.as_deref(), Some("999"));
    assert!(steps < 40, "{steps}");
}

#[test]
fn whoever_sends_many_headers_finds_the_same_rule() {
    let matches: Vec<_> = (0..40)
        .map(|i| format!(r#"{{"headers": [{{"name": "x-{i}", "exact": "yes"}}]}}"#))
        .collect();
    let sampling = rules(&matches.iter().map(String::as_str).collect::<Vec<_>>());
    let names: Vec<_> = (0..40).map(|i| format!("x-{i}")).collect();
    let headers: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), if name == "x-33" { "yes" } else { "no" }))
        .collect();
    assert_eq!(chosen(&sampling, "//a/", &headers).as_deref(), Some("33"));
}

#[test]
fn only_the_secret_forces_and_without_one_nobody_does() {
    let config: SamplingConfig = meshtrace_config::read(
        br#"{"force": {"header": "X-Force-Trace", "value_env": "FORCE_KEY"}}"#,
    )
    .unwrap();
    let with = |secret: Option<&str>, lines: &[(&str, &str)]| {
        let environment = |name: &str| {
            assert_eq!(name, "FORCE_KEY");
            secret.map(|secret| secret.as_bytes().to_vec())
        };
        let sampling = RuleSampler::new(&config, &environment).unwrap();
        assert_eq!(sampling.force_header(), Some(&b"x-force-trace"[..]));
        assert!(!format!("{sampling:?}").contains("hunter2"));
        let block = encode(lines);
        sampling.forcing(&Headers::parse(&block).unwrap())
    };
    let header = "x-force-trace";
    let secret = Some("hunter2");
    assert_eq!(with(secret, &[]), Forcing::Absent);
    assert_eq!(with(secret, &[(header, "hunter2")]), Forcing::Forced);
    // A request is one guess.
    for lines in [["x", "hunter2"], ["hunter2", "x"], ["hunter2", "hunter2"]] {
        let lines = lines.map(|line| (header, line));
        assert_eq!(with(secret, &lines), Forcing::Refused, "{lines:?}");
    }
    for wrong in ["", "hunter", "hunter22", "Hunter2", "\u{e9}"] {
        assert_eq!(
            with(secret, &[(header, wrong)]),
            Forcing::Refused,
            "{wrong}"
        );
    }
    assert_eq!(with(None, &[(header, "hunter2")]), Forcing::Off);
    assert_eq!(with(Some(""), &[(header, "")]), Forcing::Off);
}

#[test]
fn every_rule_has_its_counters_and_so_has_the_default() {
    let sampling = sampling(
        r#"{"rules": [{"name": "pay", "sample": "always"}, {"sample": "never"}], "default": {"ratio": 0.5}}"#,
    );
    let counters = sampling.counters();
    assert_eq!(
        counters,
        [
            "rule.pay.sampled",
            "rule.pay.dropped",
            "rule.pay.unchanged",
            "rule.1.sampled",
            "rule.1.dropped",
            "rule.1.unchanged",
            "default.sampled",
            "default.dropped",
            "default.unchanged",
        ]
        .map(|name| format!("meshtrace.route_sampling.{name}"))
    );
}

#[test]
fn a_rule_tells_its_template_and_whether_it_keeps_nothing() {
    let sampling = sampling(
        r#"{"rules": [
            {"match": {"path": {"template": "/users/{id}"}}, "sample": "never"},
            {"match": {"path": {"exact": "/zero"}}, "sample": {"ratio": 0}},
            {"match": {"path": {"prefix": "/none"}}, "sample": {"per_second": 0}},
            {"match": {"path": {"template": "/carts/{id}"}}, "sample": {"ratio": 0.1}}
        ], "default": "never"}"#,
    );
    for (path, template, is_never) in [
        ("/users/7", Some("/users/{id}"), true),
        ("/zero", None, true),
        ("/none/at/all", None, true),
        ("/carts/7?a=1", Some("/carts/{id}"), false),
        // The default is no rule.
        ("/else", None, false),
    ] {
        let block = encode(&[(":path", path)]);
        let view = RequestView::of(Headers::parse(&block).expect("a block"));
        let chosen = sampling.choose(&view);
        assert_eq!(sampling.template(chosen), template, "{path}");
        assert_eq!(sampling.is_never(chosen), is_never, "{path}");
    }
    assert!(sampling.has_templates() && sampling.has_nevers());
    let plain = rules(&[r#"{"path": {"prefix": "/a"}}"#]);
    assert!(!plain.has_templates() && !plain.has_nevers());
}
