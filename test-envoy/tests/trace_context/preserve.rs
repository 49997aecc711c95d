//! `inject: "preserve"`: the shape that came in is what leaves, and none that is stale beside it.

use std::thread;

use envoy_test_harness::EnvoyBinary;
use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::RecordedRequest;
use meshtrace_test_support::common::{Mesh, manager, trace_context, trace_headers};
use meshtrace_test_support::tracers::{Caller, Reader, Sinks, Tracer};

const W3C: &[&str] = &["traceparent: 00-$T-$S-01", "tracestate: a=1"];
const B3: &[&str] = &["b3: $T-$S-1-$V"];
const MULTI: &[&str] = &[
    "x-b3-traceid: $T",
    "x-b3-spanid: $S",
    "x-b3-parentspanid: $V",
    "x-b3-sampled: 1",
];
/// `x-b3-*` of another trace.
const STALE_MULTI: &[&str] = &["x-b3-traceid: $U", "x-b3-spanid: $V", "x-b3-sampled: 0"];

fn on_every_envoy(promise: impl Fn(&EnvoyBinary) + Sync) {
    let envoys = EnvoyBinary::all_supported().expect("the supported Envoys");
    thread::scope(|scope| {
        for envoy in &envoys {
            scope.spawn(|| promise(envoy));
        }
    });
}

fn send(mesh: &Mesh, listener: &str, caller: &Caller, headers: &[&str]) -> RecordedRequest {
    let request = caller.request(listener, headers);
    mesh.pass(&mut mesh.connect(listener), &request)
}

/// The formats that left.
fn shapes(request: &RecordedRequest) -> Vec<Reader> {
    let readers = Reader::ALL.into_iter();
    readers
        .filter(|reader| reader.read(request).is_some())
        .collect()
}

/// That every format that left names one span, and no header another trace.
fn assert_one_span(caller: &Caller, request: &RecordedRequest, case: &str) {
    let told: Vec<_> = shapes(request)
        .iter()
        .map(|reader| reader.read(request))
        .collect();
    assert!(
        told.iter().all(|other| *other == told[0]),
        "{case}: {told:?}"
    );
    let left = trace_headers(request).concat();
    assert!(!left.contains(&caller.other_trace_id), "{case}: {left}");
}

#[test]
fn without_a_tracer_what_came_in_leaves_to_the_letter() {
    on_every_envoy(|binary| {
        let preserve = r#"{"inject": "preserve"}"#;
        let only_b3 =
            r#"{"inject": "preserve", "extract": ["b3", "b3multi"], "default_format": "b3"}"#;
        let upstream = r#"{"inject": "preserve", "placement": "upstream", "tracer": "b3"}"#;
        let behind = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("upstream"))
            .upstream_filter(trace_context(upstream));
        let mesh = Mesh::start_on(
            binary,
            vec![
                ("preserve", manager(trace_context(preserve))),
                ("b3", manager(trace_context(only_b3))),
                ("upstream", behind),
            ],
        );
        for listener in ["preserve", "b3", "upstream"] {
            for headers in [
                &[],
                W3C,
                B3,
                MULTI,
                &["b3: $T-$S"],
                &["b3: 0"],
                &["b3: $T-$S-d"],
            ] {
                let caller = Caller::fresh();
                let left = send(&mesh, listener, &caller, headers);
                let mut expected: Vec<_> = headers.iter().map(|line| caller.fill(line)).collect();
                expected.sort();
                let version = binary.reported_version();
                assert_eq!(trace_headers(&left), expected, "{listener} on {version}");
            }
            // envoy#47515: a sibling that was left behind tells the chosen context, not its own.
            let caller = Caller::fresh();
            let left = send(&mesh, listener, &caller, &[B3, STALE_MULTI].concat());
            assert_eq!(shapes(&left), [Reader::B3, Reader::B3Multi], "{listener}");
            assert_one_span(&caller, &left, listener);
            let b3 = caller.fill("$T-$S-1-$V");
            assert_eq!(left.header_text("b3"), Some(b3), "{listener}");
        }
    });
}

/// What the Zipkin tracer writes is not the filter's to choose: until 1.39 it writes `x-b3-*`
/// whatever came in, so the caller's `b3` stays single only from 1.40 on; before, it leaves beside
/// them with the same ids. On no version does a tracer of B3 continue W3C: what came in leaves in
/// its shape, with the tracer's trace, beside the tracer's own.
#[test]
fn behind_the_zipkin_tracer_the_shape_that_came_in_is_there_and_none_is_stale() {
    on_every_envoy(|binary| {
        let sinks = Sinks::start();
        let listeners = [("spawn", true), ("one", false)].map(|(name, spawn)| {
            let tracing = Tracer::ZipkinB3.tracing().expect("a tracer");
            let filter = r#"{"placement": "upstream", "tracer": "b3multi", "inject": "preserve"}"#;
            let manager = HttpConnectionManager::new()
                .route(Route::prefix("/").cluster("upstream"))
                .tracing(tracing.spawn_upstream_span(spawn).random_sampling(100.0))
                .upstream_filter(trace_context(filter));
            Listener::http(name, manager)
        });
        let bootstrap = listeners
            .into_iter()
            .fold(Bootstrap::new(), Bootstrap::listener);
        let mesh = Mesh::with(binary, sinks.connect(bootstrap));
        let keeps_shape = binary.is_at_least(1, 40);
        let stale_b3 = ["b3: $U-$V-1"];
        for listener in ["spawn", "one"] {
            for (headers, shapes_left) in [
                (
                    B3.to_vec(),
                    match keeps_shape {
                        true => vec![Reader::B3],
                        false => vec![Reader::B3, Reader::B3Multi],
                    },
                ),
                (MULTI.to_vec(), vec![Reader::B3Multi]),
                (
                    [B3, STALE_MULTI].concat(),
                    vec![Reader::B3, Reader::B3Multi],
                ),
                (W3C.to_vec(), vec![Reader::W3c, Reader::B3Multi]),
                (
                    [B3, &["traceparent: 00-$U-$V-01"]].concat(),
                    match keeps_shape {
                        true => vec![Reader::W3c, Reader::B3],
                        false => Reader::ALL.to_vec(),
                    },
                ),
                (
                    [W3C, &stale_b3].concat(),
                    match keeps_shape {
                        true => vec![Reader::W3c, Reader::B3],
                        false => Reader::ALL.to_vec(),
                    },
                ),
                (vec![], vec![Reader::B3Multi]),
            ] {
                let caller = Caller::fresh();
                let case = format!("{} {listener} {headers:?}", binary.reported_version());
                let left = send(&mesh, listener, &caller, &headers);
                assert_eq!(shapes(&left), shapes_left, "{case}");
                let told = shapes_left[0].read(&left).expect("a context");
                let everywhere = shapes_left
                    .iter()
                    .all(|r| r.read(&left).as_ref() == Some(&told));
                assert!(everywhere, "{case}: {:?}", trace_headers(&left));
                // The tracer continued B3; the rest it does not read.
                let sent = headers
                    .iter()
                    .map(|line| caller.fill(line))
                    .collect::<String>();
                let b3 = headers.iter().any(|line| line.contains("b3"));
                assert_eq!(sent.contains(&told.trace_id), b3, "{case}");
                assert_ne!(told.span_id, caller.span_id, "{case}");
            }
        }
    });
}
