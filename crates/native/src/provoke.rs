//! Faults that a test provokes in a module of its own: a released module has none of this code.

use crate::call::Carrier;

/// The header, and the tag, whose value names the fault.
const NAME: &[u8] = b"x-provoke";

/// What a request asks for when its span starts or is injected.
pub(crate) fn by_header(carrier: &Carrier, hook: &[u8]) {
    let asked = carrier.get(NAME).unwrap_or_default();
    if asked == hook {
        panic();
    }
    if asked == b"use-after-free" {
        use_after_free();
    }
}

/// What a tag of a span asks for.
pub(crate) fn by_tag(key: &[u8], value: &[u8]) {
    if key == NAME && value == b"set_tag" {
        panic();
    }
}

#[expect(clippy::panic, reason = "a test asks for it")]
fn panic() {
    panic!("provoked");
}

/// Reads memory that is freed: AddressSanitizer must end the process.
fn use_after_free() {
    let place = Box::into_raw(Box::new([7_u8; 64]));
    // SAFETY: none, and that is the test. Only a build with the sanitizer is asked for this.
    let read = unsafe {
        drop(Box::from_raw(place));
        place.cast::<u8>().add(8).read_volatile()
    };
    core::hint::black_box(read);
}
