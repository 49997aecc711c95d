//! Callers whose context is not trusted: their headers are removed before the tracer reads them.

use std::collections::BTreeSet;

use meshtrace_propagation::format::Format;
use meshtrace_propagation::{Family, Field, IncomingMode, TraceContextConfig, Vendor, families};

use super::names::{
    CALLERS_CLUSTER, CLIENT_TRACE_ID, FORCE_TRACE, REQUEST_ID, SPAN_NAME, TRACEPARENT, helper, name,
};
use crate::cel::{cel, first, has, value, when};
use crate::script::Script;

/// Removes the headers of callers for whom the condition `believed` does not hold; without one, of
/// all callers. The tracer then starts a new trace, and Envoy makes a new request id.
pub(super) fn remove(
    config: &TraceContextConfig,
    mode: IncomingMode,
    believed: Option<String>,
    script: &mut Script,
) {
    let removed = headers(config, mode);
    let Some(believed) = believed else {
        for header in removed {
            script.remove(header);
        }
        for prefix in prefixes(config, mode) {
            script.remove_family(prefix);
        }
        return;
    };

    script.remove(helper::BELIEVED);
    script.set(helper::BELIEVED, cel(when(believed, "'1'")));
    // No mutation removes a header on a condition, so the headers of a trusted caller are put back.
    for header in removed {
        let arrived = match counts_by_first_line(&header) {
            true => first(&header),
            false => cel(when(has(&header), value(&header))),
        };
        let both = format!("{} && {}", has(helper::BELIEVED), has(helper::KEPT));
        script.remove(helper::KEPT);
        script.set(helper::KEPT, arrived);
        script.remove(header.clone());
        script.set(header, cel(when(both, value(helper::KEPT))));
    }
    script.remove(helper::KEPT);
    script.remove(helper::BELIEVED);
}

/// Whether the first one of repeated lines counts, as the filter reads them. Of `traceparent` all
/// lines must name one trace, and a list goes on in other lines.
fn counts_by_first_line(header: &str) -> bool {
    let is_id = |format: &Format| {
        let ids = format
            .fields()
            .iter()
            .filter(|field| !format.lists().contains(*field));
        ids.map(|field| name(*field)).any(|id| id == header)
    };
    header != TRACEPARENT && Format::ALL.iter().any(is_id)
}

/// The headers that carry a trace context, and those by which a caller can make Envoy sample, name
/// or describe a span.
fn headers(config: &TraceContextConfig, mode: IncomingMode) -> Vec<String> {
    let mut headers = Vec::new();
    let mut add = |header: &str| {
        if !headers.iter().any(|known| known == header) {
            headers.push(header.to_owned());
        }
    };
    match mode {
        IncomingMode::Ignore => Field::ALL.iter().for_each(|field| add(name(*field))),
        IncomingMode::Continue | IncomingMode::Restart => {
            let formats = Format::EXTRACTED_BY_DEFAULT.iter();
            let fields = formats.flat_map(|format| format.fields());
            fields.for_each(|field| add(name(*field)));
        }
    }
    let obeyed = [
        CLIENT_TRACE_ID,
        FORCE_TRACE,
        REQUEST_ID,
        SPAN_NAME,
        CALLERS_CLUSTER,
    ];
    for header in obeyed {
        add(header);
    }
    for entry in &config.clear {
        match Cleared::new(entry) {
            Cleared::Format(format) => {
                format.fields().iter().for_each(|field| add(name(*field)));
            }
            Cleared::Family(_) => {}
            Cleared::Header(header) => add(&header),
        }
    }
    let of_families = families_of(config, mode).flat_map(|family| family.names);
    of_families.for_each(|header| add(header));
    headers
}

/// The prefixes of the names of further headers.
pub(super) fn prefixes(
    config: &TraceContextConfig,
    mode: IncomingMode,
) -> impl Iterator<Item = &'static str> {
    let prefixes = families_of(config, mode).map(|family| family.prefix);
    let known = prefixes.filter(|prefix| !prefix.is_empty());
    known.collect::<BTreeSet<_>>().into_iter()
}

/// The families of headers that no format reads and that are removed too.
fn families_of(config: &TraceContextConfig, mode: IncomingMode) -> impl Iterator<Item = Family> {
    let of_entry = |entry: &String| match Cleared::new(entry) {
        Cleared::Format(format) => format.companions(),
        Cleared::Family(family) => Some(family),
        Cleared::Header(_) => None,
    };
    let ignored = families().filter(move |_| mode == IncomingMode::Ignore);
    ignored.chain(config.clear.iter().filter_map(of_entry))
}

/// What an entry of `clear` names.
enum Cleared {
    Format(Format),
    Family(Family),
    Header(String),
}

impl Cleared {
    fn new(entry: &str) -> Self {
        let entry = entry.to_ascii_lowercase();
        let vendors = Vendor::from_name(&entry).map(Vendor::family);
        let family = vendors.or_else(|| Family::from_pattern(&entry));
        match (Format::from_name(&entry), family) {
            (Some(format), _) => Self::Format(format),
            (None, Some(family)) => Self::Family(family),
            (None, None) => Self::Header(entry),
        }
    }
}
