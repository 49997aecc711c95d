//! The rules as an early header mutation. It decides about traces that come in, before the tracer
//! reads them.

use meshtrace_config::ConfigError;
use meshtrace_envoy::attribute;
use meshtrace_headers::{PathTemplate, Segment};
use meshtrace_sampling::{
    HeaderConfig, MatchConfig, ParentPolicy, PathConfig, SampleConfig, SamplingConfig, Threshold,
};
use serde_json::Value;

use crate::Tracer;
use crate::cel::{cel, choose, first, first_bytes, has, is_one_of, matches, value};
use crate::script::Script;

pub(super) const CLIENT_TRACE_ID: &str = "x-client-trace-id";

const TRACEPARENT: &str = "traceparent";
const B3: &str = "b3";
const B3_TRACE_ID: &str = "x-b3-traceid";
const B3_SAMPLED: &str = "x-b3-sampled";
const B3_FLAGS: &str = "x-b3-flags";

/// `00` or `01`. The header is absent where the decision that came in is kept.
const DECIDED: &str = "x-meshtrace-sampling-flags";
/// A text that ends with the trace id.
const TRACE_ID: &str = "x-meshtrace-sampling-id";
/// The first line of `traceparent`, which is the one that a tracer reads, up to one byte more than
/// it may have.
const PARENT: &str = "x-meshtrace-sampling-parent";
/// `traceparent` without its flags.
const HEAD: &str = "x-meshtrace-sampling-head";
const HELPERS: [&str; 4] = [DECIDED, TRACE_ID, PARENT, HEAD];

/// The pattern of a `traceparent` that is 55 bytes long, of any version that there may be.
const W3C: &str = "^([0-9a-e][0-9a-f]|f[0-9a-e])-[0-9a-f]+-[0-9a-f]+-[0-9a-f][0-9a-f]$";
const W3C_SAMPLED: &str = "-[0-9a-f][13579bdf]$";
const B3_IDS: &str = "^[0-9a-f]+-[0-9a-f]+(-.*)?$";
const B3_KEPT: &str = "^[0-9a-f]+-[0-9a-f]+-[1d]";
const B3_DROPPED: &str = "^[0-9a-f]+-[0-9a-f]+-0";

/// The most bytes of a template's pattern. Envoy 1.40 refuses a pattern whose program in RE2 has a
/// size of more than 100.
const MAX_TEMPLATE: usize = 60;

pub(super) fn script(config: &SamplingConfig, tracer: Tracer) -> Result<Script, ConfigError> {
    let mut script = Script::default();
    script.remove(CLIENT_TRACE_ID);
    let overrules = config.parent != ParentPolicy::Respect;
    // From Envoy 1.39 on, this tracer follows the connection manager rather than the parent.
    let tells_manager = tracer == Tracer::OpenTelemetry;
    let helpers: &[_] = match (overrules, tells_manager) {
        (true, _) => &HELPERS,
        (false, true) => &[PARENT],
        (false, false) => &[],
    };
    helpers.iter().for_each(|helper| script.remove(*helper));
    if overrules {
        let rules = rules(config)?;
        for arrival in arrivals(tracer) {
            arrival.decide(&mut script, config.parent, &rules);
        }
    }
    if tells_manager {
        script.set(PARENT, first_bytes(TRACEPARENT, 56));
        let sampled = when(W3cParent.sampled(), "'sampled'");
        script.set(CLIENT_TRACE_ID, cel(when(has(PARENT), sampled)));
    }
    helpers.iter().for_each(|helper| script.remove(*helper));
    Ok(script)
}

/// A form in which a context arrives. The tracer reads the first one that is present. The others
/// may be changed too, because they are the tracer's own headers.
trait Arrival {
    /// Whether it is present and valid, as far as CEL can check.
    fn is_there(&self) -> String;
    fn sampled(&self) -> String;
    fn dropped(&self) -> String;
    /// Sets [`TRACE_ID`], and what the other functions read.
    fn write_trace_id(&self, script: &mut Script);
    /// Writes the decision of [`DECIDED`] into the headers of this form.
    fn write(&self, script: &mut Script);

