//! The tags of a span.

use super::*;

fn tags(list: &[(&str, &str)]) -> Tags {
    let mut tags = Tags::default();
    for (key, value) in list {
        tags.push(key.as_bytes(), value.as_bytes());
    }
    tags
}

#[test]
fn what_is_told_is_read_and_no_status_is_no_code() {
    let tags = tags(&[
        ("retry.count", "2"),
        ("request_size", "x"),
        ("http.status_code", "503"),
        ("response_flags", "UF,URX"),
    ]);
    let told = &tags.numbers;
    assert_eq!((told.code, told.retries), (Some(503), 2));
    assert_eq!(told.flags, 1 << 5 | 1 << 15);
    assert_eq!(told.request_size, None);
    assert!(tags.is_suspicious(None));
    assert!(tags.end(Fate::OtherCall, b"", false, |end| end.is_server_error()));
}

#[test]
fn envoys_own_url_is_told_apart_from_a_custom_one() {
    let mut tags = Tags::default();
    assert!(tags.push(b"http.url", b"http://shop/"));
    assert!(!tags.push(b"http.method", b"GET"));
    for (key, value) in OWN {
        assert!(!tags.push(key.as_bytes(), value.as_bytes()));
    }
    assert!(!tags.push(b"http.url", b"http://mine/"));
}

#[test]
fn the_status_of_the_last_call_is_that_of_the_request_where_it_has_none() {
    let request = tags(&[("http.status_code", "200"), ("response_flags", "-")]);
    assert!(!request.is_suspicious(Some(0)) && request.is_suspicious(Some(13)));
    for (of_call, expected) in [(None, false), (Some(0), false), (Some(13), true)] {
        let fate = Fate::Request {
            grpc_status: of_call,
        };
        let is_error = request.end(fate, b"", false, |end| end.is_server_error());
        assert_eq!(is_error, expected, "{of_call:?}");
    }
    let own = behind(&[("grpc.status_code", "0")]);
    let fate = Fate::Request {
        grpc_status: Some(13),
    };
    assert!(!own.is_suspicious(Some(13)));
    assert!(!own.end(fate, b"", false, |end| end.is_server_error()));
}

#[test]
fn an_answer_of_zero_or_none_is_not_suspicious() {
    let tags = tags(&[("http.status_code", "0"), ("response_flags", "-")]);
    assert_eq!(tags.numbers.code, None);
    assert!(!tags.is_suspicious(None));
}

#[test]
fn the_last_value_of_a_tag_counts() {
    let tags = tags(&[
        ("component", "first"),
        ("peer.address", "10.0.0.1"),
        ("mine", "1"),
        ("component", "proxy"),
        ("peer.address", "10.0.0.2"),
        ("mine", "2"),
    ]);
    assert_eq!(tags.text(Text::Component), b"proxy");
    assert_eq!(tags.text(Text::Peer), b"10.0.0.2");
    let expected = self::tags(&[("component", "proxy"), ("mine", "2")]);
    assert_eq!(added(&tags), added(&expected));
}

/// What the tags add to a span that has `upstream_address` and `url.path` already.
fn added(tags: &Tags) -> String {
    let [mut first, mut second] = [Attributes::new(), Attributes::new()];
    second.text("upstream_address", b"10.0.0.1:80");
    second.text("url.path", b"/");
    tags.add_unchanged(
        |key| key == "named",
        (Told::new(|_| false), |_| false),
        &mut [&mut first, &mut second],
    );
    format!("{first:?} {second:?}")
}

const OWN: [(&str, &str); 4] = [
    ("component", "proxy"),
    ("grpc.path", "/a"),
    ("http.status_code", "200"),
    ("response_flags", "-"),
];

/// The tags of a request of gRPC, with these behind Envoy's own. `OPERATION` stands for the name
/// of the operation.
fn behind(list: &[(&str, &str)]) -> Tags {
    let mut tags = tags(&OWN);
    for (key, value) in list {
        match *key {
            "OPERATION" => tags.name_operation(),
            key => assert!(!tags.push(key.as_bytes(), value.as_bytes())),
        }
    }
    tags.close(|| true);
    tags
}

