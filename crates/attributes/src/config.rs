//! The configuration as it is written.

use meshtrace_config::{Kind, Read, RequestHeaders, Value, object};

/// Most attributes of one configuration.
pub const MAX_ATTRIBUTES: usize = 32;
/// The longest value that leaves, in bytes.
pub const MAX_VALUE: usize = 256;

/// The configuration of `span_attributes.wasm`. Every key is optional.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
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
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields)
)]
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
    /// The transformations of the value, in order, at most 64.
    #[cfg_attr(feature = "schema", schemars(default, length(max = 64)))]
    pub transform: Vec<TransformConfig>,
    /// The value where the source has none. It is not transformed.
    #[cfg_attr(feature = "schema", schemars(default, length(min = 1, max = 256)))]
    pub default: Option<String>,
    /// The longest value in bytes, 1 to 256. Default 256. A longer value is cut between characters.
    #[cfg_attr(feature = "schema", schemars(default, range(min = 1, max = 256)))]
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
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields)
)]
pub struct JwtClaimConfig {
    /// The request header with the token, after `Bearer ` or alone. Default `authorization`.
    #[cfg_attr(feature = "schema", schemars(default = "authorization"))]
    pub header: String,
    /// The claim: its name, or the names that lead to it through objects.
    pub claim: ClaimConfig,
}

impl Default for JwtClaimConfig {
    fn default() -> Self {
        Self {
            header: authorization(),
            claim: ClaimConfig::default(),
        }
    }
}

fn authorization() -> String {
    "authorization".to_owned()
}

/// The name of a claim, or the names that lead to it through objects.
#[derive(Clone, Debug, Default)]
pub struct ClaimConfig(pub Vec<String>);

/// A transformation of a value.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
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
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields)
)]
pub struct HmacConfig {
    /// The environment variable of the VM that holds the key. Without a value the attribute is left
    /// out.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub key_env: String,
}

/// A pattern and its replacement.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields)
)]
pub struct ReplaceConfig {
    /// A regular expression in RE2's syntax, with classes of ASCII, at most 256 bytes.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub pattern: String,
    /// The text in place of each match, at most 1,024 bytes; `$1` or `${name}` is a group of the
    /// match, `$$` a dollar.
    #[cfg_attr(feature = "schema", schemars(length(max = 1024)))]
    pub with: String,
}

/// Where attributes are written.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
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

object!(SpanAttributesConfig {
    attributes,
    emit,
    request_headers,
});

object!(AttributeConfig {
    key: required,
    from: required,
    transform,
    default,
    max_length,
});

object!(JwtClaimConfig {
    header,
    claim: required,
});

object!(HmacConfig { key_env: required });

object!(ReplaceConfig {
    pattern: required,
    with: required,
});

object!(EmitConfig {
    filter_state,
    request_header_prefix,
    baggage,
});

impl Default for SourceConfig {
    fn default() -> Self {
        Self::Literal(String::new())
    }
}

impl Read for SourceConfig {
    fn read(value: Value<'_>) -> Self {
        if value.kind() != Kind::Object {
            let names = Self::NAMES;
            value.refuse_kind(&format!("an object with one source: one of {names}"));
            return Self::default();
        }
        let (mut source, mut path, mut capture) = (None, None, None);
        let (mut is_known, mut is_one) = (true, true);
        value.map(&mut |name, value| {
            let next = match name {
                "header" => Self::Header(Read::read(value)),
                "response_header" => Self::ResponseHeader(Read::read(value)),
                "cookie" => Self::Cookie(Read::read(value)),
                "query" => Self::Query(Read::read(value)),
                "path" => return path = Some(String::read(value)),
                "capture" => return capture = Some(String::read(value)),
                "baggage" => Self::Baggage(Read::read(value)),
                "jwt_claim" => Self::JwtClaim(Read::read(value)),
                "property" => Self::Property(Read::read(value)),
                "env" => Self::Env(Read::read(value)),
                "literal" => Self::Literal(Read::read(value)),
                _ => {
                    is_known = false;
                    return value.refuse_above(&format!(
                        "unknown source {name:?}, expected one of {}",
                        Self::NAMES
                    ));
                }
            };
            is_one &= source.replace(next).is_none();
        });
        match (source, path, capture) {
            _ if !is_known => {}
            (Some(source), None, None) if is_one => return source,
            (None, Some(path), Some(capture)) => return Self::Path { path, capture },
            (None, Some(_), None) => value.refuse("missing field `capture`"),
            (None, None, Some(_)) => value.refuse("missing field `path`"),
            (None, None, None) => {
                value.refuse(&format!("no source, expected one of {}", Self::NAMES));
            }
            (Some(_), ..) => value.refuse(
                "more than one source, expected one; an attribute of two sources is two attributes",
            ),
        }
        Self::default()
    }
}

impl Read for ClaimConfig {
    fn read(value: Value<'_>) -> Self {
        match value.kind() {
            Kind::String => Self(vec![Read::read(value)]),
            Kind::List => Self(Read::read(value)),
            _ => {
                value.refuse_kind("the name of a claim, or a list of the names that lead to it");
                Self::default()
            }
        }
    }
}

impl Read for TransformConfig {
    fn read(value: Value<'_>) -> Self {
        const NAMES: [&str; 6] = [
            "lowercase",
            "trim",
            "truncate",
            "hmac_sha256",
            "replace",
            "allow",
        ];
        let mut transform = None;
        value.tagged(&NAMES, 2, &mut |place, value| {
            transform = Some(match (place, value) {
                (2, Some(value)) => Self::Truncate(Read::read(value)),
                (3, Some(value)) => Self::HmacSha256(Read::read(value)),
                (4, Some(value)) => Self::Replace(Read::read(value)),
                (5, Some(value)) => Self::Allow(Read::read(value)),
                (1, _) => Self::Trim,
                _ => Self::Lowercase,
            });
        });
        transform.unwrap_or(Self::Lowercase)
    }
}
