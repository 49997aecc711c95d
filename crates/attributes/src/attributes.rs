//! Compiled attributes, and gathering them from a request and its response.

use arrayvec::ArrayVec;
use meshtrace_config::{ConfigError, Environment, Mistakes, each};
use meshtrace_envoy::filter_state;
use meshtrace_headers::{Arena, Edits, Headers, Managed};

use crate::attribute::{Attribute, Gathered};
use crate::config::{AttributeConfig, MAX_ATTRIBUTES, MAX_VALUE, Phase, SpanAttributesConfig};
use crate::emit::Emit;
use crate::lent::Lent;
use crate::replace::Spare;
use crate::source::{Claims, MAX_TOKENS, Shared, Source, Template, Token, View};
use crate::text::{Raw, ValueText, clean, cut, head};
use crate::transform::{Transform, Transformed, length};
use crate::{Counter, Tally};

/// The values that the host looked up, in the order of the properties that were requested.
pub type Properties<'a> = &'a [Option<Box<[u8]>>];

/// The longest key, in bytes.
const MAX_KEY: usize = 64;
/// The most transformations of an attribute.
const MAX_TRANSFORMS: usize = 64;

/// A compiled [`SpanAttributesConfig`].
#[derive(Debug)]
pub struct Attributes {
    request: Gatherer,
    response: Gatherer,
    tokens: Vec<Token>,
    emit: Emit,
    scratch: Lent<Box<Scratch>>,
}

/// The attributes of one phase, and the properties that they need.
#[derive(Debug, Default)]
struct Gatherer {
    rules: Vec<Rule>,
    properties: Vec<Box<[u8]>>,
}

#[derive(Debug)]
struct Rule {
    key: Box<str>,
    header: Option<Box<[u8]>>,
    source: Source,
    transforms: Vec<Transform>,
    default: Option<Box<str>>,
    max_length: usize,
}

/// Working memory, lent to one callback at a time.
#[derive(Debug, Default)]
struct Scratch {
    raw: Raw,
    text: ValueText,
    spare: Spare,
}

impl Attributes {
    /// Compiles `config`; the variables of `environment` are read now.
    ///
    /// # Errors
    /// When a value is impossible or two contradict each other, with the path.
    #[inline(never)]
    pub fn new(
        config: &SpanAttributesConfig,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        if config.attributes.len() > MAX_ATTRIBUTES {
            return Err(ConfigError::new(
                format!("attributes[{MAX_ATTRIBUTES}]"),
                format!("one more attribute, expected at most {MAX_ATTRIBUTES}"),
            ));
        }
        let mut mistakes = Mistakes::default();
        let emit = mistakes.keep(Emit::new(&config.emit, &config.attributes));
        let mut in_request = Shared::default();
        let mut in_response = Shared::default();
        let mut compiled = Self {
            request: Gatherer::default(),
            response: Gatherer::default(),
            tokens: Vec::new(),
            scratch: Lent::default(),
            emit: emit.unwrap_or_default(),
        };
        let mut scratch: Box<Scratch> = Box::default();
        scratch.spare.begin_load();
        let rules = each("attributes", &config.attributes, |i, attribute| {
            let mut mistakes = Mistakes::default();
            let earlier = config.attributes.iter().take(i);
            mistakes.keep(check_key(&attribute.key, earlier));
            let (gatherer, shared) = match attribute.from.phase() {
                Phase::Request => (&mut compiled.request, &mut in_request),
                Phase::Response => (&mut compiled.response, &mut in_response),
            };
            let rule = Rule::new(
                attribute,
                shared,
                &compiled.emit,
                &mut scratch.spare,
                environment,
            );
            gatherer.rules.extend(mistakes.keep(rule));
            mistakes.end()
        });
        mistakes.keep(rules);
        mistakes.end()?;
        compiled.tokens = in_request.tokens;
        compiled.request.properties = in_request.properties;
        compiled.response.properties = in_response.properties;
        compiled.scratch = Lent::new(scratch);
        Ok(compiled)
    }

    /// The first path template of an attribute that the whole of the request's path fits.
    #[must_use]
    pub fn template(&self, headers: &Headers<'_>) -> Option<&str> {
        let templates = self
            .request
            .rules
            .iter()
            .filter_map(|rule| match &rule.source {
                Source::Path(template) => Some(template),
                _ => None,
            });
        let mut templates = templates.peekable();
        templates.peek()?;
        let path = headers.lines(b":path").next()?;
        templates
            .find(|template| template.fits(path))
            .map(Template::text)
    }

