//! How attributes are written, besides filter state.

use meshtrace_config::{ConfigError, Mistakes, each};
use meshtrace_headers::{Arena, Edits, FRAMING, Headers, Value, is_token};
use meshtrace_propagation::{Field, families};

use crate::attribute::Attribute;
use crate::config::{AttributeConfig, EmitConfig, Phase, SourceConfig, header_name};
use crate::{Counter, Tally, baggage};

/// Headers that proxies and applications depend on, besides those that frame a message and those of
/// trace context: a prefix must not remove them. Other names are protected by a rule: a prefix
/// begins with [`OWN`], because no list of all headers that HTTP and its extensions register is
/// complete.
const KEPT: &[&str] = &[
    "x-amz-",
    "x-amzn-",
    "x-api-",
    "x-appengine-",
    "x-auth-",
    "x-azure-",
    "x-b3-",
    "x-client-",
    "x-cloud-trace-context",
    "x-cluster-client-ip",
    "x-content-",
    "x-correlation-",
    "x-csrf-",
    "x-datadog-",
    "x-envoy-",
    "x-forwarded-",
    "x-gitlab-",
    "x-github-",
    "x-goog-",
    "x-google-",
    "x-http-",
    "x-hub-",
    "x-idempotency-",
    "x-istio-",
    "x-ms-",
    "x-original-",
    "x-ot-span-context",
    "x-real-",
    "x-remote-",
    "x-request-",
    "x-requested-",
    "x-rewrite-",
    "x-ssl-",
    "x-xsrf-",
];

/// The beginning of every prefix, as of headers that no standard registers.
const OWN: &str = "x-";

/// A compiled [`EmitConfig`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Emit {
    pub(crate) filter_state: bool,
    /// The prefix, lower-case.
    prefix: Option<Box<[u8]>>,
    baggage: bool,
}

impl Emit {
    #[inline(never)]
    pub(crate) fn new(
        config: &EmitConfig,
        attributes: &[AttributeConfig],
    ) -> Result<Self, ConfigError> {
        let mut mistakes = Mistakes::default();
        let prefix = config.request_header_prefix.as_deref().map(prefix);
        let prefix = mistakes.keep(prefix.transpose()).flatten();
        let in_request = prefix.is_some() || config.baggage;
        if !config.filter_state && !in_request {
            mistakes.add(ConfigError::new(
                "emit",
                "the attributes leave in no way, expected `filter_state`, \
                 `request_header_prefix` or `baggage`",
            ));
        }
        for (i, attribute) in attributes.iter().enumerate() {
            if attribute.from.phase() == Phase::Response && !config.filter_state {
                mistakes.add(ConfigError::new(
                    "emit.filter_state",
                    format!(
                        "false, but attributes[{i}] comes from the response and can leave in no \
                         other way"
                    ),
                ));
                break;
            }
        }
        if let Some(prefix) = &prefix {
            let header = |attribute: &AttributeConfig| header_name(prefix, &attribute.key);
            mistakes.keep(refuse_lost_sources(prefix, attributes));
            let own_header = each("attributes", attributes, |i, attribute| {
                let earlier = attributes.iter().take(i);
                let same =
                    |(_, other): &(usize, &AttributeConfig)| header(other) == header(attribute);
                if let Some((j, _)) = earlier.enumerate().find(same) {
                    return Err(ConfigError::new(
                        "key",
                        format!(
                            "its request header {:?} is that of attributes[{j}] too",
                            header(attribute)
                        ),
                    ));
                }
                Ok(())
            });
            mistakes.keep(own_header);
        }
        mistakes.finish(Some(Self {
            filter_state: config.filter_state,
            prefix: prefix.map(|prefix| prefix.into_bytes().into()),
            baggage: config.baggage,
        }))
    }

    /// Whether any attribute is written as a request header.
    pub(crate) fn writes_headers(&self) -> bool {
        self.prefix.is_some() || self.baggage
    }

