use std::time::Duration;

use serde_json::{Value, json};

use super::{duration, merge};

/// The condition of a route. An action must follow.
#[derive(Debug, Clone)]
pub struct RouteMatch(Value);

impl RouteMatch {
    /// Adds a condition: a request header has exactly this value.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let condition = json!({"name": name, "string_match": {"exact": value}});
        match self.0.get_mut("headers").and_then(Value::as_array_mut) {
            Some(headers) => headers.push(condition),
            None => merge(&mut self.0, json!({"headers": [condition]})),
        }
        self
    }

    /// Merges into the finished `RouteMatch`.
    pub fn merge(mut self, patch: Value) -> Self {
        merge(&mut self.0, patch);
        self
    }

    /// Sends the requests to the cluster.
    pub fn cluster(self, name: &str) -> Route {
        self.action("route", json!({ "cluster": name }))
    }

    /// Makes Envoy answer with this status and body.
    pub fn direct_response(self, status: u16, body: &str) -> Route {
        self.action(
            "direct_response",
            json!({"status": status, "body": {"inline_string": body}}),
        )
    }

    /// Redirects with 301 to another path.
    pub fn redirect(self, path: &str) -> Route {
        self.action("redirect", json!({ "path_redirect": path }))
    }

    /// Sets any action by the name of its field: `route`, `redirect`, `direct_response`,
    /// `non_forwarding_action`.
    pub fn action(self, field: &str, action: Value) -> Route {
        Route(json!({"match": self.0, field: action}))
    }
}

/// A route of a virtual host.
#[derive(Debug, Clone)]
pub struct Route(Value);

impl Route {
    /// Matches paths that start with the text.
    pub fn prefix(prefix: &str) -> RouteMatch {
        RouteMatch(json!({ "prefix": prefix }))
    }

    /// Matches only this path, with any query.
    pub fn path(path: &str) -> RouteMatch {
        RouteMatch(json!({ "path": path }))
    }

    /// Matches by any `RouteMatch`: `{"safe_regex": {"regex": "/items/[0-9]+"}}`.
    pub fn matching(condition: Value) -> RouteMatch {
        RouteMatch(condition)
    }

    /// Sets the name of the route, for `xds.route_name` and the access log.
    pub fn name(self, name: &str) -> Self {
        self.merge(json!({ "name": name }))
    }

    /// Retries on these conditions (`5xx`, `reset`, …), at most `retries` times, with a short wait
    /// between the attempts.
    pub fn retry(self, on: &str, retries: u32) -> Self {
        self.merge(json!({"route": {"retry_policy": {
            "retry_on": on,
            "num_retries": retries,
            "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
        }}}))
    }

    /// Sets the limit for the whole request with its retries. Envoy's default is 15 s.
    pub fn timeout(self, limit: Duration) -> Self {
        self.merge(json!({"route": {"timeout": duration(limit)}}))
    }

    /// Removes a request header on the way to the upstream, after all filters.
    pub fn remove_request_header(mut self, name: &str) -> Self {
        match self
            .0
            .get_mut("request_headers_to_remove")
            .and_then(Value::as_array_mut)
        {
            Some(names) => names.push(json!(name)),
            None => merge(&mut self.0, json!({"request_headers_to_remove": [name]})),
        }
        self
    }

    /// Sets the route's `tracing` block: `{"random_sampling": {"numerator": 100}}`.
    pub fn tracing(self, block: Value) -> Self {
        self.merge(json!({ "tracing": block }))
    }

    /// Sets the name of the operation, which is also the name of the span.
    pub fn decorator(self, operation: &str) -> Self {
        self.merge(json!({"decorator": {"operation": operation}}))
    }

    /// Sets metadata of a namespace, which filters read as `xds.route_metadata`.
    pub fn metadata(self, namespace: &str, fields: Value) -> Self {
        self.merge(json!({"metadata": {"filter_metadata": {namespace: fields}}}))
    }

    /// Disables the filter of that name for requests of this route.
    pub fn disable_filter(self, name: &str) -> Self {
        self.merge(json!({"typed_per_filter_config": {name: {
            "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
            "disabled": true,
        }}}))
    }

    /// Merges into the finished route.
    pub fn merge(mut self, patch: Value) -> Self {
        merge(&mut self.0, patch);
        self
    }

    pub(crate) fn render(&self) -> Value {
        self.0.clone()
    }
}
