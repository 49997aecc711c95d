//! The first steps of a newcomer: the README and docs/getting-started.md start examples and send
//! requests to them. Each request gets the answer that stands below it.

use envoy_test_harness::{EnvoyBinary, Options, each_supported};
use meshtrace_test_support::common;
use meshtrace_test_support::native;

use crate::page::{Command, Example, commands};

/// The examples that a page starts, with the requests that follow each.
fn steps(page: &str) -> Vec<(String, Vec<Command>)> {
    let text = common::text(page);
    let parts = text.split("-c examples/").skip(1);
    let step = |part: &str| {
        let (name, rest) = part.split_once("/envoy.yaml").expect("its configuration");
        // What began in front of this part has no end here.
        let (_, rest) = rest.split_once("\n```\n").expect("the end of the block");
        let requests = commands(rest).into_iter();
        let requests = requests.filter(|command| command.line.starts_with("curl "));
        (name.to_owned(), requests.collect())
    };
    parts.map(step).collect()
}

fn follow(page: &str, name: &'static str, envoy: &EnvoyBinary, options: Options) {
    let (_, requests) = steps(page)
        .into_iter()
        .find(|(example, _)| example == name)
        .expect("a step with this example");
    assert!(!requests.is_empty(), "{page}: {name}");
    let bootstrap = common::yaml(&format!("examples/{name}/envoy.yaml"));
    Example::start_with(name, envoy, &bootstrap, options).follow(&requests);
}

#[test]
fn the_first_request_of_the_readme_gets_its_answer() {
    each_supported(|envoy| follow("README.md", "trace-context", envoy, Options::new()));
}

#[test]
fn the_requests_of_getting_started_get_their_answers() {
    const PAGE: &str = "docs/getting-started.md";
    let examples: Vec<_> = steps(PAGE).into_iter().map(|(name, _)| name).collect();
    assert_eq!(examples, ["mesh-tracing", "both-sides", "native"]);
    each_supported(|envoy| {
        follow(PAGE, "mesh-tracing", envoy, Options::new());
        follow(PAGE, "both-sides", envoy, Options::new());
    });
    for envoy in native::envoys() {
        follow(PAGE, "native", &envoy, native::options());
    }
}
