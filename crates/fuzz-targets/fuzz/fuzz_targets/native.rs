#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| meshtrace_fuzz_targets::native(data));
