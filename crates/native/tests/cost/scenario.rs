//! The requests whose cost is counted.

use std::fmt::Write as _;

use crate::host::Calls;

/// A configuration, and the request that is sent again and again.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Whether `keep.errors` is on.
    keeps: bool,
    /// The number of sampling rules.
    rules: usize,
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// Whether the router's attempt has a span of its own.
    pub(crate) has_attempt: bool,
    /// The calls of Envoy that a request makes, rounded.
    pub(crate) calls: Calls,
    /// The instructions of a request.
    pub(crate) instructions: u64,
}

macro_rules! headers {
    ($($further:expr),*) => {
        &[
            (":method", "GET"),
            (":path", "/api/items?id=7"),
            (":authority", "shop.example.com"),
            (":scheme", "http"),
            ("user-agent", "curl/8.5.0"),
            ("x-forwarded-proto", "http"),
            ("x-request-id", "4f1c9b0e-7c52-9d51-8d3f-3ab4b6a3c0de"),
            ("x-user-id", "alice"),
            ("x-tenant-id", "acme"),
            $($further),*
        ]
    };
}

const SAMPLED: (&str, &str) = (
    "traceparent",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
);
const NOT_SAMPLED: (&str, &str) = (
    "traceparent",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
);

/// What is counted. A root is sampled once in a hundred.
pub(crate) const SCENARIOS: [Scenario; 7] = [
    Scenario {
        name: "sampled",
        keeps: true,
        rules: 0,
        headers: headers!(SAMPLED),
        has_attempt: false,
        calls: Calls {
            get: 16,
            set: 1,
            remove: 1,
            count: 1,
        },
        instructions: 12_797,
    },
    Scenario {
        name: "sampled, with an attempt",
        keeps: true,
        rules: 0,
        headers: headers!(SAMPLED),
        has_attempt: true,
        calls: Calls {
            get: 18,
            set: 1,
            remove: 1,
            count: 1,
        },
        instructions: 20_612,
    },
    Scenario {
        name: "not sampled",
        keeps: true,
        rules: 0,
        headers: headers!(NOT_SAMPLED),
        has_attempt: false,
        calls: Calls {
            get: 16,
            set: 1,
            remove: 1,
            count: 2,
        },
        instructions: 7_864,
    },
    Scenario {
        name: "root",
        keeps: true,
        rules: 0,
        headers: headers!(),
        has_attempt: false,
        calls: Calls {
            get: 16,
            set: 1,
            remove: 0,
            count: 3,
        },
        instructions: 6_477,
    },
    Scenario {
        name: "root, without keep.errors",
        keeps: false,
        rules: 0,
        headers: headers!(),
        has_attempt: false,
        calls: Calls {
            get: 8,
            set: 1,
            remove: 0,
            count: 3,
        },
        instructions: 3_829,
    },
    Scenario {
        name: "root, 10 rules",
        keeps: true,
        rules: 10,
        headers: headers!(),
        has_attempt: false,
        calls: Calls {
            get: 16,
            set: 1,
            remove: 0,
            count: 4,
        },
        instructions: 8_102,
    },
    Scenario {
        name: "root, 1,000 rules",
        keeps: true,
        rules: 1000,
        headers: headers!(),
        has_attempt: false,
        calls: Calls {
            get: 16,
            set: 1,
            remove: 0,
            count: 4,
        },
        instructions: 8_121,
    },
];

impl Scenario {
    /// The configuration of the tracer.
    pub(crate) fn config(&self) -> String {
        let mut rules = String::new();
        for rule in 0..self.rules {
            let comma = if rule == 0 { "" } else { ", " };
            // The last rule fits.
            let path = match rule + 1 == self.rules {
                true => "/api".to_owned(),
                false => format!("/service-{rule}"),
            };
            write!(
                rules,
                r#"{comma}{{"name": "rule-{rule}", "match": {{"path": {{"prefix": "{path}"}}}}, "sample": {{"ratio": 0.01}}}}"#,
            )
            .expect("a text");
        }
        let sampling = match self.rules {
            0 => String::new(),
            _ => format!(r#""sampling": {{"rules": [{rules}]}}, "#),
        };
        let keeps = self.keeps;
        format!(
            r#"{{"trace_context": {{"inject": ["tracecontext"]}}, {sampling}"report": {{"cluster": "collector", "role": "server", "keep": {{"errors": {keeps}}}}}}}"#
        )
    }
}