    fn decide(&self, script: &mut Script, policy: ParentPolicy, rules: &str) {
        let is_open = match policy {
            ParentPolicy::Respect => "false".to_owned(),
            ParentPolicy::Ignore => "true".to_owned(),
            ParentPolicy::RespectSampled => format!("!({})", self.sampled()),
            ParentPolicy::RespectDropped => format!("!({})", self.dropped()),
        };
        script.remove(DECIDED);
        script.remove(TRACE_ID);
        self.write_trace_id(script);
        let condition = format!("({}) && ({is_open})", self.is_there());
        script.set(DECIDED, cel(when(has(TRACE_ID), when(condition, rules))));
        self.write(script);
    }
}

fn arrivals(tracer: Tracer) -> Vec<Box<dyn Arrival>> {
    match tracer {
        Tracer::OpenTelemetry => vec![Box::new(W3cParent)],
        Tracer::ZipkinB3 => vec![Box::new(B3Parent), Box::new(B3MultiParent)],
        Tracer::ZipkinB3WithW3c => vec![
            Box::new(B3Parent),
            Box::new(B3MultiParent),
            Box::new(W3cParent),
        ],
    }
}

/// `traceparent`; a flag that the tracer then writes itself has the tracer's own parent id.
struct W3cParent;

impl Arrival for W3cParent {
    fn is_there(&self) -> String {
        let is_whole = format!("size({}) == 55", value(PARENT));
        format!("{is_whole} && {}", matches(PARENT, W3C))
    }

    fn sampled(&self) -> String {
        format!("{} && {}", self.is_there(), matches(PARENT, W3C_SAMPLED))
    }

    fn dropped(&self) -> String {
        format!("!({})", matches(PARENT, W3C_SAMPLED))
    }

    fn write_trace_id(&self, script: &mut Script) {
        script.set(PARENT, first_bytes(TRACEPARENT, 56));
        script.set(TRACE_ID, first_bytes(PARENT, 35));
    }

    fn write(&self, script: &mut Script) {
        script.set(HEAD, first_bytes(PARENT, 53));
        let part = |header| cel(when(has(DECIDED), value(header)));
        script.set(TRACEPARENT, part(HEAD) + &part(DECIDED));
    }
}

/// `x-b3-*`.
struct B3MultiParent;

impl Arrival for B3MultiParent {
    fn is_there(&self) -> String {
        has(B3_TRACE_ID)
    }

    fn sampled(&self) -> String {
        let accepts = format!(
            "{} && {}",
            has(B3_SAMPLED),
            is_one_of(B3_SAMPLED, &["1", "true"])
        );
        format!("({}) || ({accepts})", self.is_debug())
    }

    fn dropped(&self) -> String {
        let denies = is_one_of(B3_SAMPLED, &["0", "false"]);
        format!("!({}) && {} && {denies}", self.is_debug(), has(B3_SAMPLED))
    }

    fn write_trace_id(&self, script: &mut Script) {
        script.set(TRACE_ID, first(B3_TRACE_ID));
    }

    fn write(&self, script: &mut Script) {
        let state = choose(&is_one_of(DECIDED, &["01"]), "'1'", "'0'");
        script.set(B3_SAMPLED, cel(when(has(DECIDED), state)));
        // "Debug implies an accept decision".
        let plain = when(has(DECIDED), "'0'");
        script.set_if_present(B3_FLAGS, cel(plain));
    }
}

impl B3MultiParent {
    fn is_debug(&self) -> String {
        format!("{} && {}", has(B3_FLAGS), is_one_of(B3_FLAGS, &["1"]))
    }
}

/// `b3` with ids.
struct B3Parent;

impl Arrival for B3Parent {
    fn is_there(&self) -> String {
        matches(B3, B3_IDS)
    }

    fn sampled(&self) -> String {
        matches(B3, B3_KEPT)
    }

    fn dropped(&self) -> String {
        matches(B3, B3_DROPPED)
    }

