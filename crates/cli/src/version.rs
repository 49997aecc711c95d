//! The versions that `--version` prints.

use std::fmt::Write as _;
use std::sync::LazyLock;

use meshtrace_check::Filter;

/// The version of every crate and module of the repository: they have one, that of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of the command line, and those of the modules that it is made with.
pub(crate) fn all() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut text = VERSION.to_owned();
        let modules = Filter::ALL.map(|filter| format!("{}.wasm", filter.name()));
        for module in modules
            .iter()
            .map(String::as_str)
            .chain(["libmeshtrace.so"])
        {
            // Writing to a string never fails.
            let _ = write!(text, "\n{module:22}{VERSION}");
        }
        text
    });
    &TEXT
}
