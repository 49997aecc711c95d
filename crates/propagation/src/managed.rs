//! Which request headers a configuration can change.

use meshtrace_baggage::NAME as BAGGAGE;
use meshtrace_headers::Managed;

use crate::config::IncomingMode;
use crate::destination::DestinationPolicy;
use crate::format::Format;
use crate::propagation::Propagation;
use crate::{Family, Field, families};

impl Propagation {
    /// The headers that can be written or removed.
    #[must_use]
    pub fn managed_headers(&self) -> Vec<Managed<'_>> {
        let baggage = (!self.baggage_from.is_empty()).then_some(BAGGAGE);
        let fields = Field::ALL.iter().filter(|field| self.manages(**field));
        let names = self.policies().flat_map(|policy| &policy.clear.names);
        let mut managed: Vec<Managed<'_>> = Vec::new();
        for name in fields
            .map(|field| field.name())
            .chain(names.map(|name| &**name))
            .chain(
                self.removed_families()
                    .flat_map(|family| family.names)
                    .map(|name| name.as_bytes()),
            )
            .chain(baggage)
        {
            if managed.iter().all(|known| known.name != name) {
                let leaves = !self.policies().all(|policy| policy.clears_name(name));
                managed.push(Managed { name, leaves });
            }
        }
        managed
    }

    /// Whether headers are removed by the prefix of their names.
    #[must_use]
    pub fn removes_by_prefix(&self) -> bool {
        self.removed_families()
            .any(|family| !family.prefix.is_empty())
    }

    fn removed_families(&self) -> impl Iterator<Item = Family> {
        let of_ignored = (self.trust.mode == IncomingMode::Ignore).then(families);
        let cleared = self.policies().flat_map(|policy| &policy.clear.families);
        cleared.copied().chain(of_ignored.into_iter().flatten())
    }

    fn manages(&self, field: Field) -> bool {
        let is_of = |format: &Format| format.fields().contains(&field);
        self.trust.mode == IncomingMode::Ignore
            // `preserve` writes a format that is read, or its default.
            || self.extraction.formats.iter().any(is_of)
            || self.policies().any(|policy| {
                let written = policy.inject.formats(None);
                let mut formats = Format::ALL.iter().filter(|format| is_of(format));
                policy.clears(field)
                    || formats.any(|format| {
                        written.contains(*format)
                            || policy.in_step.contains(*format)
                            || policy.clear.formats.contains(*format)
                    })
            })
    }
}

impl DestinationPolicy {
    fn clears_name(&self, name: &[u8]) -> bool {
        let of_format = |field: Field| {
            let mut cleared = Format::ALL
                .iter()
                .filter(|format| self.clear.formats.contains(**format));
            self.clears(field) || cleared.any(|format| format.fields().contains(&field))
        };
        let mut families = self.clear.families.iter();
        self.clear.names(name)
            || families.any(|family| family.contains(name))
            || Field::from_name(name).is_some_and(of_format)
    }
}