    fn write_trace_id(&self, script: &mut Script) {
        let id = format!("re.extract({}, '^([0-9a-f]+)-.*$', '\\\\1')", value(B3));
        script.set(TRACE_ID, cel(when(has(B3), when(self.is_there(), id))));
    }

    fn write(&self, script: &mut Script) {
        let with = |state: &str| {
            let rewrite = format!("'\\\\1-{state}'");
            format!(
                "re.extract({}, '^([0-9a-f]+-[0-9a-f]+)(-.*)?$', {rewrite})",
                value(B3)
            )
        };
        let text = choose(&is_one_of(DECIDED, &["01"]), &with("1"), &with("0"));
        script.set_if_present(B3, cel(when(has(DECIDED), text)));
    }
}

/// As [`choose`], with an empty text otherwise. It may be part of another expression.
fn when(condition: impl AsRef<str>, value: impl AsRef<str>) -> String {
    choose(condition.as_ref(), value.as_ref(), "''")
}

/// `'01'`, `'00'`, or `''` where the decision that came in is kept.
fn rules(config: &SamplingConfig) -> Result<String, ConfigError> {
    let mut otherwise = decision(config.default, "default")?;
    for (i, rule) in config.rules.iter().enumerate().rev() {
        let path = format!("rules[{i}]");
        let decision = decision(rule.sample, &format!("{path}.sample"))?;
        let condition = condition(&rule.matches).map_err(|error| error.below(&path))?;
        otherwise = choose(&condition, &decision, &otherwise);
    }
    Ok(otherwise)
}

fn decision(sample: SampleConfig, path: &str) -> Result<String, ConfigError> {
    Ok(match sample {
        SampleConfig::Always => "'01'".to_owned(),
        SampleConfig::Never => "'00'".to_owned(),
        SampleConfig::Unchanged => "''".to_owned(),
        SampleConfig::Ratio(ratio) => match Threshold::from_ratio(ratio) {
            None => "'00'".to_owned(),
            // Texts of the same length are in the same order as their numbers.
            Some(threshold) => {
                let digits = threshold.to_text();
                let digits = String::from_utf8_lossy(&digits);
                let randomness = format!(
                    "re.extract({}, '[0-9a-f]{{14}}$', '\\\\0')",
                    value(TRACE_ID)
                );
                choose(&format!("{randomness} >= '{digits:0<14}'"), "'01'", "'00'")
            }
        },
        SampleConfig::PerSecond(_) => {
            return Err(ConfigError::new(
                path,
                "an early header mutation cannot count; expected no `per_second` where `parent` is \
                 not \"respect\"",
            ));
        }
    })
}

fn condition(asked: &MatchConfig) -> Result<String, ConfigError> {
    // Every field is named, so that the compiler reports a condition that is missing here.
    let MatchConfig {
        path,
        methods,
        host,
        headers,
        route,
        cluster,
    } = asked;
    let mut all = Vec::new();
    if let Some(path) = path {
        all.push(path_condition(path)?);
    }
    if let Some(methods) = methods {
        let texts = methods.iter().map(|method| quoted("match.methods", method));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        all.push(format!(
            "{} in [{}]",
            attribute::REQUEST_METHOD.expression,
            texts.join(", ")
        ));
    }
    match host.as_deref() {
        None | Some("*") => {}
        Some(host) => all.push(host_condition(host)?),
    }
    for (i, header) in headers.iter().enumerate() {
        all.push(header_condition(header, &format!("match.headers[{i}]"))?);
    }
    for (key, is_set) in [("route", route.is_some()), ("cluster", cluster.is_some())] {
        if is_set {
            return Err(ConfigError::new(
                format!("match.{key}"),
                "not known yet where an early header mutation runs; expected none where `parent` \
                 is not \"respect\"",
            ));
        }
    }
    Ok(match all.is_empty() {
        true => "true".to_owned(),
        false => all.join(" && "),
    })
}

const PATH: &str = attribute::REQUEST_URL_PATH.expression;

