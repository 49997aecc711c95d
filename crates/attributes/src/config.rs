//! The configuration as it is written.

use core::fmt;

use meshtrace_config::RequestHeaders;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Most attributes of one configuration.
pub const MAX_ATTRIBUTES: usize = 32;
/// The longest value that leaves, in bytes.
pub const MAX_VALUE: usize = 256;

/// The configuration of `span_attributes.wasm`. Every key is optional.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SpanAttributesConfig {
    /// The attributes, at most 32. Default: `user.id` from the header `x-user-id` and `tenant.id`
    /// from `x-tenant-id`.
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub attributes: Vec<AttributeConfig>,
    /// Where the attributes are written.
    pub emit: EmitConfig,
    /// How the request's headers are changed: `edit`, or `filter_state` with what `meshtrace render
    /// request-headers` prints. Default `edit`.
    pub request_headers: Option<RequestHeaders>,
}

impl Default for SpanAttributesConfig {
    fn default() -> Self {
        let from_header = |key: &str, header: &str| AttributeConfig {
            key: key.to_owned(),
            from: SourceConfig::Header(header.to_owned()),
            transform: Vec::new(),
            default: None,
            max_length: None,
        };
        Self {
            attributes: vec![
                from_header("user.id", "x-user-id"),
                from_header("tenant.id", "x-tenant-id"),
            ],
            emit: EmitConfig::default(),
            request_headers: None,
        }
    }
}

/// One attribute.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AttributeConfig {
    /// The name on the span: letters, digits, `.`, `_` and `-`, a letter first, at most 64
    /// characters.
    #[cfg_attr(
        feature = "schema",
        schemars(length(max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9._-]*$"))
    )]
    pub key: String,
    /// Where the value comes from.
    pub from: SourceConfig,
    /// The transformations of the value, in order.
    #[serde(default)]
    pub transform: Vec<TransformConfig>,
    /// The value where the source has none. It is not transformed.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 256)))]
    pub default: Option<String>,
    /// The longest value in bytes, 1 to 256. Default 256. A longer value is cut between characters.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 256)))]
    pub max_length: Option<usize>,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub enum SourceConfig {
    /// The first line of a request header.
    Header(String),
    /// The first line of a response header.
    ResponseHeader(String),
    /// A cookie of the request.
    Cookie(String),
    /// A parameter of the query, percent-decoded.
    Query(String),
    /// A segment of the path, percent-decoded.
    Path {
        /// Segments: text, `{name}` for any one that is not empty, `*` likewise without a name, and
        /// at the end `**` for any number.
        path: String,
        /// The name of the segment to take.
        capture: String,
    },
    /// A member of the `baggage` header, percent-decoded.
    Baggage(String),
    /// A claim of a JSON Web Token, decoded and not verified.
    JwtClaim(JwtClaimConfig),
    /// A property of the host, such as `["xds", "cluster_name"]`.
    Property(Vec<String>),
    /// A variable of the VM's environment, read at start.
    Env(String),
    /// A fixed text.
    Literal(String),
}

/// When a value can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// When the request's headers have come.
    Request,
    /// When the response's headers have come, local replies included.
    Response,
}

impl SourceConfig {
    /// The sources' names, as a refusal lists them.
    const NAMES: &'static str = "`header`, `response_header`, `cookie`, `query`, `path` (with \
                                 `capture`), `baggage`, `jwt_claim`, `property`, `env`, `literal`";

    /// When the value can be read: a property by the first element of its path.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Self::ResponseHeader(_) => Phase::Response,
            Self::Property(path) => match path.first().map(String::as_str) {
                Some("response" | "upstream") => Phase::Response,
                _ => Phase::Request,
            },
            _ => Phase::Request,
        }
    }
}

/// A claim of a JSON Web Token.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JwtClaimConfig {
    /// The request header with the token, after `Bearer ` or alone. Default `authorization`.
    #[serde(default = "authorization")]
    pub header: String,
    /// The claim: its name, or the names that lead to it through objects.
    #[serde(deserialize_with = "one_or_more")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::OneOrMore"))]
    pub claim: Vec<String>,
}

fn authorization() -> String {
    "authorization".to_owned()
}

