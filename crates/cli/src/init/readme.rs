//! The README of the folder: how to apply, verify and remove what is in it.

use super::answers::{Answers, Place, Proxy, TracerName};
use super::files::{File, Options};
use super::plan;

pub(super) fn file(answers: &Answers, options: &Options, files: &[File]) -> File {
    let mut text = String::from("# Tracing with meshtrace\n\n");
    text.push_str(&format!("Made by `meshtrace init` for {}. ", answers.proxy));
    text.push_str(tracer(answers.tracer));
    if answers.place == Place::Edge {
        text.push_str(" Clients are not believed: each request of theirs begins a new trace.");
    }
    text.push_str("\n\n");
    for sentence in plan::advice(answers) {
        text.push_str(&format!("{sentence}\n\n"));
    }
    text.push_str(&before(answers, options, files));
    text.push_str(&match answers.proxy {
        Proxy::Envoy(_) => envoy(answers, options),
        Proxy::Istio(_) | Proxy::Gateway => kubernetes(answers, options, files),
    });
    File::new("README.md", text)
}

fn tracer(tracer: TracerName) -> &'static str {
    match tracer {
        TracerName::None => "`mesh_tracing.wasm` is the tracer: the proxy's own is off.",
        TracerName::Native => "`libmeshtrace.so` is Envoy's own tracer.",
        TracerName::Opentelemetry => "The proxy's tracer is OpenTelemetry's.",
        TracerName::Zipkin => "The proxy's tracer is Zipkin's, with `USE_B3`.",
        TracerName::ZipkinWithW3c => {
            "The proxy's tracer is Zipkin's, with `USE_B3_WITH_W3C_PROPAGATION`."
        }
    }
}

fn before(answers: &Answers, options: &Options, files: &[File]) -> String {
    let (host, port) = options.collector(answers);
    let is_provider = matches!(answers.proxy, Proxy::Istio(_)) && answers.tracer.own().is_some();
    let mut text = match is_provider {
        // No file of the folder names the collector there.
        true => {
            "## Before\n\n- The tracer and its collector stay those of your mesh configuration.\n"
                .to_owned()
        }
        false => format!(
            "## Before\n\n- The collector is {host}, port {port}. Another one: `--collector HOST:PORT`.\n"
        ),
    };
    match answers.proxy {
        Proxy::Envoy(_) => {
            text.push_str(
                "- `make build` of meshtrace writes the modules to `dist/`. Run Envoy where that folder is, or name it with \
                 `--url`.\n- Put the address of your application into the cluster `application` of `envoy.yaml`.\n",
            );
            if answers.tracer.own().is_some() {
                text.push_str("- The cluster `tracing-collector` is the tracer's.\n");
            }
        }
        Proxy::Istio(_) | Proxy::Gateway => {
            if files
                .iter()
                .any(|file| file.content.contains("registry.example.com"))
            {
                text.push_str(
                    "- Put your registry's URL and the digest of the image, which `make push` prints, into the files that \
                     name `registry.example.com`.\n",
                );
            }
            if answers.proxy == Proxy::Gateway {
                text.push_str(
                    "- Put the name of your Gateway in the place of `eg` in `apply/mesh-tracing.yaml`. NAMESPACE is the \
                     Gateway's.\n- Name the EnvoyProxy of `apply/envoy-proxy.yaml` in your Gateway, below `spec`: \
                     `infrastructure: {parametersRef: {group: gateway.envoyproxy.io, kind: EnvoyProxy, name: \
                     mesh-tracing}}`. Where the Gateway or its class names one already, put `spec` of this one into that \
                     instead.\n- Leave `telemetry.tracing` out of it: the filter is the tracer.\n",
                );
            }
            let mounted = mounted(files);
            if !mounted.is_empty() {
                text.push_str(&format!(
                    "- Mount {} into the proxies under `/etc/meshtrace`: docs/istio.md, \"The module in a sidecar\".\n",
                    mounted.join(" and ")
                ));
            }
            if files.iter().any(|file| file.name == "mesh-config.yaml") {
                text.push_str(
                    "- Add what is in `mesh-config.yaml` to your mesh configuration (`istioctl install -f`, or the ConfigMap \
                     `istio`). It is no resource.\n",
                );
            }
            if let Some(labels) = labels(files) {
                text.push_str(&format!(
                    "- Give the pods these labels, in the pod template of their Deployments: {labels}. Without them \
                     nothing is applied to a pod.\n"
                ));
            }
        }
    }
    text.push('\n');
    text
}