fn path_condition(path: &PathConfig) -> Result<String, ConfigError> {
    match path {
        PathConfig::Exact(text) => Ok(format!("{PATH} == {}", quoted("match.path.exact", text)?)),
        PathConfig::Prefix(text) => {
            let text = text.strip_suffix('/').unwrap_or(text);
            let whole = quoted("match.path.prefix", text)?;
            let below = quoted("match.path.prefix", &format!("{text}/"))?;
            Ok(format!("({PATH} == {whole} || {PATH}.startsWith({below}))"))
        }
        PathConfig::Template(text) => {
            let pattern = template_pattern(text)?;
            if pattern.len() > MAX_TEMPLATE {
                return Err(ConfigError::new(
                    "match.path.template",
                    "too long for an early header mutation, in which Envoy 1.40 limits patterns; \
                     expected a shorter one, or `prefix`",
                ));
            }
            Ok(format!("{PATH}.matches('^{pattern}$')"))
        }
        PathConfig::Regex(_) => Err(ConfigError::new(
            "match.path.regex",
            "too much for an early header mutation, in which Envoy 1.40 limits patterns; expected \
             `exact`, `prefix` or `template` where `parent` is not \"respect\"",
        )),
    }
}

/// The pattern of the paths that fit a template, as it stands in a text of CEL.
fn template_pattern(text: &str) -> Result<String, ConfigError> {
    let template = PathTemplate::parse(text)
        .map_err(|refusal| ConfigError::invalid_text("match.path.template", text, &refusal))?;
    let mut pattern = String::new();
    for segment in template.segments {
        pattern.push('/');
        match segment {
            Segment::Any(_) => pattern.push_str("[^/]+"),
            Segment::Text(text) => pattern.push_str(&escaped("match.path.template", text)?),
        }
    }
    if template.open {
        pattern.push_str("(/.*)?");
    }
    Ok(pattern)
}

/// A text as a part of a pattern. A character with a meaning in a pattern has a backslash, which
/// is two in a text of CEL.
fn escaped(path: &str, text: &str) -> Result<String, ConfigError> {
    plain(path, text)?;
    let mut pattern = String::new();
    for c in text.chars() {
        if ".+*?()[]{}^$|".contains(c) {
            pattern.push_str("\\\\");
        }
        pattern.push(c);
    }
    Ok(pattern)
}

fn host_condition(host: &str) -> Result<String, ConfigError> {
    const HOST: &str = attribute::REQUEST_HOST.expression;
    let host = host.to_ascii_lowercase();
    Ok(match host.strip_prefix('*') {
        None => {
            let whole = quoted("match.host", &host)?;
            let port = quoted("match.host", &format!("{host}:"))?;
            format!("({HOST} == {whole} || {HOST}.startsWith({port}))")
        }
        Some(domain) => {
            let domain = escaped("match.host", domain)?;
            format!("{HOST}.matches('{domain}(:[0-9]+)?$')")
        }
    })
}

fn header_condition(header: &HeaderConfig, path: &str) -> Result<String, ConfigError> {
    let name = header.name.to_ascii_lowercase();
    let is_there = has(&name);
    let text = value(&name);
    Ok(match (&header.exact, &header.prefix) {
        (Some(exact), _) => format!("{is_there} && {text} == {}", quoted(path, exact)?),
        (_, Some(prefix)) => format!("{is_there} && {text}.startsWith({})", quoted(path, prefix)?),
        (None, None) => is_there,
    })
}

/// A text in CEL, which is part of a substitution format.
fn quoted(path: &str, text: &str) -> Result<String, ConfigError> {
    plain(path, text)?;
    Ok(format!("'{text}'"))
}

/// Refuses a text that ends a text of CEL, or the substitution around it.
fn plain(path: &str, text: &str) -> Result<(), ConfigError> {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && !b"'\\%\"".contains(&byte);
    if text.bytes().all(is_plain) {
        return Ok(());
    }
    Err(ConfigError::new(
        path,
        format!(
            "{text:?} cannot stand in an early header mutation; expected printable ASCII without \
             quotes, backslash and percent sign"
        ),
    ))
}

/// One entry of `early_header_mutation_extensions`.
pub(super) fn extension(script: &Script) -> Value {
    script.to_extension("meshtrace-route-sampling")
}
