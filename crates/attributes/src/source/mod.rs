//! Where values are found in a request or a response.

mod jwt;
mod list;
mod path;
mod property;

use meshtrace_baggage as baggage;
use meshtrace_config::{ConfigError, Environment};
use meshtrace_headers::{Headers, read_name_or_pseudo};

use crate::config::SourceConfig;
use crate::text::{Raw, refuse_controls};

pub(crate) use jwt::{Claims, MAX_HEADERS as MAX_TOKENS, Token};
pub(crate) use path::Template;
use property::Kind;

/// A compiled [`SourceConfig`].
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Header(Box<[u8]>),
    Cookie(Box<[u8]>),
    Query(Box<[u8]>),
    Path(Template),
    Baggage(Box<[u8]>),
    Claim {
        /// Which of the tokens.
        token: usize,
        /// Which of the token's wanted members.
        member: usize,
        /// The names that lead on from there.
        below: Box<[Box<str>]>,
    },
    Property {
        /// Which of the phase's properties.
        index: usize,
        kind: Kind,
    },
    Constant(Option<Box<[u8]>>),
}

/// The data that sources share: each is looked up once a request, whatever the number of
/// attributes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    pub(crate) tokens: Vec<Token>,
    pub(crate) properties: Vec<Box<[u8]>>,
}

/// The data of one callback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'v> {
    pub(crate) headers: Headers<'v>,
    pub(crate) properties: &'v [Option<Box<[u8]>>],
    pub(crate) claims: &'v [Claims<'v>],
}

impl Source {
    #[inline(never)]
    pub(crate) fn new(
        config: &SourceConfig,
        shared: &mut Shared,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        Ok(match config {
            SourceConfig::Header(name) => Self::Header(header("header", name)?),
            SourceConfig::ResponseHeader(name) => Self::Header(header("response_header", name)?),
            SourceConfig::Cookie(name) => Self::Cookie(named("cookie", name)?),
            SourceConfig::Query(name) => Self::Query(named("query", name)?),
            SourceConfig::Path { path, capture } => Self::Path(Template::new(path, capture)?),
            SourceConfig::Baggage(key) => Self::Baggage(named("baggage", key)?),
            SourceConfig::JwtClaim(claim) => {
                let header = header("jwt_claim.header", &claim.header)?;
                let (first, below) =
                    claim.claim.0.split_first().ok_or_else(|| {
                        ConfigError::new("jwt_claim.claim", "empty, expected a name")
                    })?;
                let token = jwt::place(&mut shared.tokens, header)?;
                let member = jwt::want(&mut shared.tokens, token, first);
                Self::Claim {
                    token,
                    member,
                    below: below.iter().map(|name| name.as_str().into()).collect(),
                }
            }
            SourceConfig::Property(path) => {
                let (joined, kind) = property::compile(path)?;
                let known = shared.properties.iter().position(|path| *path == joined);
                let index = known.unwrap_or_else(|| {
                    shared.properties.push(joined);
                    shared.properties.len() - 1
                });
                Self::Property { index, kind }
            }
            SourceConfig::Env(name) => {
                named("env", name)?;
                Self::Constant(environment(name).map(Vec::into_boxed_slice))
            }
            SourceConfig::Literal(text) => {
                refuse_controls("literal", text)?;
                Self::Constant(Some(text.as_bytes().into()))
            }
        })
    }

    /// The value, of any length and made of any bytes.
    #[inline(never)]
    pub(crate) fn find<'v>(&'v self, view: View<'v>, raw: &'v mut Raw) -> Option<&'v [u8]> {
        let path = || view.headers.lines(b":path").next();
        match self {
            Self::Header(name) => view.headers.lines(name).next(),
            Self::Cookie(name) => list::cookie(view.headers.lines(b"cookie"), name),
            Self::Query(name) => list::query(path()?, name, raw),
            Self::Path(template) => template.capture(path()?, raw),
            Self::Baggage(key) => {
                let member = baggage::members(view.headers.lines(baggage::NAME))
                    .find(|member| member.key == &**key)?;
                list::percent_decoded(member.value, raw)
            }
            Self::Claim {
                token,
                member,
                below,
            } => view.claims.get(*token)?.find(*member, below, raw),
            Self::Property { index, kind } => {
                kind.text(view.properties.get(*index)?.as_deref()?, raw)
            }
            Self::Constant(value) => value.as_deref(),
        }
    }
}

fn named(path: &str, name: &str) -> Result<Box<[u8]>, ConfigError> {
    if name.is_empty() {
        return Err(ConfigError::new(path, "empty, expected a name"));
    }
    Ok(name.as_bytes().into())
}

/// A header's name, or that of a pseudo-header.
fn header(path: &str, name: &str) -> Result<Box<[u8]>, ConfigError> {
    read_name_or_pseudo(name).map_err(|refusal| ConfigError::invalid_text(path, name, &refusal))
}
