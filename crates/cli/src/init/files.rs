//! The files of a set-up, and how they are written.

use std::fs;
use std::path::Path;

use meshtrace_render::{Filter, FilterSetup, Host, Kind, Rendering, Role, Setup};
use serde_json::Value;

use super::answers::{Answers, Place, Proxy, TracerName};
use super::{envoy, gateway, plan, readme};

/// What does not change what is set up.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    /// Host and port of the collector.
    pub(super) collector: Option<(String, u16)>,
    /// The modules.
    pub(super) url: Option<String>,
    /// The namespace of the resources.
    pub(super) namespace: Option<String>,
    /// The folder, as its README names it.
    pub(super) folder: String,
}

impl Options {
    /// The address of the collector.
    pub(super) fn collector(&self, answers: &Answers) -> (String, u16) {
        let host = match answers.proxy {
            Proxy::Envoy(_) => "127.0.0.1",
            Proxy::Istio(_) | Proxy::Gateway => "otel-collector.observability.svc.cluster.local",
        };
        let port = match answers.tracer {
            TracerName::None | TracerName::Native => 4318,
            TracerName::Opentelemetry => 4317,
            TracerName::Zipkin | TracerName::ZipkinWithW3c => 9411,
        };
        self.collector.clone().unwrap_or((host.to_owned(), port))
    }
}

/// A file of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Its path in the folder.
    pub(super) name: String,
    pub(super) content: String,
}

impl File {
    pub(super) fn new(name: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            content: content.into(),
        }
    }
}

/// All files.
pub(super) fn of(answers: &Answers, options: &Options) -> Result<Vec<File>, String> {
    let mut files = match answers.proxy {
        Proxy::Envoy(version) => {
            let rendering = rendering(answers, options, Host::Envoy(version))?;
            vec![envoy::bootstrap(answers, options, &rendering)?]
        }
        Proxy::Istio(version) => {
            let rendering = rendering(answers, options, Host::Istio(version))?;
            let file = |piece: &meshtrace_render::Piece| match piece.kind {
                // kubectl does not take it.
                Kind::MeshConfig => File::new("mesh-config.yaml", rendering.file(piece)),
                Kind::Envoy | Kind::Resource => {
                    File::new(format!("apply/{}", piece.name), rendering.file(piece))
                }
            };
            rendering.pieces.iter().map(file).collect()
        }
        Proxy::Gateway => gateway::files(answers, options)?,
    };
    files.push(readme::file(answers, options, &files));
    Ok(files)
}

fn rendering(answers: &Answers, options: &Options, host: Host) -> Result<Rendering, String> {
    let (collector, port) = options.collector(answers);
    let cluster = match answers.proxy {
        Proxy::Istio(_) => format!("outbound|{port}||{collector}"),
        Proxy::Envoy(_) | Proxy::Gateway => "collector".to_owned(),
    };
    let mut setup = Setup::new(host);
    setup.tracer = answers.tracer.beside();
    setup.role = match (answers.proxy, answers.place) {
        (Proxy::Istio(_), Place::Edge) => Role::Gateway,
        _ => Role::Sidecar,
    };
    setup.namespace.clone_from(&options.namespace);
    setup.collector = matches!(answers.proxy, Proxy::Envoy(_)).then_some((collector, port));
    for (filter, config) in plan::filters(answers, &cluster)? {
        let url = options.url.as_deref().map(|url| url_of(url, filter));
        setup.filters.push(FilterSetup {
            url,
            ..FilterSetup::new(filter, config.to_string())
        });
    }
    setup.render().map_err(|refused| refused.to_string())
}

/// The URL of a filter's module.
pub(super) fn url_of(url: &str, filter: Filter) -> String {
    url.replace("{filter}", filter.name())
}

/// Writes the files. A folder with something in it is left alone without `is_forced`.
pub(super) fn write(folder: &Path, files: &[File], is_forced: bool) -> Result<(), String> {
    let shown = folder.display();
    let is_taken = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        // What is no folder is told below.
        Err(_) => folder.exists(),
    };
    if is_taken && !is_forced {
        return Err(format!(
            "{shown} is there already; name another folder with --out, or write over it with --force"
        ));
    }
    for file in files {
        let path = folder.join(&file.name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, &file.content))
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    Ok(())
}

/// Puts `more` into `target`: maps key by key, lists one behind the other, of others the new one.
pub(super) fn merge(target: &mut Value, more: Value) {
    match (target, more) {
        (Value::Object(target), Value::Object(more)) => {
            for (key, value) in more {
                match target.get_mut(&key) {
                    Some(own) => merge(own, value),
                    None => {
                        target.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(target), Value::Array(more)) => target.extend(more),
        (target, more) => *target = more,
    }
}
