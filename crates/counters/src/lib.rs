//! The counters of a stage: their names, and the set of those that one request moves.

#![forbid(unsafe_code)]

mod gauge;

use core::fmt;
use core::marker::PhantomData;

pub use gauge::{CONFIG_INVALID, config_invalid_of};

/// The counters of one stage. [`counters!`] makes such an enum.
pub trait Counter: Copy + fmt::Debug + 'static {
    /// All of them, in the order of their bits in a [`Tally`].
    const ALL: &'static [Self];
    /// Their names in Envoy, in the same order, without the `wasmcustom.` that Envoy puts before
    /// them.
    const METRICS: &'static [&'static str];
    /// What each of them counts, in the same order: the text of its documentation, with a space
    /// before each of its lines.
    const DESCRIPTIONS: &'static [&'static str];

    /// The place in [`ALL`](Self::ALL).
    fn index(self) -> usize;
}

/// Makes an enum of counters: `counters!("meshtrace.stage.", /// … Name = "metric", …)`.
#[macro_export]
macro_rules! counters {
    ($prefix:literal, $($(#[doc = $doc:expr])* $name:ident = $metric:literal,)*) => {
        /// Something that happened to one request. Each is an Envoy counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Counter {
            $($(#[doc = $doc])* $name,)*
        }

        impl Counter {
            /// The counter's name in Envoy, without the `wasmcustom.` that Envoy puts before it.
            #[must_use]
            pub const fn metric(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($prefix, $metric),)*
                }
            }
        }

        impl $crate::Counter for Counter {
            const ALL: &'static [Self] = &[$(Self::$name,)*];
            const METRICS: &'static [&'static str] = &[$(concat!($prefix, $metric),)*];
            const DESCRIPTIONS: &'static [&'static str] = &[$(concat!($($doc),*),)*];

            fn index(self) -> usize {
                self as usize
            }
        }

        const _: () = assert!(
            <Counter as $crate::Counter>::ALL.len() <= 64,
            "a tally has 64 bits"
        );
    };
}

/// The counters that one request moves, each at most once.
pub struct Tally<C> {
    bits: u64,
    counters: PhantomData<C>,
}

impl<C: Counter> Tally<C> {
    /// Counts `counter` for this request, once.
    pub fn count(&mut self, counter: C) {
        self.bits |= 1 << counter.index();
    }

    /// Whether `counter` was counted.
    #[must_use]
    pub fn has(self, counter: C) -> bool {
        self.bits & (1 << counter.index()) != 0
    }

    /// The counters that were counted.
    pub fn iter(self) -> impl Iterator<Item = C> {
        C::ALL
            .iter()
            .copied()
            .filter(move |counter| self.has(*counter))
    }

    /// One bit per counter, in the order of [`Counter::ALL`].
    #[must_use]
    pub fn bits(self) -> u64 {
        self.bits
    }
}

impl<C> Clone for Tally<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Tally<C> {}

impl<C> Default for Tally<C> {
    fn default() -> Self {
        Self {
            bits: 0,
            counters: PhantomData,
        }
    }
}

impl<C> PartialEq for Tally<C> {
    fn eq(&self, other: &Self) -> bool {
        self.bits == other.bits
    }
}

impl<C> Eq for Tally<C> {}

impl<C: Counter> fmt::Debug for Tally<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
