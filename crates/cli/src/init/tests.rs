#![allow(clippy::expect_used, reason = "a test may fail")]

use meshtrace_check::{Code, Input, Options as CheckOptions, check};
use meshtrace_render::{EnvoyVersion, IstioVersion};

use super::answers::{Answers, Formats, Place, Proxy, TracerName, usual_attributes};
use super::files::{self, File, Options};
use super::questions;

const TRACERS: [TracerName; 5] = [
    TracerName::Opentelemetry,
    TracerName::Zipkin,
    TracerName::ZipkinWithW3c,
    TracerName::None,
    TracerName::Native,
];

fn proxies() -> Vec<Proxy> {
    let envoys = EnvoyVersion::ALL.iter().copied().map(Proxy::Envoy);
    let istios = IstioVersion::ALL.iter().copied().map(Proxy::Istio);
    envoys.chain(istios).chain([Proxy::Gateway]).collect()
}

/// Every combination of the answers.
fn all() -> Vec<Answers> {
    let mut all = Vec::new();
    for proxy in proxies() {
        for tracer in TRACERS {
            for formats in [
                "tracecontext",
                "b3",
                "tracecontext,b3multi",
                "jaeger,xray,b3,datadog",
            ] {
                for place in [Place::Edge, Place::Inside] {
                    for (logs, attributes) in [
                        (true, usual_attributes()),
                        (true, Vec::new()),
                        (false, usual_attributes()),
                        (false, Vec::new()),
                    ] {
                        all.push(Answers {
                            proxy,
                            tracer,
                            formats: formats.parse().expect("formats"),
                            place,
                            logs,
                            attributes,
                        });
                    }
                }
            }
        }
    }
    all
}

fn findings(files: &[File]) -> Vec<String> {
    let yaml = files.iter().filter(|file| file.name.ends_with(".yaml"));
    let inputs: Vec<_> = yaml
        .map(|file| Input {
            name: file.name.clone(),
            bytes: file.content.clone().into_bytes(),
        })
        .collect();
    let report = check(&inputs, &CheckOptions::default());
    let findings = report.findings.iter();
    let findings = findings.filter(|finding| finding.code != Code::Placeholder);
    findings.map(ToString::to_string).collect()
}

#[test]
fn every_combination_of_answers_is_a_folder_without_a_finding() {
    let options = Options {
        folder: "out".to_owned(),
        ..Options::default()
    };
    let (mut written, mut refused) = (0, 0);
    for answers in all() {
        match files::of(&answers, &options) {
            Err(sentence) => {
                refused += 1;
                // It says what to do, and is one line.
                assert!(
                    sentence.len() > 40 && !sentence.contains('\n'),
                    "{sentence}"
                );
                let is_expected = answers.proxy == Proxy::Gateway
                    || answers.tracer == TracerName::Native
                    || sentence.starts_with("nothing is to be done");
                assert!(is_expected, "{answers:?}: {sentence}");
            }
            Ok(files) => {
                written += 1;
                let found = findings(&files);
                assert!(found.is_empty(), "{answers:?}: {found:#?}\n{files:#?}");
                let readme = files.last().expect("a file");
                assert_eq!(readme.name, "README.md");
                for part in [
                    "## Before",
                    "## Apply",
                    "## Verify",
                    "## Remove",
                    "meshtrace check out/",
                ] {
                    assert!(readme.content.contains(part), "{part}: {}", readme.content);
                }
            }
        }
    }
    assert!(
        written > 500 && refused > 100,
        "{written} written, {refused} refused"
    );
}

#[test]
fn a_folder_for_envoy_gateway_says_where_its_parts_go() {
    for logs in [true, false] {
        let answers = Answers {
            proxy: Proxy::Gateway,
            tracer: TracerName::None,
            formats: Formats::default(),
            place: Place::Edge,
            logs,
            attributes: Vec::new(),
        };
        let files = files::of(&answers, &Options::default()).expect("a folder");
        let content = |name: &str| {
            let file = files.iter().find(|file| file.name == name);
            &file.expect(name).content
        };
        let proxy = content("apply/envoy-proxy.yaml");
        let logged = "trace_id: \"%FILTER_STATE(wasm.trace_id:PLAIN)%\"";
        assert_eq!(proxy.contains(logged), logs, "{proxy}");
        let readme = content("README.md");
        for words in [
            "in the place of `eg`",
            "name: mesh-tracing}}",
            "doctor --pod envoy-gateway-system/POD --admin-port 19000",
            "Take `infrastructure.parametersRef` out of the Gateway",
        ] {
            assert!(readme.contains(words), "{words}: {readme}");
        }
    }
}

#[test]
fn a_folder_for_istio_names_the_labels_and_the_modules() {
    let answers = Answers {
        proxy: Proxy::Istio(IstioVersion::V1_30),
        tracer: TracerName::Zipkin,
        formats: Formats::default(),
        place: Place::Inside,
        logs: true,
        attributes: Vec::new(),
    };
    let files = files::of(&answers, &Options::default()).expect("a folder");
    let readme = &files.last().expect("a file").content;
    for words in [
        "`meshtrace-early: enabled`, `meshtrace-upstream: enabled`, `meshtrace-access-log: enabled`. Without them",
        "- Mount `trace_context.wasm` into the proxies",
        "The tracer and its collector stay those",
        "set `traceContextOption: USE_B3_WITH_W3C_PROPAGATION` in the Zipkin provider",
    ] {
        assert!(readme.contains(words), "{words}: {readme}");
    }
    assert!(!readme.contains("--collector"), "{readme}");
}

fn asked(input: &str) -> (Answers, String) {
    let defaults = Answers {
        proxy: Proxy::Istio(IstioVersion::V1_31),
        tracer: TracerName::None,
        formats: Formats::default(),
        place: Place::Inside,
        logs: true,
        attributes: usual_attributes(),
    };
    let mut output = Vec::new();
    let answers = questions::ask(defaults, &mut input.as_bytes(), &mut output).expect("answers");
    (answers, String::from_utf8(output).expect("text"))
}

#[test]
fn questions_have_defaults_and_ask_again() {
    let (answers, _) = asked("\n\n\n\n\n\n");
    assert_eq!(answers.proxy, Proxy::Istio(IstioVersion::V1_31));
    assert_eq!(answers.tracer, TracerName::None);
    assert_eq!(answers.place, Place::Inside);
    assert!(answers.logs);
    assert_eq!(answers.attributes, usual_attributes());

    let (answers, printed) =
        asked("apache\nenvoy 1.40\nOTEL\nw3c, jaeger\nedge\nno\nrelease=X-Release\n");
    assert!(printed.contains("expected \"envoy 1.40\""), "{printed}");
    assert_eq!(printed.matches("\n[").count(), 7, "{printed}");
    assert_eq!(answers.proxy, Proxy::Envoy(EnvoyVersion::V1_40));
    assert_eq!(answers.tracer, TracerName::Opentelemetry);
    assert_eq!(answers.formats.0, ["tracecontext", "jaeger"]);
    assert_eq!(answers.place, Place::Edge);
    assert!(!answers.logs);
    assert_eq!(answers.attributes.len(), 1);

    // At an edge identity comes from nobody, unless it is asked for.
    let (answers, _) = asked("envoy-gateway\n\n\n");
    assert_eq!(answers.place, Place::Edge);
    assert!(answers.attributes.is_empty());
}