/// A transformation of a value.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TransformConfig {
    /// Makes every letter lower-case.
    Lowercase,
    /// Removes white space from both ends.
    Trim,
    /// Cuts the value to at most this number of bytes, 1 to 256, between characters.
    Truncate(#[cfg_attr(feature = "schema", schemars(range(min = 1, max = 256)))] usize),
    /// Replaces the value by its keyed hash (HMAC-SHA-256, RFC 2104), 64 lower-case hexadecimal
    /// digits.
    HmacSha256(HmacConfig),
    /// Replaces every match of a pattern.
    Replace(ReplaceConfig),
    /// Keeps a value that is listed. Any other value gives way to the default, or the attribute is
    /// left out.
    Allow(#[cfg_attr(feature = "schema", schemars(length(min = 1, max = 256)))] Vec<String>),
}

/// The key of a hash.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HmacConfig {
    /// The environment variable of the VM that holds the key. Without a value the attribute is left
    /// out.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub key_env: String,
}

/// A pattern and its replacement.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReplaceConfig {
    /// A regular expression in the syntax of the crate `regex-lite`, at most 256 bytes.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub pattern: String,
    /// The text in place of each match; `$1` or `${name}` is a group of the match, `$$` a dollar.
    pub with: String,
}

/// Where attributes are written.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct EmitConfig {
    /// Whether they are written as filter state `wasm.<key>`. Default true.
    pub filter_state: bool,
    /// The prefix of the request headers that they are written as: the prefix, then the key in
    /// lower case with dashes for dots. Default none.
    #[cfg_attr(
        feature = "schema",
        schemars(length(max = 64), regex(pattern = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]*-$"))
    )]
    pub request_header_prefix: Option<String>,
    /// Whether they are written as members of the `baggage` header. Default false.
    pub baggage: bool,
}

impl Default for EmitConfig {
    fn default() -> Self {
        Self {
            filter_state: true,
            request_header_prefix: None,
            baggage: false,
        }
    }
}

/// The request header that carries the attribute `key`.
#[must_use]
pub fn header_name(prefix: &str, key: &str) -> String {
    format!("{prefix}{key}")
        .to_ascii_lowercase()
        .replace('.', "-")
}

impl<'de> Deserialize<'de> for SourceConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SourceVisitor;

        impl<'de> Visitor<'de> for SourceVisitor {
            type Value = SourceConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one source: one of ")?;
                f.write_str(SourceConfig::NAMES)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SourceConfig, A::Error> {
                let mut source = None;
                let mut path = None;
                let mut capture = None;
                while let Some(name) = map.next_key::<String>()? {
                    let next = match name.as_str() {
                        "header" => SourceConfig::Header(map.next_value()?),
                        "response_header" => SourceConfig::ResponseHeader(map.next_value()?),
                        "cookie" => SourceConfig::Cookie(map.next_value()?),
                        "query" => SourceConfig::Query(map.next_value()?),
                        "path" => {
                            path = Some(map.next_value()?);
                            continue;
                        }
                        "capture" => {
                            capture = Some(map.next_value()?);
                            continue;
                        }
                        "baggage" => SourceConfig::Baggage(map.next_value()?),
                        "jwt_claim" => SourceConfig::JwtClaim(map.next_value()?),
                        "property" => SourceConfig::Property(map.next_value()?),
                        "env" => SourceConfig::Env(map.next_value()?),
                        "literal" => SourceConfig::Literal(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            return Err(A::Error::custom(format!(
                                "unknown source {name:?}, expected one of {}",
                                SourceConfig::NAMES
                            )));
                        }
                    };
                    if source.replace(next).is_some() {
                        return Err(A::Error::custom(
                            "more than one source, expected one; an attribute of two sources is \
                             two attributes",
                        ));
                    }
                }
                match (source, path, capture) {
                    (Some(source), None, None) => Ok(source),
                    (None, Some(path), Some(capture)) => Ok(SourceConfig::Path { path, capture }),
                    (None, Some(_), None) => Err(A::Error::missing_field("capture")),
                    (None, None, Some(_)) => Err(A::Error::missing_field("path")),
                    (None, None, None) => Err(A::Error::custom(format!(
                        "no source, expected one of {}",
                        SourceConfig::NAMES
                    ))),
                    (Some(_), _, _) => Err(A::Error::custom("more than one source, expected one")),
                }
            }
        }

        deserializer.deserialize_map(SourceVisitor)
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct NamesVisitor;

    impl<'de> Visitor<'de> for NamesVisitor {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the name of a claim, or a list of the names that lead to it")
        }

        fn visit_str<E: Error>(self, name: &str) -> Result<Vec<String>, E> {
            Ok(vec![name.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let mut names = Vec::new();
            while let Some(name) = list.next_element()? {
                names.push(name);
            }
            Ok(names)
        }
    }

    deserializer.deserialize_any(NamesVisitor)
}
