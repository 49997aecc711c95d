//! The headers that are written to a request and removed from it, for one destination.

use meshtrace_config::{ConfigError, Mistakes, each};
use meshtrace_headers::{NameRefusal, written_name};

use crate::config::{InjectConfig, OverrideConfig, Placement, TraceContextConfig};
use crate::field::{Field, FieldSet};
use crate::format::{Format, FormatSet};
use crate::repeats::refuse_repeats;
use crate::vendor::{Family, Vendor};

/// The most headers besides the known ones that one `clear` removes.
pub const MAX_CLEAR: usize = 16;

/// The headers that are written to a request and removed from it, for one destination.
#[derive(Clone, Debug)]
pub struct DestinationPolicy {
    pub(crate) inject: Inject,
    pub(crate) clear: Clear,
    /// The formats that are rewritten where they arrived, so that none of them is sent on with
    /// other ids.
    pub(crate) in_step: FormatSet,
}

/// Which formats are written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inject {
    /// These formats.
    Formats(FormatSet),
    /// The format that came in; without one, the default.
    Preserve { default: Format },
}

impl Inject {
    /// The formats to write for a context that was taken from `incoming`.
    pub(crate) fn formats(self, incoming: Option<Format>) -> FormatSet {
        match self {
            Self::Formats(formats) => formats,
            Self::Preserve { default } => FormatSet::from_iter([incoming.unwrap_or(default)]),
        }
    }
}

impl DestinationPolicy {
    /// Compiles what `config` has at its top level or, where there is one, in its `own` override.
    ///
    /// # Errors
    /// When two keys contradict each other or a value is impossible, with the key's path.
    #[inline(never)]
    pub(crate) fn new(
        config: &TraceContextConfig,
        extract: &[Format],
        own: Option<&OverrideConfig>,
    ) -> Result<Self, ConfigError> {
        let own_clear = own.and_then(|own| own.clear.as_deref());
        let mut mistakes = Mistakes::default();
        let inherits_clear = own.is_some() && own_clear.is_none();
        let clear = Clear::new(own_clear.unwrap_or(&config.clear));
        let clear = match inherits_clear {
            // The top level tells of its mistakes.
            true => clear.unwrap_or_default(),
            false => mistakes.keep(clear).unwrap_or_default(),
        };
        let own_inject = own.and_then(|own| own.inject.as_ref());
        let inject = match own_inject.or(config.inject.as_ref()) {
            Some(InjectConfig::Preserve) => Inject::Preserve {
                default: config.default_format.unwrap_or(Format::Tracecontext),
            },
            Some(InjectConfig::Formats(formats)) => {
                // The formats that an entry inherits are overridden by the formats that it clears.
                if own.is_none() || own_inject.is_some() {
                    mistakes.keep(refuse_repeats("inject", formats));
                    mistakes.keep(refuse_cleared(formats, &clear, inherits_clear));
                }
                Inject::Formats(formats.iter().copied().collect())
            }
            None => Inject::Formats(FormatSet::from_iter([
                Format::Tracecontext,
                Format::B3Multi,
            ])),
        };
        let mut in_step: FormatSet = extract.iter().copied().collect();
        if config.placement == Placement::Upstream {
            let usual = Format::EXTRACTED_BY_DEFAULT.iter().copied().collect();
            in_step = in_step.union(usual).union(inject.formats(None));
        }
        mistakes.finish(Some(Self {
            inject,
            clear,
            in_step,
        }))
    }

    /// Whether the header `field` is removed, whatever its value.
    #[must_use]
    pub fn clears(&self, field: Field) -> bool {
        self.clear.fields.contains(field)
    }
}

/// The headers that are removed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clear {
    pub(crate) formats: FormatSet,
    /// Single headers of formats.
    pub(crate) fields: FieldSet,
    /// Other headers, by their lower-case names.
    pub(crate) names: Vec<Box<[u8]>>,
    /// Headers that no format reads.
    pub(crate) families: Vec<Family>,
}

impl Clear {
    /// Compiles the entries of `clear`.
    #[inline(never)]
    fn new(entries: &[String]) -> Result<Self, ConfigError> {
        let mut clear = Self::default();
        each("clear", entries, |_, entry| clear.add(entry))?;
        Ok(clear)
    }

    /// Adds a format, a vendor or a header.
    fn add(&mut self, entry: &str) -> Result<(), ConfigError> {
        let name = entry.to_ascii_lowercase();
        if let Some(format) = Format::from_name(&name) {
            self.formats.insert(format);
            self.families.extend(format.companions());
        } else if let Some(vendor) = Vendor::from_name(&name) {
            self.families.push(vendor.family());
        } else if let Some(family) = Family::from_pattern(&name) {
            self.families.push(family);
        } else if name.contains('*') {
            return Err(ConfigError::invalid_text(
                "",
                entry,
                &"expected the whole name of a header, or one of `uberctx-*`, `ot-baggage-*`, \
                  `x-instana-*`, `sw8*`",
            ));
        } else if let Some(field) = Field::from_name(name.as_bytes()) {
            self.fields.insert(field);
        } else {
            let name = written_name(&name).map_err(|refusal| match refusal {
                NameRefusal::NotAToken => {
                    let (formats, vendors) = (Format::NAMES, Vendor::NAMES);
                    let expected = format!(
                        "expected a format ({formats}), a vendor ({vendors}) or the name of a header"
                    );
                    ConfigError::invalid_text("", entry, &expected)
                }
                refusal => ConfigError::invalid_text("", entry, &refusal),
            })?;
            if self.names.len() == MAX_CLEAR {
                let message = format!("too many headers; expected at most {MAX_CLEAR}");
                return Err(ConfigError::new("", message));
            }
            self.names.push(name);
        }
        Ok(())
    }

    /// Whether any header of `format` is removed.
    pub(crate) fn touches(&self, format: Format) -> bool {
        let mut fields = format.fields().iter();
        self.formats.contains(format) || fields.any(|field| self.fields.contains(*field))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.formats == FormatSet::default()
            && self.fields == FieldSet::default()
            && self.names.is_empty()
            && self.families.is_empty()
    }

    pub(crate) fn names(&self, header: &[u8]) -> bool {
        self.names.iter().any(|name| **name == *header)
    }
}

fn refuse_cleared(
    formats: &[Format],
    clear: &Clear,
    inherits_clear: bool,
) -> Result<(), ConfigError> {
    let message = if inherits_clear {
        "also in the top level's `clear`, which this entry inherits; give it a `clear` of its own"
    } else {
        "also in `clear`; a format is either written or removed"
    };
    let kept = |_, format: &Format| match clear.formats.contains(*format) {
        true => Err(ConfigError::new("", message)),
        false => Ok(()),
    };
    each("inject", formats, kept).map(drop)
}
