//! Lists without repeats.

use meshtrace_config::ConfigError;

/// Refuses the first of the `formats` at `key` that is listed twice.
///
/// # Errors
/// When there is one, with its path.
pub fn refuse_repeats<T: PartialEq>(key: &str, formats: &[T]) -> Result<(), ConfigError> {
    for (i, format) in formats.iter().enumerate() {
        if formats.iter().take(i).any(|before| before == format) {
            return Err(ConfigError::new(
                format!("{key}[{i}]"),
                "listed before; expected each format once",
            ));
        }
    }
    Ok(())
}