    /// The properties to look up when the request's headers have come.
    #[must_use]
    pub fn request_properties(&self) -> &[Box<[u8]>] {
        &self.request.properties
    }

    /// The properties to look up when the response's headers have come.
    #[must_use]
    pub fn response_properties(&self) -> &[Box<[u8]>] {
        &self.response.properties
    }

    /// Whether an attribute comes from the response's headers.
    #[must_use]
    pub fn needs_response_headers(&self) -> bool {
        let is_header = |rule: &Rule| matches!(rule.source, Source::Header(_));
        self.response.rules.iter().any(is_header)
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.request.rules.iter().chain(&self.response.rules)
    }

    /// The keys of the attributes.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.rules().map(|rule| &*rule.key)
    }

    /// The keys of the attributes whose `hmac_sha256` has no key.
    pub(crate) fn keys_without_hmac_key(&self) -> impl Iterator<Item = &str> {
        let lacks_key = |rule: &&Rule| {
            rule.transforms
                .iter()
                .any(|transform| transform.lacks_key())
        };
        self.rules().filter(lacks_key).map(|rule| &*rule.key)
    }

    /// The keys of the attributes that are a variable of the environment which is not there, and
    /// have no default.
    pub(crate) fn keys_without_variable(&self) -> impl Iterator<Item = &str> {
        let has_none =
            |rule: &&Rule| matches!(rule.source, Source::Constant(None)) && rule.default.is_none();
        self.rules().filter(has_none).map(|rule| &*rule.key)
    }

    /// Whether attributes are written as request headers of their own.
    pub(crate) fn in_request_headers(&self) -> bool {
        self.request.rules.iter().any(|rule| rule.header.is_some())
    }

    /// Whether attributes are written as baggage.
    pub(crate) fn in_baggage(&self) -> bool {
        self.emit.baggage().is_some()
    }

    /// Whether attributes are written as filter state.
    #[must_use]
    pub fn in_filter_state(&self) -> bool {
        self.emit.filter_state
    }

    /// Whether attributes are written as request headers.
    #[must_use]
    pub fn writes_headers(&self) -> bool {
        self.emit.writes_headers()
    }

    /// The request headers that the attributes of the configuration are written into.
    #[must_use]
    pub fn managed_headers(&self) -> Vec<Managed<'_>> {
        let headers = self.request.rules.iter().map(|rule| rule.header.as_deref());
        headers
            .chain([self.emit.baggage()])
            .flatten()
            .map(|name| Managed { name, leaves: true })
            .collect()
    }

    /// Gathers the attributes of the request.
    pub fn of_request<'a>(
        &'a self,
        headers: Headers<'a>,
        properties: Properties<'a>,
        arena: &'a Arena,
        tally: &mut Tally,
    ) -> Gathered<'a> {
        let tokens = self.tokens.iter();
        let claims: ArrayVec<Claims<'a>, MAX_TOKENS> = tokens
            .map(|token| token.read(headers, arena, tally))
            .take(MAX_TOKENS)
            .collect();
        let gathered = self.gather(
            &self.request,
            View {
                headers,
                properties,
                claims: &claims,
            },
            arena,
            tally,
        );
        tally.count(if gathered.is_empty() {
            Counter::NotFound
        } else {
            Counter::Found
        });
        gathered
    }

    /// Gathers the attributes of the response.
    pub fn of_response<'a>(
        &'a self,
        headers: Headers<'a>,
        properties: Properties<'a>,
        arena: &'a Arena,
        tally: &mut Tally,
    ) -> Gathered<'a> {
        let view = View {
            headers,
            properties,
            claims: &[],
        };
        self.gather(&self.response, view, arena, tally)
    }

    /// Writes the attributes of a request into its headers, as far as the configuration requires
    /// it. With a prefix, a client's headers that begin with it are removed: only this proxy writes
    /// such headers.
    pub fn write_headers<'a>(
        &'a self,
        gathered: &[Attribute<'a>],
        headers: Headers<'a>,
        arena: &'a Arena,
        edits: &mut Edits<'a>,
        tally: &mut Tally,
    ) {
        self.emit.write(gathered, headers, arena, edits, tally);
    }

    fn gather<'a>(
        &'a self,
        gatherer: &'a Gatherer,
        view: View<'_>,
        arena: &'a Arena,
        tally: &mut Tally,
    ) -> Gathered<'a> {
        self.scratch.lend(Box::default, |scratch| {
            scratch.spare.begin();
            let attributes = gatherer.rules.iter().filter_map(|rule| {
                Some(Attribute {
                    key: &rule.key,
                    value: rule.value(view, scratch, arena, tally)?,
                    header: rule.header.as_deref(),
                })
            });
            attributes.take(MAX_ATTRIBUTES).collect()
        })
    }
}

