//! `meshtrace-wasm-release <in.wasm> <out.wasm>`: prunes a linked proxy-wasm module and runs
//! `wasm-opt` over it.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs, io};

/// The extensions of WebAssembly that rustc uses for wasm32-wasip1, all of them in every V8 that
/// Envoy ships.
const FEATURES: [&str; 6] = [
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

/// Functions with one caller are inlined up to this size only. Without a limit one function
/// contains the whole code of a stage, and V8 needs more memory to compile it than for all others
/// together.
const INLINED: &str = "--one-caller-inline-max-function-size=50";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [input, output] = arguments.as_slice() else {
        eprintln!("usage: meshtrace-wasm-release <in.wasm> <out.wasm>");
        return ExitCode::from(2);
    };
    match release(Path::new(input), Path::new(output)) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {input}: {why}");
            ExitCode::FAILURE
        }
    }
}

fn release(input: &Path, output: &Path) -> Result<String, String> {
    let linked = fs::read(input).map_err(|why| why.to_string())?;
    let pruned = meshtrace_wasm_release::prune(&linked).map_err(|why| why.to_string())?;
    let released = optimize(&pruned, output)?;
    Ok(format!(
        "{}: {} -> {released} bytes ({} before wasm-opt)",
        output.display(),
        linked.len(),
        pruned.len()
    ))
}

/// Writes the optimised module to `output`, as a whole or not at all, and returns its size.
fn optimize(pruned: &[u8], output: &Path) -> Result<u64, String> {
    let before = output.with_extension("pruned.tmp");
    let after = output.with_extension("optimized.tmp");
    let result = fs::write(&before, pruned)
        .map_err(|why| format!("cannot write {}: {why}", before.display()))
        .and_then(|()| run_wasm_opt(&before, &after))
        .and_then(|()| {
            fs::rename(&after, output)
                .and_then(|()| fs::metadata(output))
                .map_err(|why| format!("cannot write {}: {why}", output.display()))
        });
    // Both temporary files are removed, also after an error.
    let _ = fs::remove_file(&before);
    let _ = fs::remove_file(&after);
    result.map(|written| written.len())
}

fn run_wasm_opt(input: &Path, output: &Path) -> Result<(), String> {
    // -g keeps the function names.
    let ran = Command::new("wasm-opt")
        .args(["-O3", "-g", INLINED])
        .args(FEATURES)
        .arg(input)
        .arg("-o")
        .arg(output)
        .output();
    match ran {
        Ok(ran) if ran.status.success() => Ok(()),
        Ok(ran) => Err(format!(
            "wasm-opt failed ({}): {}",
            ran.status,
            String::from_utf8_lossy(&ran.stderr).trim()
        )),
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            Err("wasm-opt is not on PATH (Debian: the package binaryen)".to_owned())
        }
        Err(why) => Err(format!("wasm-opt does not run: {why}")),
    }
}