#[test]
fn a_custom_tag_changes_no_value_of_envoys() {
    let tags = behind(&[
        ("http.status_code", "500"),
        ("response_flags", "UF"),
        ("component", "mine"),
        ("error", "true"),
        ("named", "left out"),
        ("url.path", "left out"),
        ("upstream_address", "mine"),
    ]);
    assert_eq!((tags.numbers.code, tags.numbers.flags), (Some(200), 0));
    let (mut first, mut second) = (Attributes::new(), Attributes::new());
    for (key, value) in [
        ("grpc.path", "/a"),
        ("http.status_code", "500"),
        ("response_flags", "UF"),
        ("component", "mine"),
        ("error", "true"),
        ("upstream_address", "mine"),
    ] {
        first.text(key, value.as_bytes());
    }
    second.text("url.path", b"/");
    assert_eq!(added(&tags), format!("{first:?} {second:?}"));
}

#[test]
fn a_query_and_a_password_are_in_no_tag_of_envoys() {
    let told = tags(&[
        ("grpc.path", "/a.B/C?token=secret"),
        ("grpc.authority", "user:secret@shop:81"),
    ]);
    let expected = tags(&[("grpc.path", "/a.B/C"), ("grpc.authority", "shop:81")]);
    assert_eq!(added(&told), added(&expected));
}

#[test]
fn the_error_behind_the_flags_is_envoys_where_the_request_failed() {
    for (code, error, count) in [
        ("0", "true", 1),
        ("503", "true", 1),
        ("503", "mine", 2),
        ("404", "true", 2),
    ] {
        let mut tags = tags(&[("http.status_code", code), ("response_flags", "-")]);
        tags.push(b"error", error.as_bytes());
        tags.push(b"error", b"true");
        assert_eq!(tags.custom.iter().count(), count, "{code} {error}");
    }
}

#[test]
fn the_status_of_grpc_comes_behind_the_custom_tags() {
    let own = ("grpc.status_code", "14");
    let custom = ("grpc.status_code", "3");
    let message = ("grpc.message", "no");
    for (list, status, count) in [
        (&[("mine", "1"), own, message][..], Some(14), 1),
        (&[own, ("error", "true")], Some(14), 0),
        (&[custom, ("mine", "1")], None, 2),
        (&[("mine", "1"), custom, own], Some(14), 2),
        (&[custom, ("mine", "1"), own, message], Some(14), 2),
        (&[custom, ("OPERATION", "")], None, 1),
        (&[custom, ("OPERATION", ""), own], Some(14), 1),
        (&[("mine", "1"), ("grpc.status_code", "x")], Some(2), 1),
        (&[("grpc.status_code", "0,13"), message], Some(2), 0),
        (&[("grpc.status_code", "4294967296")], Some(2), 0),
        (&[("grpc.status_code", "-1")], Some(2), 0),
        (&[("grpc.status_code", "")], Some(2), 0),
    ] {
        let tags = behind(list);
        let found = (tags.numbers.grpc_status, tags.custom.iter().count());
        assert_eq!(found, (status, count), "{list:?}");
    }
}

/// Envoy tells the status of gRPC of any answer that has one, before its flags and behind them.
#[test]
fn a_status_of_grpc_counts_for_a_request_of_grpc_alone() {
    let status = ("grpc.status_code", "13");
    let flags = [("http.status_code", "200"), ("response_flags", "-")];
    for (list, count) in [
        ([status, flags[0], flags[1]], 0),
        ([flags[0], flags[1], status], 1),
    ] {
        for is_grpc in [false, true] {
            let mut tags = tags(&list);
            tags.close(|| is_grpc);
            assert_eq!(tags.grpc_status(), is_grpc.then_some(13), "{list:?}");
            assert_eq!(tags.is_suspicious(None), is_grpc, "{list:?}");
            let left = if is_grpc { 0 } else { count };
            assert_eq!(tags.custom.iter().count(), left, "{list:?}");
        }
    }
}

#[test]
fn each_tag_without_room_is_a_lost_attribute() {
    let mut tags = tags(&OWN);
    let value = [b'x'; 1024];
    for i in 0..100 {
        tags.push(format!("mine.{i}").as_bytes(), &value);
    }
    tags.push(b"url.path", &value);
    tags.push(b"named", &value);
    let (mut first, mut second) = (Attributes::new(), Attributes::new());
    tags.add_unchanged(
        |key| key == "named",
        (Told::new(|_| false), |_| false),
        &mut [&mut first, &mut second],
    );
    // 16 kB are for attributes: 15 of these.
    assert_eq!((first.dropped(), second.dropped()), (85, 0));
}
