//! The headers that carry trace context, each name written once.

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident = $name:literal,)*) => {
        /// A header that carries trace context, in any format in use.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Field {
            $($(#[$doc])* $field,)*
        }

        impl Field {
            /// Every known header.
            pub const ALL: &'static [Self] = &[$(Self::$field,)*];
            pub(crate) const COUNT: usize = Self::ALL.len();

            /// The header's name, lower-case.
            #[must_use]
            pub const fn name(self) -> &'static [u8] {
                match self {
                    $(Self::$field => $name,)*
                }
            }

            /// The field whose lower-case name is `name`.
            #[must_use]
            pub fn from_name(name: &[u8]) -> Option<Self> {
                match name {
                    $($name => Some(Self::$field),)*
                    _ => None,
                }
            }
        }
    };
}

fields! {
    /// W3C Trace Context, section 3.2.
    Traceparent = b"traceparent",
    /// W3C Trace Context, section 3.3.
    Tracestate = b"tracestate",
    /// B3, "Single Header".
    B3 = b"b3",
    /// B3, "Multiple Headers".
    XB3TraceId = b"x-b3-traceid",
    /// B3, "Multiple Headers".
    XB3SpanId = b"x-b3-spanid",
    /// B3, "Multiple Headers".
    XB3ParentSpanId = b"x-b3-parentspanid",
    /// B3, "Multiple Headers".
    XB3Sampled = b"x-b3-sampled",
    /// B3, "Multiple Headers": `1` is the debug flag.
    XB3Flags = b"x-b3-flags",
    /// Jaeger.
    UberTraceId = b"uber-trace-id",
    /// OpenTracing basic tracers.
    OtTracerTraceId = b"ot-tracer-traceid",
    /// OpenTracing basic tracers.
    OtTracerSpanId = b"ot-tracer-spanid",
    /// OpenTracing basic tracers.
    OtTracerSampled = b"ot-tracer-sampled",
    /// LightStep's opaque context.
    XOtSpanContext = b"x-ot-span-context",
    /// AWS X-Ray.
    XAmznTraceId = b"x-amzn-trace-id",
    /// Google Cloud Trace.
    XCloudTraceContext = b"x-cloud-trace-context",
    /// Datadog.
    XDatadogTraceId = b"x-datadog-trace-id",
    /// Datadog.
    XDatadogParentId = b"x-datadog-parent-id",
    /// Datadog.
    XDatadogSamplingPriority = b"x-datadog-sampling-priority",
    /// Datadog.
    XDatadogOrigin = b"x-datadog-origin",
    /// Datadog.
    XDatadogTags = b"x-datadog-tags",
    /// OpenCensus' binary form over gRPC.
    GrpcTraceBin = b"grpc-trace-bin",
    /// SkyWalking: of its headers the one that names a trace.
    Sw8 = b"sw8",
}

impl Field {
    /// The headers of formats that cannot be converted: they pass, or go.
    #[cfg(test)]
    pub(crate) const UNCONVERTIBLE: &'static [Self] = &[Self::XOtSpanContext, Self::Sw8];
}

/// A set of headers that carry trace context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(u32);

const _: () = assert!(Field::COUNT <= 32, "a set has 32 bits");

impl FieldSet {
    pub(crate) fn insert(&mut self, field: Field) {
        self.0 |= 1 << (field as u8);
    }

    /// Whether `field` is one of them.
    #[must_use]
    pub fn contains(self, field: Field) -> bool {
        self.0 & (1 << (field as u8)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn every_field_is_of_a_format_or_cannot_be_converted() {
        for field in Field::ALL {
            let formats = Format::ALL.iter();
            let of_a_format = formats
                .filter(|format| format.fields().contains(field))
                .count();
            let unconvertible = Field::UNCONVERTIBLE.contains(field);
            assert_eq!(of_a_format, usize::from(!unconvertible), "{field:?}");
        }
    }

    #[test]
    fn every_name_finds_its_field_and_is_lower_case() {
        for field in Field::ALL {
            assert_eq!(Field::from_name(field.name()), Some(*field));
            assert_eq!(field.name(), field.name().to_ascii_lowercase());
        }
        assert_eq!(Field::from_name(b"x-request-id"), None);
        assert_eq!(Field::from_name(b""), None);
    }
}
