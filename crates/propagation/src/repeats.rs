//! Lists without repeats.

use meshtrace_config::{ConfigError, each};

/// Refuses each of the `formats` at `key` that was listed before.
///
/// # Errors
/// When there is one, with its path.
pub fn refuse_repeats<T: PartialEq>(key: &str, formats: &[T]) -> Result<(), ConfigError> {
    let once = |i, format: &T| match formats.iter().take(i).any(|before| before == format) {
        true => Err(ConfigError::new(
            "",
            "listed before; expected each format once",
        )),
        false => Ok(()),
    };
    match each(key, formats, once) {
        Ok(_) => Ok(()),
        // Another entry that is refused may be what it repeats.
        Err(error) => Err(error.judged_by(key)),
    }
}
