//! The header block of an export call.

use meshtrace_config::ConfigError;
use meshtrace_headers::{NameRefusal, field_value, is_token, written_name};

use crate::config::{Compression, Protocol, ReportConfig};

/// gRPC's path of the one method (`opentelemetry.proto.collector.trace.v1.TraceService`).
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Most headers besides those of the protocol.
const MAX_HEADERS: usize = 16;
/// What Envoy itself adds to a call: `:scheme`, `content-length`, `x-envoy-*`, `x-forwarded-*` and
/// `x-request-id` took about 300 bytes. A proxy in front of the collector may add as much.
const OF_ENVOY: usize = 1024;
/// The most that the headers of an export call take together, names and values, in bytes. With what
/// Envoy adds it is what Envoy accepts in a request by default (`max_request_headers_kb`, 60). A
/// collector that refuses the headers of one call refuses those of all.
pub const MAX_HEADER_BYTES: usize = 60 * 1024 - OF_ENVOY;
const USER_AGENT: &str = concat!("meshtrace/", env!("CARGO_PKG_VERSION"));

/// Compiles the header block that `config` requires, serialised in the form of the host.
pub(crate) fn compile(config: &ReportConfig) -> Result<Box<[u8]>, ConfigError> {
    let path = match (config.protocol, config.path.as_deref()) {
        (Protocol::Grpc, None) => GRPC_PATH,
        (Protocol::Grpc, Some(_)) => {
            return Err(ConfigError::new(
                "path",
                "not with protocol \"grpc\", whose path is fixed",
            ));
        }
        (Protocol::HttpProtobuf, None) => "/v1/traces",
        (Protocol::HttpProtobuf, Some(path)) if path.starts_with('/') && is_visible(path) => path,
        (Protocol::HttpProtobuf, Some(_)) => {
            return Err(ConfigError::new(
                "path",
                "invalid value (not repeated, it may be confidential), expected a path such as \"/v1/traces\"",
            ));
        }
    };
    let is_host = |text: &str| !text.is_empty() && is_visible(text);
    let authority = match config.authority.as_deref() {
        Some(authority) if is_host(authority) && !authority.contains(['/', '@', '?', '#']) => {
            authority
        }
        Some(_) => {
            return Err(ConfigError::new(
                "authority",
                "invalid value (not repeated, it may be confidential), expected a host",
            ));
        }
        // Istio: outbound|4318||otel-collector.observability.svc.cluster.local
        None => match config.cluster.rsplit('|').next() {
            Some(host) if is_host(host) => host,
            _ => {
                let refusal = ConfigError::new(
                    "authority",
                    format!(
                        "missing, and the cluster's name, {:?}, has no host in it; expected a host",
                        config.cluster
                    ),
                );
                return Err(refusal.judged_by("cluster"));
            }
        },
    };
    let mut lines = vec![
        (":method", "POST"),
        (":path", path),
        (":authority", authority),
    ];
    match config.protocol {
        Protocol::HttpProtobuf => lines.push(("content-type", "application/x-protobuf")),
        Protocol::Grpc => lines.extend([("content-type", "application/grpc"), ("te", "trailers")]),
    }
    match (config.compression, config.protocol) {
        (None, _) => {}
        (Some(Compression::Gzip), Protocol::HttpProtobuf) => {
            lines.push(("content-encoding", "gzip"));
        }
        (Some(Compression::Gzip), Protocol::Grpc) => lines.push(("grpc-encoding", "gzip")),
    }
    lines.push(("user-agent", USER_AGENT));
    let fixed: Vec<_> = lines.iter().map(|(name, _)| *name).collect();
    if config.headers.len() > MAX_HEADERS {
        return Err(ConfigError::new(
            "headers",
            format!("too many headers; expected at most {MAX_HEADERS}"),
        ));
    }
    let further: Vec<_> = config
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let mut values = Vec::new();
    for (i, (name, value)) in further.iter().enumerate() {
        let mut earlier = further.iter().take(i);
        if is_token(name.as_bytes()) && earlier.any(|(other, _)| other == name) {
            return Err(ConfigError::new(
                format!("headers.{name}"),
                "there twice, in another case; expected each header once",
            ));
        }
        // `compression` decides the one, and the headers of gRPC belong to the protocol.
        let is_encoding = name == "content-encoding" || name.starts_with("grpc-");
        if is_encoding || fixed.contains(&name.as_str()) && name != "user-agent" {
            return Err(ConfigError::new(
                format!("headers.{name}"),
                "the protocol decides it",
            ));
        }
        match written_name(name) {
            Ok(_) => {}
            // A whole line, with a secret in it, may have been written in the place of a name.
            Err(refusal @ NameRefusal::NotAToken) => {
                let message =
                    format!("invalid name (not repeated, it may be confidential), {refusal}");
                return Err(ConfigError::new("headers", message));
            }
            Err(refusal) => {
                let message = format!("invalid name: string {name:?}, {refusal}");
                return Err(ConfigError::new("headers", message));
            }
        }
        let text = field_value(value.as_bytes()).filter(|text| text.is_ascii());
        let text = text.and_then(|text| str::from_utf8(text).ok());
        let text = text.ok_or_else(|| {
            // The value may be a secret.
            ConfigError::new(
                format!("headers.{name}"),
                "invalid value, expected printable ASCII",
            )
        })?;
        values.push((name.as_str(), text));
    }
    lines.retain(|(name, _)| further.iter().all(|(other, _)| other != name));
    lines.extend(values);
    refuse_too_large(&lines)?;
    Ok(meshtrace_headers::encode(&lines).into_boxed_slice())
}

/// Refuses headers that are too large. The error has only the key and sizes: the values may be
/// secrets.
fn refuse_too_large(lines: &[(&str, &str)]) -> Result<(), ConfigError> {
    let length = |(name, value): &(&str, &str)| name.len() + value.len();
    let size: usize = lines.iter().map(length).sum();
    if size <= MAX_HEADER_BYTES {
        return Ok(());
    }
    let largest = lines.iter().max_by_key(|line| length(line));
    let key = match largest.map(|(name, _)| *name) {
        Some(":path") => "path",
        Some(":authority") => "authority",
        _ => "headers",
    };
    Err(ConfigError::new(
        key,
        format!(
            "too large: the headers of an export call would take {size} bytes, expected at most \
             {MAX_HEADER_BYTES}"
        ),
    ))
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}
