//! The conditions of the rules, compiled for the matcher.

use meshtrace_config::{ConfigError, Mistakes, each};
use meshtrace_headers::{PathTemplate, Segment, is_token, read_name};

use crate::config::{
    ClusterConfig, HeaderConfig, MatchConfig, PathConfig, RuleConfig, SamplingConfig,
};
use crate::matcher::{
    Conditions, HeaderPattern, HostPattern, MAX_RULES, PathPattern, ValuePattern,
};

/// The most methods of a rule. Each method has a set of rules of its own.
const MAX_METHODS: usize = 64;

impl SamplingConfig {
    #[inline(never)]
    pub(crate) fn conditions(&self) -> Result<Vec<Conditions>, ConfigError> {
        if self.rules.len() > MAX_RULES {
            return Err(ConfigError::new(
                format!("rules[{MAX_RULES}]"),
                format!("too many rules; expected at most {MAX_RULES}"),
            ));
        }
        each("rules", &self.rules, |_, rule| {
            let conditions = rule.matches.compile();
            conditions.map_err(|error| error.below("match"))
        })
    }
}

impl RuleConfig {
    pub(crate) fn regex(&self) -> Option<&str> {
        match &self.matches.path {
            Some(PathConfig::Regex(regex)) => Some(regex),
            _ => None,
        }
    }

    pub(crate) fn template(&self) -> Option<Box<str>> {
        match &self.matches.path {
            Some(PathConfig::Template(template)) => Some(template.as_str().into()),
            _ => None,
        }
    }
}

impl MatchConfig {
    #[inline(never)]
    fn compile(&self) -> Result<Conditions, ConfigError> {
        let mut mistakes = Mistakes::default();
        let mut conditions = Conditions::default();
        let path = match &self.path {
            None => None,
            Some(PathConfig::Exact(path)) => {
                Some(literal_path("path.exact", path).map(PathPattern::Exact))
            }
            Some(PathConfig::Prefix(path)) => {
                Some(literal_path("path.prefix", path).map(PathPattern::Prefix))
            }
            Some(PathConfig::Template(template)) => Some(template_pattern(template)),
            Some(PathConfig::Regex(_)) => {
                conditions.has_regex = true;
                None
            }
        };
        conditions.path = path.and_then(|path| mistakes.keep(path));
        if let Some(methods) = &self.methods {
            let methods = mistakes.keep(compile_methods(methods));
            conditions.methods = methods.unwrap_or_default();
        }
        conditions.host = match self.host.as_deref() {
            None | Some("*") => None,
            Some(host) => mistakes.keep(host_pattern(host)),
        };
        let headers = each("headers", &self.headers, |_, header| header.compile());
        conditions.headers = mistakes.keep(headers).unwrap_or_default();
        let name = |key: &str, name: &Option<String>| match name.as_deref() {
            Some("") => Err(ConfigError::new(key, "empty; expected a name")),
            name => Ok(name.map(|name| name.as_bytes().into())),
        };
        conditions.route = mistakes.keep(name("route", &self.route)).flatten();
        let cluster = self.cluster.as_ref().map(cluster_pattern);
        conditions.cluster = cluster.and_then(|cluster| mistakes.keep(cluster));
        mistakes.finish(Some(conditions))
    }
}

fn cluster_pattern(cluster: &ClusterConfig) -> Result<ValuePattern, ConfigError> {
    let (key, text) = match cluster {
        ClusterConfig::Exact(text) => ("cluster", text),
        ClusterConfig::Prefix(text) => ("cluster.prefix", text),
    };
    if text.is_empty() {
        return Err(ConfigError::new(key, "empty; expected a name"));
    }
    let text = text.as_bytes().into();
    Ok(match cluster {
        ClusterConfig::Exact(_) => ValuePattern::Exact(text),
        ClusterConfig::Prefix(_) => ValuePattern::Prefix(text),
    })
}

fn literal_path(key: &str, path: &str) -> Result<Box<[u8]>, ConfigError> {
    if path.starts_with('/') && !path.contains(['?', '#']) {
        return Ok(path.as_bytes().into());
    }
    Err(ConfigError::new(
        key,
        format!("invalid value: string {path:?}, expected a path such as \"/a/b\" without a query"),
    ))
}

#[inline(never)]
fn template_pattern(text: &str) -> Result<PathPattern, ConfigError> {
    let template = PathTemplate::parse(text)
        .map_err(|refusal| ConfigError::invalid_text("path.template", text, &refusal))?;
    let segment = |segment: &Segment<'_>| match segment {
        Segment::Text(text) => Some(text.as_bytes().into()),
        Segment::Any(_) => None,
    };
    Ok(PathPattern::Template {
        segments: template.segments.iter().map(segment).collect(),
        open: template.open,
    })
}

fn compile_methods(methods: &[String]) -> Result<Vec<Box<[u8]>>, ConfigError> {
    if methods.len() > MAX_METHODS {
        return Err(ConfigError::new(
            "methods",
            format!("{} methods, expected at most {MAX_METHODS}", methods.len()),
        ));
    }
    if methods.is_empty() {
        return Err(ConfigError::new(
            "methods",
            "empty, which no request fits; expected methods, or no such key",
        ));
    }
    let method = |_, method: &String| {
        if is_token(method.as_bytes()) && !method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Ok(method.as_bytes().into());
        }
        Err(ConfigError::new(
            "",
            format!("invalid value: string {method:?}, expected a method such as \"GET\""),
        ))
    };
    each("methods", methods, method)
}

#[inline(never)]
fn host_pattern(host: &str) -> Result<HostPattern, ConfigError> {
    let lower = host.to_ascii_lowercase();
    let (name, is_below) = match lower.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (lower.as_str(), false),
    };
    let is_address = name.starts_with('[') && name.ends_with(']') && !is_below;
    let has_port = name.contains(':') && !is_address;
    if name.is_empty() || has_port || name.contains(['*', '/', ' ']) {
        return Err(ConfigError::new(
            "host",
            format!(
                "invalid value: string {host:?}, expected a host without a port, such as \
                 \"shop.example\" or \"*.example\""
            ),
        ));
    }
    let name = name.trim_end_matches('.').as_bytes().into();
    Ok(match is_below {
        true => HostPattern::Below(name),
        false => HostPattern::Exact(name),
    })
}

impl HeaderConfig {
    #[inline(never)]
    fn compile(&self) -> Result<HeaderPattern, ConfigError> {
        let value = match (&self.exact, &self.prefix, self.present) {
            (Some(text), None, None) => ValuePattern::Exact(text.as_bytes().into()),
            (None, Some(text), None) => ValuePattern::Prefix(text.as_bytes().into()),
            (None, None, Some(true)) => ValuePattern::Present,
            _ => {
                return Err(ConfigError::new(
                    "",
                    "expected exactly one of `exact`, `prefix` and `present: true`",
                ));
            }
        };
        Ok(HeaderPattern {
            name: read_name(&self.name)
                .map_err(|refusal| ConfigError::invalid_text("name", &self.name, &refusal))?,
            value,
        })
    }
}
