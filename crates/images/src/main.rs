//! `meshtrace-images build`: packs `dist/*.wasm` and the native tracer into `dist/oci/`. `meshtrace-images push
//! <host:port/namespace> [tag]`: pushes what is there. `meshtrace-images sbom <package> <target> <file>`: prints the bill of
//! materials of a compiled program. All are run in the root of the repository.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use meshtrace_images::{Layout, Project, PushError, Target, bill_of_materials, push};

const MODULES: &str = "dist";
const LAYOUTS: &str = "dist/oci";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["build"] => build().map_err(|why| why.to_string()),
        ["push", registry] => push_all(registry, None).map_err(|why| why.to_string()),
        ["push", registry, tag] => push_all(registry, Some(tag)).map_err(|why| why.to_string()),
        ["sbom", package, target, file] => {
            bill_of_materials(Path::new("."), package, target, Path::new(file))
                .map(|bill| println!("{}", String::from_utf8_lossy(&bill)))
                .map_err(|why| why.to_string())
        }
        _ => {
            eprintln!(
                "usage: meshtrace-images build\n       meshtrace-images push <host[:port]/namespace> [tag]\n       \
                 meshtrace-images sbom <package> <target> <file>"
            );
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), meshtrace_images::BuildError> {
    let project = Project::read(Path::new("."))?;
    if project.revision().source.is_none() {
        eprintln!(
            "note: neither SOURCE nor Cargo's `repository` nor git's `origin` says where the source is: the images \
             have no org.opencontainers.image.source"
        );
    }
    for layout in Layout::build_all(&project, Path::new(MODULES), Path::new(LAYOUTS))? {
        for image in &layout.images {
            println!("{LAYOUTS}/{}:{}@{}", layout.name, image.tag, image.digest);
        }
    }
    Ok(())
}

fn push_all(registry: &str, tag: Option<&str>) -> Result<(), PushError> {
    let plain_http = env::var("PLAIN_HTTP").is_ok_and(|value| value == "1");
    let target = Target::new(registry, tag, plain_http)?;
    let layouts = layouts()?;
    // The library does not choose a provider itself.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| PushError::Registry {
            registry: registry.to_owned(),
            why: why.to_string(),
        })?;
    for layout in &layouts {
        let pushed = runtime.block_on(push(layout, &target, |step| eprintln!("{step}")))?;
        // These lines go to stdout, so that a script can read the digests and a user can pin them.
        for image in pushed {
            println!("{}@{}", image.reference, image.digest);
        }
    }
    Ok(())
}

/// The layouts, in the order of their names.
fn layouts() -> Result<Vec<Layout>, PushError> {
    let refused = |why: String| PushError::Layout {
        path: PathBuf::from(LAYOUTS),
        why,
    };
    let entries = fs::read_dir(LAYOUTS).map_err(|why| refused(why.to_string()))?;
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("oci-layout").exists())
        .collect();
    folders.sort();
    if folders.is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    folders.iter().map(|folder| Layout::read(folder)).collect()
}
