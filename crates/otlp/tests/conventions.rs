//! What the semantic conventions make of what Envoy knows.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Collector, decode, exporter};
use meshtrace_headers::{Headers, encode};
use meshtrace_otlp::conventions::{End, EndValue, EndValues, KEPT, KEYS, Request, Seen};
use meshtrace_otlp::{
    Attributes, Kind, MAX_TRACESTATE, Record, ReportConfig, Role, RoleConfig, Span, Status,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;

type Described = BTreeMap<String, String>;

/// The attributes as the published types read them.
fn read(attributes: &Attributes) -> Described {
    let parts = [attributes];
    let span = Span {
        attributes: &parts,
        ..common::span(1, &Attributes::new())
    };
    let mut exporter = exporter(r#"{"cluster": "c"}"#);
    let mut collector = Collector::default();
    exporter.push(&span, 0);
    exporter.on_tick(1_000_000_000, &mut |call| collector.take(call));
    let request = decode(&collector.calls[0], false);
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    let text = |value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    span.attributes
        .iter()
        .map(|attribute| {
            let value = attribute.value.clone().unwrap().value.unwrap();
            (attribute.key.clone(), text(value))
        })
        .collect()
}

/// The span's name, what either kind says, and what a CLIENT and a SERVER span say besides.
fn request_at(
    lines: &[(&str, &str)],
    route: Option<&[u8]>,
) -> (String, Described, Described, Described) {
    let block = encode(lines);
    let headers = Headers::parse(&block).unwrap();
    let request = Request::scan(&headers);
    let [mut both, mut client, mut server] = [(); 3].map(|()| Attributes::new());
    request.describe(&mut both);
    request.describe_client(route, &mut client);
    request.describe_server(route, &mut server);
    let name = request.name(route);
    let name = String::from_utf8(name.as_bytes().to_vec()).unwrap();
    (name, read(&both), read(&client), read(&server))
}

fn request(lines: &[(&str, &str)]) -> (String, Described, Described) {
    let (name, mut both, client, server) = request_at(lines, None);
    // Without a template either kind says the same of where it is sent.
    for (key, value) in server {
        assert_eq!(client.get(&key), Some(&value), "{key}");
        both.insert(key, value);
    }
    (name, both, client)
}

fn line<'a>(path: &'a str, authority: &'a str, scheme: &'a str) -> [(&'a str, &'a str); 4] {
    [
        (":method", "GET"),
        (":path", path),
        (":authority", authority),
        (":scheme", scheme),
    ]
}

#[test]
fn the_server_is_the_authority_s_host_and_port() {
    for (authority, scheme, address, port) in [
        ("shop", "http", Some("shop"), Some("80")),
        ("shop", "https", Some("shop"), Some("443")),
        ("shop", "ftp", Some("shop"), None),
        ("shop:8080", "http", Some("shop"), Some("8080")),
        ("192.0.2.1:1", "http", Some("192.0.2.1"), Some("1")),
        (
            "[2001:db8::1]:8080",
            "http",
            Some("2001:db8::1"),
            Some("8080"),
        ),
        ("[2001:db8::1]", "http", Some("2001:db8::1"), Some("80")),
        ("2001:db8::1", "http", Some("2001:db8::1"), Some("80")),
        // The copy of a request, whose host Envoy names so.
        (
            "shop-shadow:8080",
            "http",
            Some("shop-shadow"),
            Some("8080"),
        ),
        (
            "[::1]-shadow:8080",
            "http",
            Some("[::1]-shadow"),
            Some("8080"),
        ),
        ("[::1]-shadow", "http", Some("[::1]-shadow"), Some("80")),
        ("shop:", "http", Some("shop"), Some("80")),
        ("shop:", "https", Some("shop"), Some("443")),
        ("shop:", "ftp", Some("shop"), None),
        ("shop:65535", "http", Some("shop"), Some("65535")),
        ("shop:99999", "http", Some("shop"), None),
        ("shop:x", "http", Some("shop"), None),
        ("[::1]:99999", "http", Some("::1"), None),
        (":", "http", None, None),
        ("user:secret@shop:8080", "http", Some("shop"), Some("8080")),
        ("", "http", None, None),
    ] {
        let (_, described, _) = request(&line("/", authority, scheme));
        let get = |key: &str| described.get(key).map(String::as_str);
        assert_eq!(get("server.address"), address, "{authority}");
        assert_eq!(get("server.port"), port, "{authority}");
    }
}

#[test]
fn a_query_and_a_password_are_in_no_attribute() {
    let lines = line("/a/b?token=secret", "user:secret@shop:81", "http");
    let (name, both, client) = request(&lines);
    assert_eq!(name, "GET");
    assert_eq!(both["url.path"], "/a/b");
    assert_eq!(client["url.full"], "http://shop:81/a/b");
    let text = format!("{both:?}{client:?}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn a_route_is_in_the_name() {
    let lines = line("/users/7", "shop", "http");
    let (name, both, client, server) = request_at(&lines, Some(b"/users/{id}"));
    assert_eq!(name, "GET /users/{id}");
    assert_eq!(server["http.route"], "/users/{id}");
    assert_eq!(client["url.template"], "/users/{id}");
    let keys = |of: &Described| {
        of.keys()
            .any(|key| key == "http.route" || key == "url.template")
    };
    assert!(!keys(&both), "a key of one kind");
    let long = "/a".repeat(200);
    let (name, _, _, server) = request_at(&lines, Some(long.as_bytes()));
    assert_eq!(name.len(), 128);
    assert_eq!(server["http.route"].len(), 256);
}

#[test]
fn grpc_has_names_of_its_own() {
    let lines = |kind| {
        [
            &line("/shop.v1.Cart/Get", "shop", "http")[..],
            &[("content-type", kind)],
        ]
        .concat()
    };
    for kind in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc;charset=utf-8",
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web-text",
        "application/grpc-web-text+proto",
    ] {
        let (name, both, _) = request(&lines(kind));
        assert_eq!(name, "shop.v1.Cart/Get", "{kind}");
        assert_eq!(both["rpc.system.name"], "grpc");
        assert_eq!(both["rpc.method"], "shop.v1.Cart/Get");
    }
    for kind in [
        "application/grpc-webby",
        "application/grpc-web-texts",
        "application/json",
        "",
    ] {
        let (name, both, _) = request(&lines(kind));
        assert_eq!(name, "GET", "{kind}");
        assert!(!both.contains_key("rpc.method"), "{kind}");
    }
}

#[test]
fn without_a_path_or_a_method_there_is_a_span_all_the_same() {
    let (name, both, client) = request(&[]);
    assert_eq!(name, "HTTP");
    let expected = BTreeMap::from([("http.request.method".to_owned(), "_OTHER".to_owned())]);
    assert_eq!((both, client), (expected, BTreeMap::new()));
}

/// What is known at the end, by the paths of Envoy's attributes.
fn end(values: &[(&str, &[u8])], seen: Seen, kind: Kind) -> (Status, bool, Described) {
    let mut known = EndValues::default();
    for value in EndValue::ALL {
        let found = values
            .iter()
            .find(|(path, _)| *path == value.path().expression);
        known.set(value, found.map(|(_, bytes)| *bytes));
    }
    let end = End::new(&known, seen);
    let mut attributes = Attributes::new();
    let status = end.describe(kind, &mut attributes);
    (status, end.is_server_error(), read(&attributes))
}

/// Response flags, as Envoy numbers them (`envoy.data.accesslog.v3.ResponseFlags`).
const NR: u64 = 0x100;
const UF: u64 = 0x20;
const UR: u64 = 0x10;
const DC: u64 = 0x4000;
const URX: u64 = 0x8000;
const DI: u64 = 0x200;

#[test]
fn status_and_error_type_follow_the_code_and_the_flags() {
    use Kind::{Client, Server};
    use Status::{Error, Unset};
    for (kind, code, flags, grpc, status, is_server_error, error) in [
        (Server, Some(200), 0, None, Unset, false, None),
        (Server, Some(404), 0, None, Unset, false, None),
        (Client, Some(404), 0, None, Error, false, Some("404")),
        (Server, Some(404), NR, None, Unset, false, None),
        (Server, Some(500), 0, None, Error, true, Some("500")),
        (Client, Some(500), 0, None, Error, true, Some("500")),
        // No upstream answered: the code is Envoy's own, not the upstream's.
        (Server, Some(503), UF | URX, None, Error, true, Some("503")),
        (
            Client,
            Some(503),
            UF | URX,
            None,
            Error,
            true,
            Some("URX,UF"),
        ),
        // Reset in the middle of a good answer.
        (Server, Some(200), UR, None, Error, true, Some("UR")),
        // A client that went away, before and after the response began.
        (Server, None, DC, None, Unset, false, None),
        (Server, Some(200), DC, None, Unset, false, None),
        (Client, None, DC, None, Error, false, Some("DC")),
        // A connection that was upgraded ends so.
        (Server, Some(101), DC, None, Unset, false, None),
        (Server, Some(200), DI, None, Unset, false, None),
        (Server, None, 0, None, Error, false, Some("_OTHER")),
        // A call of Envoy's own over gRPC has no code.
        (Client, None, 0, Some(0), Unset, false, None),
        (Client, None, UF, Some(14), Error, true, Some("UNAVAILABLE")),
        // gRPC: only six codes are the server's fault.
        (Server, Some(200), 0, Some(0), Unset, false, None),
        (Server, Some(200), 0, Some(5), Unset, false, None),
        (
            Client,
            Some(200),
            0,
            Some(5),
            Error,
            false,
            Some("NOT_FOUND"),
        ),
        (Server, Some(200), 0, Some(2), Error, true, Some("UNKNOWN")),
        (
            Server,
            Some(200),
            0,
            Some(4),
            Error,
            true,
            Some("DEADLINE_EXCEEDED"),
        ),
        (
            Server,
            Some(200),
            0,
            Some(12),
            Error,
            true,
            Some("UNIMPLEMENTED"),
        ),
        (
            Server,
            Some(200),
            0,
            Some(13),
            Error,
            true,
            Some("INTERNAL"),
        ),
        (
            Server,
            Some(200),
            0,
            Some(14),
            Error,
            true,
            Some("UNAVAILABLE"),
        ),
        (
            Server,
            Some(200),
            0,
            Some(15),
            Error,
            true,
            Some("DATA_LOSS"),
        ),
    ] {
        let code_bytes = code.map(u64::to_le_bytes);
        let flag_bytes = u64::to_le_bytes(flags);
        let mut values: Vec<(&str, &[u8])> = vec![("response.flags", &flag_bytes)];
        if let Some(code) = &code_bytes {
            values.push(("response.code", code));
        }
        let what = format!("{kind:?} {code:?} {flags:#x} {grpc:?}");
        let seen = Seen {
            grpc_status: grpc,
            // The upstream's code, unless the flags say that it had none.
            answered: flags & UF == 0,
            ..Seen::default()
        };
        let (found, kept, described) = end(&values, seen, kind);
        assert_eq!((found, kept), (status, is_server_error), "{what}");
        assert_eq!(
            described.get("error.type").map(String::as_str),
            error,
            "{what}"
        );
    }
}

#[test]
fn every_flag_has_the_name_that_access_logs_have() {
    let names = "LH UH UT LR UR UF UC UO NR DI FI RL UAEX RLSE DC URX SI IH DPE UMSDR RFCF NFCF DT \
                 UPE NC OM DF DO DR UDO";
    for (bit, name) in names.split(' ').enumerate() {
        let flags = (1_u64 << bit).to_le_bytes();
        let (_, _, described) = end(&[("response.flags", &flags)], Seen::default(), Kind::Server);
        assert_eq!(described["response_flags"], name);
    }
    let all = u64::MAX.to_le_bytes();
    let (_, _, described) = end(&[("response.flags", &all)], Seen::default(), Kind::Server);
    let (mut all, mut each): (Vec<_>, Vec<_>) = (
        described["response_flags"].split(',').collect(),
        names.split(' ').collect(),
    );
    all.sort_unstable();
    each.sort_unstable();
    assert_eq!(all, each, "each once");
}

#[test]
fn integers_of_another_size_and_values_of_any_bytes_are_no_danger() {
    for bytes in [
        &b""[..],
        b"\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xff\xfe[]:::",
    ] {
        let values = EndValue::ALL.map(|value| (value.path().expression, bytes));
        for kind in [Kind::Server, Kind::Client] {
            let grpc_status = Some(u32::MAX);
            let seen = Seen {
                grpc_status,
                ..Seen::default()
            };
            end(&values, seen, kind);
        }
    }
}

#[test]
fn the_node_s_id_decides_the_role() {
    for (node, role) in [
        ("router~10.0.0.1~gateway.istio-system~svc", Role::Gateway),
        ("waypoint~10.0.0.1~waypoint.shop~svc", Role::Server),
        ("sidecar~10.0.0.1~shop.default~svc", Role::ByDirection),
        ("test", Role::Server),
        ("", Role::Server),
    ] {
        assert_eq!(RoleConfig::Auto.at(node), role, "{node}");
        assert_eq!(RoleConfig::Client.at(node), Role::Client);
        assert_eq!(RoleConfig::Gateway.at(node), Role::Gateway);
        assert_eq!(RoleConfig::Server.at(node), Role::Server);
    }
    assert_eq!(ReportConfig::default().role, RoleConfig::Auto);
}

/// Whoever adds attributes to a span finds here what they must not repeat.
#[test]
fn the_list_of_keys_is_what_spans_say() {
    let mut said = BTreeSet::from([KEPT.to_owned()]);
    for method in ["GET", "PROPFIND"] {
        let lines = [
            (":method", method),
            (":path", "/shop.v1.Cart/Get"),
            (":authority", "shop:81"),
            (":scheme", "https"),
            ("user-agent", "test"),
            ("x-request-id", "1"),
            ("content-type", "application/grpc"),
        ];
        let (_, both, client, server) = request_at(&lines, Some(b"/{service}/{method}"));
        for part in [both, client, server] {
            said.extend(part.into_keys());
        }
    }
    let (code, flags, attempts) = (503_u64.to_le_bytes(), UF.to_le_bytes(), 2_u64.to_le_bytes());
    let values: [(&str, &[u8]); 9] = [
        ("response.code", &code),
        ("response.flags", &flags),
        ("request.protocol", b"HTTP/2"),
        ("source.address", b"192.0.2.1:1"),
        ("xds.cluster_name", b"c"),
        ("upstream.address", b"192.0.2.2:2"),
        ("upstream.request_attempt_count", &attempts),
        ("request.size", &code),
        ("response.size", &code),
    ];
    for (kind, values) in [
        (Kind::Server, &values[..]),
        (Kind::Client, &values),
        (Kind::Client, &[("response.code", &code[..])]),
    ] {
        let seen = Seen {
            grpc_status: Some(14),
            ..Seen::default()
        };
        let (_, _, described) = end(values, seen, kind);
        said.extend(described.into_keys());
    }
    assert_eq!(said, KEYS.map(str::to_owned).into());
}

#[test]
fn a_list_without_room_is_kept_in_whole_members() {
    let long = "x".repeat(MAX_TRACESTATE - 6);
    for (list, expected) in [
        ("a=1,b=2,c=3".to_owned(), "a=1,b=2,c=3".to_owned()),
        (String::new(), String::new()),
        (format!("a=1,b={long}"), format!("a=1,b={long}")),
        (format!("a=1,b={long},c=1"), format!("a=1,b={long}")),
        (format!("a=1,b={long}x,c=1"), "a=1".to_owned()),
        (format!("b={long}xxxxx,c=1"), String::new()),
    ] {
        let mut record = Record::default();
        record.keep_tracestate(list.as_bytes());
        assert_eq!(
            record.tracestate.escape_ascii().to_string(),
            expected,
            "{list:?}"
        );
    }
}

/// An attempt that the proxy ended because another one had answered is no error. What failed before
/// is one all the same.
#[test]
fn a_call_that_was_beaten_is_an_error_where_something_failed() {
    for (beaten, flags, is_error) in [(false, 0, true), (true, 0, false), (true, UF, true)] {
        let flags = u64::to_le_bytes(flags);
        let seen = Seen {
            beaten,
            ..Seen::default()
        };
        let (status, _, _) = end(&[("response.flags", &flags)], seen, Kind::Client);
        assert_eq!(status == Status::Error, is_error, "{beaten} {flags:?}");
    }
}

/// The details of Envoy where an upstream answers a request for a WebSocket with 200.
#[test]
fn the_answer_to_a_websocket_that_was_not_opened_is_the_upstreams() {
    let code = u64::to_le_bytes(200);
    let values: [(&str, &[u8]); 2] = [
        ("response.code", &code),
        ("response.code_details", b"websocket_handshake_unsuccessful"),
    ];
    let (status, _, described) = end(&values, Seen::default(), Kind::Client);
    assert_eq!(status, Status::Unset);
    assert_eq!(described["http.response.status_code"], "200");
}
