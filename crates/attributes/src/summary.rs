//! What a configuration does, in words, and what it cannot do.

use meshtrace_config::list;

use crate::attributes::Attributes;

impl Attributes {
    /// What this configuration does, in words. They follow "the filter".
    #[must_use]
    #[inline(never)]
    pub fn summary(&self) -> String {
        let keys: Vec<&str> = self.keys().collect();
        if keys.is_empty() {
            return "gathers no attribute".to_owned();
        }
        let ways = [
            (self.in_filter_state(), "filter state"),
            (self.in_request_headers(), "request headers"),
            (self.in_baggage(), "baggage"),
        ];
        let ways = ways.iter().filter(|(is_used, _)| *is_used);
        let ways = list(ways.map(|(_, way)| *way));
        ["gathers ", &list(keys), " as ", &ways].concat()
    }

    /// The warnings about this configuration, which is valid: attributes that are never there.
    #[must_use]
    #[inline(never)]
    pub fn cautions(&self) -> Vec<String> {
        let missing = self
            .keys_without_hmac_key()
            .map(|key| (key, "hmac_sha256.key_env"));
        let unset = self.keys_without_variable().map(|key| (key, "env"));
        let cautions = missing.chain(unset).map(|(key, name)| {
            format!(
                "the attribute {key} is left out of every request: the environment does not have \
                 the variable that `{name}` names; name it in `environment_variables` (Envoy), \
                 `vmConfig.env` (Istio) or `env.hostKeys` (Envoy Gateway)"
            )
        });
        cautions.collect()
    }
}
