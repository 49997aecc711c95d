//! What a person says of their proxies.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use meshtrace_propagation::format::Format;
use meshtrace_render::{EnvoyVersion, IstioVersion, ProxyTracer, Tracer};

/// All answers.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    pub(super) proxy: Proxy,
    pub(super) tracer: TracerName,
    pub(super) formats: Formats,
    pub(super) place: Place,
    pub(super) logs: bool,
    pub(super) attributes: Vec<Attribute>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxy {
    Envoy(EnvoyVersion),
    Istio(IstioVersion),
    Gateway,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Envoy(version) => version.fmt(f),
            Self::Istio(version) => version.fmt(f),
            Self::Gateway => f.write_str("Envoy Gateway"),
        }
    }
}

impl FromStr for Proxy {
    type Err = String;

    /// `envoy 1.40`, `istio 1.31` or `envoy-gateway`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.to_ascii_lowercase();
        let (name, version) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let version = version.trim();
        let wrong = |error: &dyn fmt::Display| format!("{version:?}: {error}");
        match name {
            "envoy" if version == "gateway" => Ok(Self::Gateway),
            "envoy" => version
                .parse()
                .map(Self::Envoy)
                .map_err(|error| wrong(&error)),
            "istio" => version
                .parse()
                .map(Self::Istio)
                .map_err(|error| wrong(&error)),
            "envoy-gateway" | "gateway" => Ok(Self::Gateway),
            _ => Err("expected \"envoy 1.40\", \"istio 1.31\" or \"envoy-gateway\"".to_owned()),
        }
    }
}

/// The tracer that there is, or is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TracerName {
    /// envoy.tracers.opentelemetry
    #[value(aliases = ["otel", "tracecontext", "w3c"])]
    Opentelemetry,
    /// envoy.tracers.zipkin with USE_B3, its default
    #[value(aliases = ["b3", "zipkin-b3", "zipkin_b3"])]
    Zipkin,
    /// envoy.tracers.zipkin with USE_B3_WITH_W3C_PROPAGATION
    #[value(aliases = ["zipkin_with_w3c", "zipkin-w3c", "zipkin_w3c", "b3-with-w3c", "b3_with_w3c"])]
    ZipkinWithW3c,
    /// None, or one that is turned off: mesh_tracing.wasm is the tracer
    None,
    /// libmeshtrace.so, in Envoy 1.38 and later
    Native,
}

impl TracerName {
    /// The proxy's own tracer, where it has one of Envoy's.
    pub(super) fn own(self) -> Option<Tracer> {
        match self {
            Self::Opentelemetry => Some(Tracer::OpenTelemetry),
            Self::Zipkin => Some(Tracer::ZipkinB3),
            Self::ZipkinWithW3c => Some(Tracer::ZipkinB3WithW3c),
            Self::None | Self::Native => None,
        }
    }

    /// As the library for rendering wants it told. A filter that reports tells it itself.
    pub(super) fn beside(self) -> Option<ProxyTracer> {
        self.own().map(ProxyTracer::Some)
    }

    /// The formats that it reads and writes.
    pub(super) const fn formats(self) -> &'static [&'static str] {
        match self {
            Self::Opentelemetry => &["tracecontext"],
            Self::Zipkin => &["b3multi"],
            Self::ZipkinWithW3c => &["b3multi", "tracecontext"],
            Self::None | Self::Native => &[],
        }
    }
}

/// Names of formats, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Formats(pub(super) Vec<&'static str>);

impl Default for Formats {
    fn default() -> Self {
        Self(vec!["tracecontext", "b3multi"])
    }
}

impl FromStr for Formats {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut formats = Vec::new();
        for word in text.split([',', ' ']).filter(|word| !word.is_empty()) {
            let name = match word.to_ascii_lowercase().as_str() {
                "w3c" | "otel" | "opentelemetry" => "tracecontext".to_owned(),
                "zipkin" => "b3multi".to_owned(),
                other => other.to_owned(),
            };
            let known = Format::ALL.iter().find(|format| format.name() == name);
            let Some(format) = known else {
                let names: Vec<_> = Format::ALL.iter().map(|format| format.name()).collect();
                return Err(format!("{word:?}: expected some of {}", names.join(", ")));
            };
            if !formats.contains(&format.name()) {
                formats.push(format.name());
            }
        }
        match formats.is_empty() {
            true => Err("expected a format, such as tracecontext".to_owned()),
            false => Ok(Self(formats)),
        }
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Place {
    /// Clients from outside send requests, and are not believed
    Edge,
    /// Other services send requests, and are believed
    Inside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum YesNo {
    #[value(alias = "y")]
    Yes,
    #[value(alias = "n")]
    No,
}

/// An attribute of spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) key: String,
    pub(super) header: String,
}

/// Those that most want.
pub(super) fn usual_attributes() -> Vec<Attribute> {
    attributes(USUAL).unwrap_or_default()
}

const USUAL: &str = "user.id=x-user-id,tenant.id=x-tenant-id";

/// Reads `KEY=HEADER,KEY=HEADER`, or `none`.
pub(super) fn attributes(text: &str) -> Result<Vec<Attribute>, String> {
    if text.trim().eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    let words = text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    words
        .map(|word| match word.split_once('=') {
            Some((key, header)) if !key.is_empty() && !header.is_empty() => Ok(Attribute {
                key: key.to_owned(),
                header: header.to_ascii_lowercase(),
            }),
            _ => Err(format!(
                "{word:?}: expected KEY=HEADER, such as user.id=x-user-id; or none"
            )),
        })
        .collect()
}
