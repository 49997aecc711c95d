//! The table of formats. It has everything about a format that is outside the format's own file.
//!
//! A row gives the variant of [`Format`](super::Format) and its names, the variants of
//! [`Field`](crate::Field), the variants of [`Counter`](crate::Counter), the value in the JSON
//! Schema, the fuzz target's choice and the rows of `docs/trace_context.md`.
//!
//! To add a format: write its file beside this one and name it in `format/mod.rs`, add a row here,
//! cases to `tests/vectors.json`, and a seed to `crates/fuzz-targets/corpus/format`. The tests of
//! `tests/documentation.rs` say how to write the documentation's tables anew.
//!
//! The keys of a row:
//!
//! | key | is |
//! |---|---|
//! | `file` | the module that reads and writes the format; `format/mod.rs` lists what it has |
//! | `name` | the name in configurations |
//! | `headers` | the variant of `Field` and the name of each header, the one with the trace id first |
//! | `shown` | the headers, as documentation shows them |
//! | `extracted`, `malformed` | the variant of `Counter` and the name of each counter |
//! | `only` | the start of the name of the counters of requests with this format alone |

/// Hands the rows to the macro `$of`.
macro_rules! formats {
    ($of:ident) => {
        $of! {
            /// `traceparent` and `tracestate` (W3C Trace Context, Levels 1 and 2).
            Tracecontext {
                file: tracecontext,
                name: "tracecontext",
                headers: { Traceparent = b"traceparent", Tracestate = b"tracestate" },
                shown: "`traceparent`",
                extracted: ExtractedTracecontext = "extracted.tracecontext",
                malformed: MalformedTraceparent = "malformed.traceparent",
                only: "only.tracecontext",
            }
            /// `b3` (B3, "Single Header").
            B3 {
                file: b3_single,
                name: "b3",
                headers: { B3 = b"b3" },
                shown: "`b3`",
                extracted: ExtractedB3 = "extracted.b3",
                malformed: MalformedB3 = "malformed.b3",
                only: "only.b3",
            }
            /// `x-b3-traceid` and its siblings (B3, "Multiple Headers").
            B3Multi {
                file: b3_multi,
                name: "b3multi",
                headers: {
                    XB3TraceId = b"x-b3-traceid",
                    XB3SpanId = b"x-b3-spanid",
                    XB3ParentSpanId = b"x-b3-parentspanid",
                    XB3Sampled = b"x-b3-sampled",
                    XB3Flags = b"x-b3-flags"
                },
                shown: "`x-b3-*`",
                extracted: ExtractedB3Multi = "extracted.b3multi",
                malformed: MalformedB3Multi = "malformed.b3multi",
                only: "only.b3multi",
            }
            /// `uber-trace-id` (Jaeger client libraries, "Propagation Format").
            Jaeger {
                file: jaeger,
                name: "jaeger",
                headers: { UberTraceId = b"uber-trace-id" },
                shown: "`uber-trace-id`",
                extracted: ExtractedJaeger = "extracted.jaeger",
                malformed: MalformedJaeger = "malformed.jaeger",
                only: "only.jaeger",
            }
            /// `ot-tracer-traceid` and its siblings (OpenTracing basic tracers).
            Ottrace {
                file: ottrace,
                name: "ottrace",
                headers: {
                    OtTracerTraceId = b"ot-tracer-traceid",
                    OtTracerSpanId = b"ot-tracer-spanid",
                    OtTracerSampled = b"ot-tracer-sampled"
                },
                shown: "`ot-tracer-*`",
                extracted: ExtractedOttrace = "extracted.ottrace",
                malformed: MalformedOttrace = "malformed.ottrace",
                only: "only.ottrace",
            }
            /// `x-amzn-trace-id` (AWS X-Ray, "Tracing header").
            Xray {
                file: xray,
                name: "xray",
                headers: { XAmznTraceId = b"x-amzn-trace-id" },
                shown: "`x-amzn-trace-id`",
                extracted: ExtractedXray = "extracted.xray",
                malformed: MalformedXray = "malformed.xray",
                only: "only.xray",
            }
            /// `x-cloud-trace-context` (Google Cloud Trace, "Legacy trace context format").
            Gcp {
                file: gcp,
                name: "gcp",
                headers: { XCloudTraceContext = b"x-cloud-trace-context" },
                shown: "`x-cloud-trace-context`",
                extracted: ExtractedGcp = "extracted.gcp",
                malformed: MalformedGcp = "malformed.gcp",
                only: "only.gcp",
            }
            /// `x-datadog-trace-id` and its siblings (Datadog, "Trace Context Propagation").
            Datadog {
                file: datadog,
                name: "datadog",
                headers: {
                    XDatadogTraceId = b"x-datadog-trace-id",
                    XDatadogParentId = b"x-datadog-parent-id",
                    XDatadogSamplingPriority = b"x-datadog-sampling-priority",
                    XDatadogOrigin = b"x-datadog-origin",
                    XDatadogTags = b"x-datadog-tags"
                },
                shown: "`x-datadog-*`",
                extracted: ExtractedDatadog = "extracted.datadog",
                malformed: MalformedDatadog = "malformed.datadog",
                only: "only.datadog",
            }
            /// `grpc-trace-bin` (OpenCensus, "BinaryEncoding").
            GrpcTraceBin {
                file: grpc_trace_bin,
                name: "grpc-trace-bin",
                headers: { GrpcTraceBin = b"grpc-trace-bin" },
                shown: "`grpc-trace-bin`",
                extracted: ExtractedGrpcTraceBin = "extracted.grpc_trace_bin",
                malformed: MalformedGrpcTraceBin = "malformed.grpc_trace_bin",
                only: "only.grpc_trace_bin",
            }
        }
    };
}

pub(crate) use formats;
