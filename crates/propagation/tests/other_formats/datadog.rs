//! Datadog.

use meshtrace_propagation::Counter;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::common::{Row, check};

#[test]
fn it_is_read_and_written_beside_other_formats() {
    check(&[
        Row {
            promise: "a right context stays to the letter, with its origin, its tags and the user's priority",
            config: r#"{"extract": ["datadog"], "inject": ["datadog", "tracecontext"]}"#,
            sent: "x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 2
                   x-datadog-origin: synthetics
                   x-datadog-tags: _dd.p.dm=-4,_dd.p.tid=4bf92f3577b34da6,_dd.p.usr.id=x",
            left: "x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 2
                   x-datadog-origin: synthetics
                   x-datadog-tags: _dd.p.dm=-4,_dd.p.tid=4bf92f3577b34da6,_dd.p.usr.id=x
                   traceparent: 00-$T-$S-01",
            counted: &[Counter::ExtractedDatadog],
        },
        Row {
            promise: "without a left half there is no tag",
            config: r#"{"inject": ["datadog"]}"#,
            sent: "b3: a3ce929d0e0e4736-$S-d",
            left: "b3: a3ce929d0e0e4736-$S-d
                   x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 1",
            counted: &[Counter::ExtractedB3],
        },
        Row {
            promise: "a left half that another format knows joins the tags",
            config: r#"{"extract": ["datadog", "tracecontext"], "inject": []}"#,
            sent: "traceparent: 00-$T-$S-01
                   x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 1
                   x-datadog-tags: _dd.p.dm=-1",
            left: "traceparent: 00-$T-$S-01
                   x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 1
                   x-datadog-tags: _dd.p.tid=4bf92f3577b34da6,_dd.p.dm=-1",
            counted: &[Counter::ExtractedDatadog],
        },
        Row {
            promise: "tags that have no room beside it are left out whole",
            config: r#"{"extract": ["datadog", "tracecontext"], "inject": []}"#,
            sent: "traceparent: 00-$T-$S-01
                   x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 1
                   x-datadog-tags: _dd.p.usr.id=0123456789012345678901234567890123456789012345678901234567890,_dd.p.dm=-1",
            left: "traceparent: 00-$T-$S-01
                   x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 1
                   x-datadog-tags: _dd.p.tid=4bf92f3577b34da6,_dd.p.dm=-1",
            counted: &[Counter::ExtractedDatadog],
        },
        Row {
            promise: "a malformed left half goes, and the trace stays",
            config: r#"{"extract": ["datadog"], "inject": ["tracecontext"]}"#,
            sent: "x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: -1
                   x-datadog-tags: _dd.p.dm=-1,_dd.p.tid=4BF92F3577B34DA6",
            left: "x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: -1
                   x-datadog-tags: _dd.p.dm=-1
                   traceparent: 00-0000000000000000a3ce929d0e0e4736-$S-00",
            counted: &[Counter::ExtractedDatadog],
        },
        Row {
            promise: "without a priority the decision is open; an unknown one is none",
            config: r#"{"extract": ["datadog"], "inject": ["b3"]}"#,
            sent: "x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: yes",
            left: "x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   b3: 0000000000000000a3ce929d0e0e4736-$S",
            counted: &[Counter::ExtractedDatadog, Counter::Deferred],
        },
        Row {
            promise: "an open decision stays open",
            config: r#"{"inject": ["datadog"]}"#,
            sent: "b3: $T-$S",
            left: "b3: $T-$S
                   x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-tags: _dd.p.tid=4bf92f3577b34da6",
            counted: &[Counter::ExtractedB3, Counter::Deferred],
        },
        Row {
            promise: "another trace: it follows the chosen one, and its origin and tags go",
            config: r#"{"extract": ["b3", "datadog"], "inject": []}"#,
            sent: "b3: $T-$S-1
                   x-datadog-trace-id: 1
                   x-datadog-parent-id: 2
                   x-datadog-sampling-priority: 2
                   x-datadog-origin: rum
                   x-datadog-tags: _dd.p.dm=-4",
            left: "b3: $T-$S-1
                   x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 1
                   x-datadog-tags: _dd.p.tid=4bf92f3577b34da6",
            counted: &[Counter::ExtractedB3, Counter::ConflictTraceId],
        },
        Row {
            promise: "a trace id that ends in zeros cannot be told",
            config: r#"{"extract": ["b3", "datadog"], "inject": ["datadog"]}"#,
            sent: "b3: 4bf92f3577b34da60000000000000000-$S-1
                   x-datadog-trace-id: 1
                   x-datadog-parent-id: 2",
            left: "b3: 4bf92f3577b34da60000000000000000-$S-1",
            counted: &[Counter::ExtractedB3, Counter::ConflictTraceId],
        },
        Row {
            promise: "a trace that begins at the caller is no context, and passes",
            config: r#"{"extract": ["datadog"]}"#,
            sent: "x-datadog-trace-id: 1
                   x-datadog-parent-id: 0
                   x-datadog-sampling-priority: 1
                   x-datadog-origin: synthetics",
            left: "x-datadog-trace-id: 1
                   x-datadog-parent-id: 0
                   x-datadog-sampling-priority: 1
                   x-datadog-origin: synthetics",
            counted: &[Counter::Missing, Counter::Incomplete],
        },
        Row {
            promise: "malformed, it is not forwarded",
            config: r#"{"extract": ["datadog"]}"#,
            sent: "x-datadog-parent-id: 2
                   x-datadog-sampling-priority: 1
                   x-datadog-origin: rum",
            left: "",
            counted: &[Counter::Missing, Counter::MalformedDatadog],
        },
    ]);
}
