//! The exports of a filter, and the list of them by which the release step prunes the others.

use meshtrace_pipeline::Callback;

/// The custom section that lists the callbacks that a composition needs, one export per line.
pub const SECTION_NAME: &str = "meshtrace.callbacks";

/// The length of [`callbacks_section`], in bytes.
#[must_use]
#[expect(
    clippy::indexing_slicing,
    reason = "runs at compile time, bounded by its own loop"
)]
pub const fn callbacks_length(callbacks: &[Callback]) -> usize {
    let mut length = 0;
    let mut i = 0;
    while i < callbacks.len() {
        length += callbacks[i].export().len() + 1;
        i += 1;
    }
    length
}

/// The content of the custom section for `callbacks`: `N` is their [`callbacks_length`].
#[must_use]
#[expect(
    clippy::indexing_slicing,
    reason = "runs at compile time, bounded by its own loop"
)]
pub const fn callbacks_section<const N: usize>(callbacks: &[Callback]) -> [u8; N] {
    let mut section = [b'\n'; N];
    let mut end = 0;
    let mut i = 0;
    while i < callbacks.len() {
        let name = callbacks[i].export().as_bytes();
        let mut j = 0;
        while j < name.len() {
            section[end + j] = name[j];
            j += 1;
        }
        end += name.len() + 1;
        i += 1;
    }
    section
}

/// Makes a Wasm module of a [`Composition`](meshtrace_pipeline::Composition): its entry point, and
/// the list of the callbacks that it needs.
#[macro_export]
macro_rules! filter {
    ($composition:ty) => {
        const _: () = {
            $crate::proxy_wasm::main! {{
                $crate::proxy_wasm::set_root_context($crate::new_root::<$composition>);
            }}
        };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            const CALLBACKS: &[$crate::pipeline::Callback] =
                <$composition as $crate::pipeline::Composition>::CALLBACKS;
            const LENGTH: usize = $crate::callbacks_length(CALLBACKS);

            #[used]
            #[unsafe(link_section = "meshtrace.callbacks")]
            static SECTION: [u8; LENGTH] = $crate::callbacks_section(CALLBACKS);
        };
    };
}
