//! OpenCensus over gRPC.

use meshtrace_propagation::Counter;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::common::{Row, check};

#[test]
fn it_is_read_and_written_beside_other_formats() {
    check(&[
        Row {
            promise: "a right context stays to the letter, padded or not",
            config: r#"{"extract": ["grpc-trace-bin"], "inject": ["grpc-trace-bin", "tracecontext"]}"#,
            sent: "grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE",
            left: "grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE
                   traceparent: 00-$T-$S-01",
            counted: &[Counter::ExtractedGrpcTraceBin],
        },
        Row {
            promise: "it is written padded; debug is sampled",
            config: r#"{"inject": ["grpc-trace-bin"]}"#,
            sent: "b3: $T-$S-d",
            left: "b3: $T-$S-d
                   grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE=",
            counted: &[Counter::ExtractedB3],
        },
        Row {
            promise: "it cannot leave the decision open",
            config: r#"{"inject": ["grpc-trace-bin"]}"#,
            sent: "b3: $T-$S",
            left: "b3: $T-$S
                   grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgA=",
            counted: &[Counter::ExtractedB3, Counter::Deferred],
        },
        Row {
            promise: "another span: it follows the chosen one",
            config: r#"{"extract": ["b3", "grpc-trace-bin"], "inject": []}"#,
            sent: "b3: $T-$S2-1
                   grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE=",
            left: "b3: $T-$S2-1
                   grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AeRXtaLk2GvRAgE=",
            counted: &[Counter::ExtractedB3, Counter::ConflictSpanId],
        },
        Row {
            promise: "malformed, it is not forwarded",
            config: r#"{"extract": ["grpc-trace-bin"]}"#,
            sent: "grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3",
            left: "",
            counted: &[Counter::Missing, Counter::MalformedGrpcTraceBin],
        },
        Row {
            promise: "however long",
            config: r#"{"extract": ["grpc-trace-bin"]}"#,
            sent: "grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgEAAABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE=",
            left: "",
            counted: &[Counter::Missing, Counter::MalformedGrpcTraceBin],
        },
    ]);
}

// Opaque, or of ids that are no numbers: there is nothing to convert.