/// The labels that the heads of the files name, each once.
fn labels(files: &[File]) -> Option<String> {
    let lines = files.iter().flat_map(|file| file.content.lines());
    let mut heads = lines.filter_map(|line| line.strip_prefix("# Labels of the pods: "));
    let labels = heads.next()?.split(", ").map(|label| format!("`{label}`"));
    Some(labels.collect::<Vec<_>>().join(", "))
}

/// The modules that are mounted, in quotes, each once.
fn mounted(files: &[File]) -> Vec<String> {
    let mut names = Vec::new();
    for file in files {
        for part in file.content.split("/etc/meshtrace/").skip(1) {
            let name = part.split_whitespace().next().unwrap_or_default();
            let name = format!("`{}`", name.trim_matches('"'));
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

fn envoy(answers: &Answers, options: &Options) -> String {
    let folder = &options.folder;
    let search = match answers.tracer {
        TracerName::Native => "ENVOY_DYNAMIC_MODULES_SEARCH_PATH=dist ",
        _ => "",
    };
    format!(
        "## Apply\n\n    meshtrace check {folder}/envoy.yaml\n    {search}envoy -c {folder}/envoy.yaml\n\n\
         ## Verify\n\n    curl -H '{}' http://127.0.0.1:10000/\n    meshtrace doctor http://127.0.0.1:9901\n\n\
         `doctor` ends with `all well`, and {}.\n\n\
         ## Remove\n\nStart Envoy with the configuration that you had. Nothing else was changed.\n",
        header(answers),
        joined(answers),
    )
}

fn kubernetes(answers: &Answers, options: &Options, files: &[File]) -> String {
    let folder = &options.folder;
    let mesh = match files.iter().any(|file| file.name == "mesh-config.yaml") {
        true => format!(" {folder}/mesh-config.yaml"),
        false => String::new(),
    };
    let namespace = match &options.namespace {
        Some(_) => "",
        None => " -n NAMESPACE",
    };
    let (before, pod, first, after) = match answers.proxy {
        Proxy::Gateway => (
            format!(
                "    kubectl get{namespace} envoyextensionpolicy mesh-tracing -o yaml    # its status says Accepted\n\n"
            ),
            // Envoy Gateway runs all its proxies in one namespace.
            "envoy-gateway-system/POD --admin-port 19000",
            "Take `infrastructure.parametersRef` out of the Gateway, or what you put into an EnvoyProxy of yours. Then:\n\n",
            "",
        ),
        Proxy::Envoy(_) | Proxy::Istio(_) => (
            String::new(),
            "NAMESPACE/POD",
            "",
            match mesh.is_empty() {
                true => "",
                false => {
                    "\nThen take what is in `mesh-config.yaml` out of the mesh configuration.\n"
                }
            },
        ),
    };
    format!(
        "## Apply\n\n    meshtrace check {folder}/apply{mesh}\n    kubectl apply{namespace} -f {folder}/apply\n\n\
         ## Verify\n\n{before}Send a request with `{}`, then:\n\n    meshtrace doctor --pod {pod} --seconds 30\n\n\
         `doctor` ends with `all well`, and {}.\n\n\
         ## Remove\n\n{first}    kubectl delete{namespace} -f {folder}/apply\n{after}",
        header(answers),
        joined(answers),
    )
}

/// A trace header that callers may send.
fn header(answers: &Answers) -> &'static str {
    const TRACEPARENT: &str =
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let formats = &answers.formats.0;
    match formats.contains(&"b3") && !formats.contains(&"tracecontext") {
        true => "b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        false => TRACEPARENT,
    }
}

fn joined(answers: &Answers) -> &'static str {
    match answers.place {
        Place::Inside => "the trace 4bf92f3577b34da6a3ce929d0e0e4736 is at the collector",
        Place::Edge => "a new trace is at the collector, and not 4bf92f3577b34da6a3ce929d0e0e4736",
    }
}
