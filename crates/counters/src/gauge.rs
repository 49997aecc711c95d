//! The gauges of a plugin's configuration.

/// The gauge that is 1 while any plugin runs without the configuration that it was given, without
/// the `wasmcustom.` that Envoy puts before it.
pub const CONFIG_INVALID: &str = "meshtrace.config_invalid";

/// The longest part of a plugin's name that its gauge has, in bytes.
const LONGEST: usize = 64;

/// The gauge that is 1 while the plugin of this name runs without the configuration that it was
/// given. Letters, digits, `.` and `-` of the name stay, and every other byte becomes `_`: a sink of
/// metrics may not accept it.
#[must_use]
#[inline(never)]
pub fn config_invalid_of(plugin: &[u8]) -> String {
    let name = plugin.iter().take(LONGEST).map(|byte| match byte {
        b'.' | b'-' => char::from(*byte),
        byte if byte.is_ascii_alphanumeric() => char::from(*byte),
        _ => '_',
    });
    let mut gauge = [CONFIG_INVALID, ".plugin."].concat();
    gauge.extend(name);
    gauge
}
