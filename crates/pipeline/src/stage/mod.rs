//! The stages. Each stage does one thing with a request, the same in every filter that has it.

pub(crate) mod access_log;
pub(crate) mod attributes;
pub(crate) mod propagation;
pub(crate) mod report;
pub(crate) mod sampling;

/// Puts the path of a stage's configuration before its warnings.
pub(crate) fn below(path: &str, cautions: Vec<String>) -> Vec<String> {
    let cautions = cautions.iter();
    cautions
        .map(|caution| [path, ": ", caution].concat())
        .collect()
}