impl Rule {
    #[inline(never)]
    fn new(
        config: &AttributeConfig,
        shared: &mut Shared,
        emit: &Emit,
        spare: &mut Spare,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let mut mistakes = Mistakes::default();
        if config.transform.len() > MAX_TRANSFORMS {
            return Err(ConfigError::new(
                format!("transform[{MAX_TRANSFORMS}]"),
                format!("one more transformation, expected at most {MAX_TRANSFORMS}"),
            ));
        }
        let source = Source::new(&config.from, shared, environment);
        let source = mistakes.keep(source.map_err(|error| error.below("from")));
        let transforms = each("transform", &config.transform, |_, transform| {
            Transform::new(transform, spare, environment)
        });
        let transforms = mistakes.keep(transforms);
        let max_length = match config.max_length {
            Some(limit) => mistakes.keep(length("max_length", limit)),
            None => Some(MAX_VALUE),
        };
        let max_length = max_length.unwrap_or(MAX_VALUE);
        let default = mistakes.keep(default(config.default.as_deref(), max_length));
        let ((source, transforms), default) =
            mistakes.finish(source.zip(transforms).zip(default))?;
        Ok(Self {
            key: config.key.as_str().into(),
            header: match config.from.phase() {
                Phase::Request => emit.header(&config.key),
                Phase::Response => None,
            },
            source,
            transforms,
            default,
            max_length,
        })
    }

    fn value<'a>(
        &'a self,
        view: View<'_>,
        Scratch { raw, text, spare }: &mut Scratch,
        arena: &'a Arena,
        tally: &mut Tally,
    ) -> Option<&'a str> {
        let default = self.default.as_deref();
        let Some(bytes) = self.source.find(view, raw) else {
            return default;
        };
        clean(bytes, text, tally);
        for transform in &self.transforms {
            // An empty text is not transformed: the hash of an empty text would look like a value.
            if text.is_empty() {
                break;
            }
            match transform.apply(text, spare, tally) {
                Transformed::Kept => {}
                Transformed::Refused => return default,
                Transformed::Dropped => return None,
            }
        }
        cut(text, self.max_length, tally);
        if text.trim().is_empty() {
            if !text.is_empty() {
                tally.count(Counter::Blank);
            }
            return default;
        }
        match arena.try_alloc_str(text) {
            Ok(value) => Some(value),
            Err(_) => {
                tally.count(Counter::Dropped);
                None
            }
        }
    }
}

fn check_key<'k>(
    key: &str,
    mut earlier: impl Iterator<Item = &'k AttributeConfig>,
) -> Result<(), ConfigError> {
    let refuse = |message: String| Err(ConfigError::new("key", message));
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !key.starts_with(|char: char| char.is_ascii_alphabetic())
        || !key.bytes().all(is_part)
        || key.len() > MAX_KEY
    {
        return refuse(format!(
            "invalid value: string {key:?}, expected letters, digits, `.`, `_` and `-`, a letter \
             first, at most {MAX_KEY}"
        ));
    }
    if filter_state::ALL.contains(&key) {
        return refuse(format!(
            "{key:?} is the filter state of another filter of this project, expected another key"
        ));
    }
    if earlier.any(|other| other.key == key) {
        return refuse(format!("{key:?} is listed before, expected each key once"));
    }
    Ok(())
}

/// Checks a default. It is used as it is, so it must be a valid value already.
fn default(text: Option<&str>, max_length: usize) -> Result<Option<Box<str>>, ConfigError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let is_value = !text.trim().is_empty() && head(text, max_length) == text;
    if !is_value || text.contains(char::is_control) {
        return Err(ConfigError::new(
            "default",
            format!(
                "invalid value: string {text:?}, expected 1 to {max_length} bytes without control \
                 characters, and not white space alone; without a default the attribute is left out"
            ),
        ));
    }
    Ok(Some(text.into()))
}
