//! The keys of the configuration that are names.

use meshtrace_config::{ConfigError, each};
use meshtrace_headers::written_name;

use crate::config::SamplingConfig;

/// The most bytes of a rule's name. The name becomes part of a counter's name.
const MAX_NAME: usize = 64;
/// The header that makes Envoy trace a request (Envoy, "x-envoy-force-trace").
const FORCE_TRACE: &str = "x-envoy-force-trace";

impl SamplingConfig {
    pub(crate) fn request_header(&self) -> Result<Option<Box<[u8]>>, ConfigError> {
        match &self.request_header {
            None => Ok(Some(FORCE_TRACE.as_bytes().into())),
            Some(None) => Ok(None),
            Some(Some(name)) => header_name("request_header", name).map(Some),
        }
    }

    /// The name of the helper header, in lower case.
    ///
    /// # Errors
    /// When the configured name is not a valid header name.
    pub fn trace_id_header(&self) -> Result<Option<Box<[u8]>>, ConfigError> {
        let name = self.ids.trace_id_header.as_deref();
        name.map(|name| header_name("ids.trace_id_header", name))
            .transpose()
    }

    /// The names of the rules. No two rules have the same name.
    #[inline(never)]
    pub(crate) fn names(&self) -> Result<Vec<String>, ConfigError> {
        let mut known = std::collections::BTreeSet::new();
        each("rules", &self.rules, |i, rule| {
            let name = rule.name.clone().unwrap_or_else(|| i.to_string());
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(is_allowed) {
                return Err(ConfigError::new(
                    "name",
                    format!(
                        "invalid value: string {name:?}, expected 1 to {MAX_NAME} letters, digits, \
                         `_` and `-`"
                    ),
                ));
            }
            if !known.insert(name.clone()) {
                return Err(ConfigError::new(
                    "name",
                    format!("{name:?} is another rule's name; expected each once"),
                ));
            }
            Ok(name)
        })
    }
}

/// The name of a header that is written or removed, in lower case.
pub(crate) fn header_name(key: &str, name: &str) -> Result<Box<[u8]>, ConfigError> {
    written_name(name).map_err(|refusal| ConfigError::invalid_text(key, name, &refusal))
}
