//! A compressed body is that of the same call without compression.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use std::io::Read as _;

use common::{Collector, Made, exporter, span};
use meshtrace_otlp::Attributes;

const SECOND: u64 = 1_000_000_000;

/// The call of `spans` spans, at a tick or at the end.
fn call(json: &str, spans: u64, at_end: bool) -> Made {
    let mut exporter = exporter(json);
    let mut collector = Collector::default();
    let mut attributes = Attributes::new();
    attributes.text("url.path", b"/a/path/of/some/length");
    for id in 1..=spans {
        exporter.push(&span(id, &attributes), SECOND);
    }
    let mut dispatch = |call: &meshtrace_otlp::HttpCall<'_>| collector.take(call);
    if at_end {
        exporter.on_done(SECOND, &mut dispatch);
    } else {
        exporter.on_tick(2 * SECOND, &mut dispatch);
    }
    collector.calls.remove(0)
}

fn unpack(bytes: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(bytes);
    decoder.read_to_end(&mut unpacked).expect("gzip");
    unpacked
}

#[test]
fn the_body_is_the_same_and_smaller_and_its_header_says_so() {
    for (protocol, header, other) in [
        ("http/protobuf", "content-encoding", "grpc-encoding"),
        ("grpc", "grpc-encoding", "content-encoding"),
    ] {
        for (spans, at_end) in [(1, false), (400, false), (400, true)] {
            let plain = format!(r#"{{"cluster": "c", "protocol": "{protocol}"}}"#);
            let packed = plain.replace('}', r#", "compression": "gzip"}"#);
            let [plain, packed] = [plain, packed].map(|json| call(&json, spans, at_end));
            assert_eq!(packed.header(header), Some("gzip"));
            assert_eq!(packed.header(other), None);
            assert_eq!(plain.header(header), None);
            let (expected, found) = match protocol {
                "grpc" => {
                    let length = u32::from_be_bytes(packed.body[1..5].try_into().unwrap());
                    assert_eq!((packed.body[0], plain.body[0]), (1, 0));
                    assert_eq!(length as usize, packed.body.len() - 5);
                    (&plain.body[5..], &packed.body[5..])
                }
                _ => (&plain.body[..], &packed.body[..]),
            };
            assert_eq!(unpack(found), expected, "{protocol}, {spans}");
            if spans > 1 {
                assert!(found.len() * 4 < expected.len(), "{}", found.len());
            }
        }
    }
}

#[test]
fn without_the_key_and_with_null_nothing_is_compressed() {
    let plain = call(r#"{"cluster": "c"}"#, 3, false);
    let null = call(r#"{"cluster": "c", "compression": null}"#, 3, false);
    assert_eq!(plain.body, null.body);
    assert_eq!(plain.headers, null.headers);
}

#[test]
fn another_compression_is_refused() {
    let json = br#"{"cluster": "c", "compression": "zstd"}"#;
    let refusal = meshtrace_config::read::<meshtrace_otlp::ReportConfig>(json).unwrap_err();
    let text = refusal.to_string();
    assert!(
        text.contains("compression") && text.contains("gzip"),
        "{text}"
    );
}