    /// The name of the `baggage` header, where attributes are added to it.
    pub(crate) fn baggage(&self) -> Option<&'static [u8]> {
        self.baggage.then_some(meshtrace_baggage::NAME)
    }

    /// The request header that carries the attribute `key`.
    pub(crate) fn header(&self, key: &str) -> Option<Box<[u8]>> {
        let prefix = core::str::from_utf8(self.prefix.as_deref()?).ok()?;
        Some(header_name(prefix, key).into_bytes().into())
    }

    /// Writes the attributes into the request's headers.
    pub(crate) fn write<'a>(
        &'a self,
        attributes: &[Attribute<'a>],
        headers: Headers<'a>,
        arena: &'a Arena,
        edits: &mut Edits<'a>,
        tally: &mut Tally,
    ) {
        if let Some(prefix) = &self.prefix
            && headers.iter().any(|(name, _)| name.starts_with(prefix))
        {
            tally.count(Counter::HeadersRemoved);
            edits.remove_family(prefix);
        }
        for attribute in attributes {
            if let Some(header) = attribute.header {
                edits.replace(header, Value::Borrowed(attribute.value.as_bytes()));
            }
        }
        if self.baggage {
            baggage::write(attributes, headers, edits, arena, tally);
        }
    }
}

/// Refuses a source header that has the prefix: it would be removed, unless it is written again.
fn refuse_lost_sources(prefix: &str, attributes: &[AttributeConfig]) -> Result<(), ConfigError> {
    let kept = |_, attribute: &AttributeConfig| {
        let (path, source) = match &attribute.from {
            SourceConfig::Header(name) => ("header", name),
            SourceConfig::JwtClaim(claim) => ("jwt_claim.header", &claim.header),
            _ => return Ok(()),
        };
        let source = source.to_ascii_lowercase();
        let is_written = |other: &AttributeConfig| header_name(prefix, &other.key) == source;
        if source.starts_with(prefix) && !attributes.iter().any(is_written) {
            return Err(ConfigError::new(
                format!("from.{path}"),
                format!(
                    "{source:?} begins with `emit.request_header_prefix`, so it would be removed \
                     from the request, expected another prefix"
                ),
            ));
        }
        Ok(())
    };
    each("attributes", attributes, kept).map(drop)
}

fn prefix(text: &str) -> Result<String, ConfigError> {
    let refuse = |message: String| Err(ConfigError::new("emit.request_header_prefix", message));
    let prefix = text.to_ascii_lowercase();
    if !is_token(prefix.as_bytes()) || !prefix.ends_with('-') || prefix.len() > 64 {
        return refuse(format!(
            "invalid value: string {text:?}, expected the start of a header's name that ends in a \
             dash, such as \"x-span-attr-\", at most 64 bytes"
        ));
    }
    let in_kept_family = KEPT.iter().find(|kept| prefix.starts_with(**kept));
    let fields = Field::ALL.iter().map(|field| field.name());
    let families =
        families().flat_map(|family| family.names.iter().copied().chain([family.prefix]));
    let families = families.map(str::as_bytes);
    let names = FRAMING.iter().chain(KEPT).map(|name| name.as_bytes());
    let mut names = names.chain(fields).chain(families);
    let taken = in_kept_family
        .map(|kept| kept.as_bytes())
        .or_else(|| names.find(|name| name.starts_with(prefix.as_bytes())));
    if let Some(taken) = taken {
        return refuse(format!(
            "{text:?} would remove other headers ({}…) from requests, expected a prefix of its \
             own, such as \"x-span-attr-\"",
            taken.escape_ascii()
        ));
    }
    if !prefix.starts_with(OWN) {
        return refuse(format!(
            "{text:?} may be the start of a header that applications live on, expected a prefix \
             that begins with {OWN:?}, such as \"x-span-attr-\""
        ));
    }
    Ok(prefix)
}
