//! The patterns of an early header mutation fit what the rules of the filter fit.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

use meshtrace_headers::{Headers, encode};
use meshtrace_render::{Tracer, sampling_settings};
use meshtrace_sampling::{RequestView, RuleSampler, SamplingConfig};
use proptest::prelude::*;
use regex_lite::Regex;
use serde_json::json;

/// The one pattern of the rule in the rendered mutation, as RE2 gets it. `None` where the rule is
/// refused.
fn pattern(matches: &serde_json::Value) -> Option<(Regex, RuleSampler)> {
    let json = json!({"parent": "ignore", "rules": [{"match": matches, "sample": "always"}]});
    let config: SamplingConfig =
        meshtrace_config::read(json.to_string().as_bytes()).expect("a configuration");
    let settings = sampling_settings(&config, Tracer::OpenTelemetry).ok()?;
    let extension = &settings.manager["early_header_mutation_extensions"][0];
    let mutations = extension["typed_config"]["mutations"].as_array()?;
    let begin = match matches.get("host") {
        Some(_) => "request.host.matches('",
        None => "request.url_path.matches('",
    };
    let text = mutations.iter().find_map(|mutation| {
        let text = mutation["append"]["header"]["value"].as_str()?;
        let from = text.find(begin)? + begin.len();
        let rest = text.get(from..)?;
        rest.get(..rest.find('\'')?).map(str::to_owned)
    });
    // In a text of CEL two backslashes are one.
    let text = text.expect("a pattern").replace("\\\\", "\\");
    let regex = Regex::new(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let sampler = RuleSampler::new(&config, &|_| None).expect("rules");
    Some((regex, sampler))
}

fn fits(sampler: &RuleSampler, path: &str, host: &str) -> bool {
    let block = encode(&[(":method", "GET"), (":authority", host), (":path", path)]);
    let view = RequestView::of(Headers::parse(&block).expect("a block"));
    sampler.name(sampler.choose(&view)).is_some()
}

/// A segment of few characters, so that a path often fits: those with a meaning in a pattern, and
/// all others.
fn segment() -> impl Strategy<Value = String> {
    prop_oneof!["[\\^$.+()\\[\\]|a-]{1,4}", "[!-~&&[^/?#%]]{0,4}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_template_is_a_pattern_that_fits_the_same_paths(
        segments in prop::collection::vec(prop_oneof![
            4 => segment(),
            1 => Just("{id}".to_owned()),
            1 => Just("*".to_owned()),
        ], 1..4),
        open in any::<bool>(),
        others in prop::collection::vec(segment(), 4),
        change in 0_usize..4,
    ) {
        let tail = if open { "/**" } else { "" };
        let template = format!("/{}{tail}", segments.join("/"));
        let json = json!({"path": {"template": template}});
        let is_valid = meshtrace_config::read::<SamplingConfig>(
            json!({"rules": [{"match": json, "sample": "always"}]}).to_string().as_bytes(),
        ).is_ok_and(|config| RuleSampler::new(&config, &|_| None).is_ok());
        prop_assume!(is_valid);
        let Some((regex, sampler)) = pattern(&json) else { return Ok(()) };
        let filled: Vec<_> = segments.iter().zip(&others).map(|(own, other)| match own.as_str() {
            "{id}" | "*" => other.clone(),
            text => text.to_owned(),
        }).collect();
        let mut changed = filled.clone();
        if let Some(segment) = changed.get_mut(change) {
            segment.clone_from(&others[3]);
        }
        for path in [filled.clone(), changed] {
            for more in ["", "/", "/x", "/x/y"] {
                let path = format!("/{}{more}", path.join("/"));
                prop_assert_eq!(
                    regex.is_match(&path), fits(&sampler, &path, "h"), "{} {}", template, path
                );
            }
        }
    }

    #[test]
    fn a_domain_is_a_pattern_that_fits_the_same_hosts(
        domain in "[a-z^$.+()\\[\\]{}|?-]{0,5}[a-z]", sub in "[a-z^$+.-]{0,2}[a-z]", port in any::<bool>(),
    ) {
        let json = json!({"host": format!("*.{domain}")});
        let config = json!({"rules": [{"match": json, "sample": "always"}]});
        let config = meshtrace_config::read::<SamplingConfig>(config.to_string().as_bytes());
        prop_assume!(config.is_ok_and(|config| RuleSampler::new(&config, &|_| None).is_ok()));
        let Some((regex, sampler)) = pattern(&json) else { return Ok(()) };
        let port = if port { ":8080" } else { "" };
        for host in [format!("{sub}.{domain}{port}"), format!("{sub}{domain}{port}")] {
            prop_assert_eq!(regex.is_match(&host), fits(&sampler, "/", &host), "{} {}", domain, host);
        }
    }
}
