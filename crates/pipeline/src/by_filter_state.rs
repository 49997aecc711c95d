//! `request_headers: "filter_state"`: the filter writes request headers without editing them.
//!
//! When a filter edits a request header, Envoy chooses the route again, from the headers as the
//! filters in front have left them. Filter state changes no route.

use meshtrace_attributes::AttributeConfig;
use meshtrace_config::{ConfigError, RequestHeaders, each};
use meshtrace_envoy::filter_state;
use meshtrace_headers::{Managed, Value, join};
use meshtrace_propagation::{Field, Placement, Propagation};

use crate::{MAX_EDITS, Outcome, Request};

/// The request headers that a filter writes or removes by filter state.
///
/// For every request the filter sets the filter state `wasm.<name>` to the value of the header. The
/// route configuration removes the headers and writes them from that filter state. So all names
/// must be known beforehand.
#[derive(Clone, Debug, Default)]
pub struct ByFilterState {
    leaving: Vec<Box<[u8]>>,
    removed: Vec<Box<[u8]>>,
}

impl ByFilterState {
    /// Returns `None` where the headers are edited. `attributes` are those of the same filter.
    #[inline(never)]
    pub(crate) fn new(
        asked: Option<RequestHeaders>,
        managed: &[Managed<'_>],
        attributes: &[AttributeConfig],
    ) -> Result<Option<Self>, ConfigError> {
        if asked.unwrap_or_default() == RequestHeaders::Edit {
            return Ok(None);
        }
        let mut headers = Self::default();
        for &Managed { name, leaves } in managed {
            let known = headers.leaving.iter().chain(&headers.removed);
            if known.into_iter().any(|known| **known == *name) {
                continue;
            }
            if leaves {
                refuse_key(name, attributes)?;
            }
            match leaves {
                true => headers.leaving.push(name.into()),
                false => headers.removed.push(name.into()),
            }
        }
        let count = headers.leaving.len() + headers.removed.len();
        if count > MAX_EDITS {
            return Err(refusal(&format!(
                "\"filter_state\" has room for {MAX_EDITS} headers of a request, and this \
                 configuration manages {count}: clear fewer names in `overrides`, or the same ones"
            )));
        }
        Ok(Some(headers))
    }

    /// The headers that are written from their filter state, and removed where there is none.
    pub fn leaving(&self) -> impl Iterator<Item = &[u8]> {
        self.leaving.iter().map(|name| &**name)
    }

    /// The headers that are always removed.
    pub fn removed(&self) -> impl Iterator<Item = &[u8]> {
        self.removed.iter().map(|name| &**name)
    }

    /// Adds to `outcome` the value of every managed header that no stage has changed. Returns
    /// whether there was room for all of them.
    #[inline(never)]
    fn write_all<'a>(&'a self, request: &Request<'a>, outcome: &mut Outcome<'a>) -> bool {
        outcome.request_headers = RequestHeaders::FilterState;
        let mut complete = true;
        for name in &self.leaving {
            let is_changed = outcome.headers.iter().any(|edit| edit.name == &**name);
            let mut families = outcome.headers.families().iter();
            if is_changed || families.any(|family| name.starts_with(family)) {
                continue;
            }
            let mut lines = request.headers.lines(name);
            let value = match (lines.next(), lines.next()) {
                (None, _) => continue,
                (Some(line), None) => Some(line),
                (Some(_), Some(_)) => joined(request, name),
            };
            match value {
                Some(value) => outcome.headers.replace(name, Value::Borrowed(value)),
                None => complete = false,
            }
        }
        complete && !outcome.headers.overflowed()
    }
}

/// Adds to `outcome` the value of every managed header, where `headers` is `Some`. Returns whether
/// there was room for all of them.
pub(crate) fn write_all<'a>(
    headers: Option<&'a ByFilterState>,
    request: &Request<'a>,
    outcome: &mut Outcome<'a>,
) -> bool {
    headers.is_none_or(|headers| headers.write_all(request, outcome))
}

/// Joins the lines of a header in one value. Returns `None` where the arena is full.
///
/// The lines of a list are joined by commas (RFC 9110, section 5.3). A header that is not a list
/// has one line, so no other separator is right for it. Only `cookie` has several lines that are
/// not a list (RFC 9113, section 8.2.3). They are joined by the separator of its pairs (RFC 6265,
/// section 4.2.1).
fn joined<'a>(request: &Request<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let separator: &[u8] = if name == b"cookie" { b"; " } else { b"," };
    join(|| request.headers.lines(name), separator, request.arena)
}

/// The headers that a propagation stage writes or removes.
pub(crate) fn of_propagation(
    propagation: &Propagation,
    asked: Option<RequestHeaders>,
    placement: Placement,
) -> Result<Vec<Managed<'_>>, ConfigError> {
    if asked.unwrap_or_default() == RequestHeaders::FilterState {
        refuse_upstream(placement)?;
        if propagation.removes_by_prefix() {
            return Err(refusal(
                "\"filter_state\" not with `incoming` \"ignore\", nor with `clear` of \"jaeger\", \
                 \"ottrace\" or \"instana\": they remove headers of whose names only the beginning \
                 is known (`uberctx-*`, `ot-baggage-*`, `x-instana-*`), and a route configuration \
                 cannot; remove those by `remove_on_match` in an early header mutation, and clear the \
                 others here by their whole names",
            ));
        }
    }
    Ok(propagation.managed_headers())
}

/// Refuses the upstream placement: there, Envoy has already chosen the route and written its
/// headers.
pub(crate) fn refuse_upstream(placement: Placement) -> Result<(), ConfigError> {
    match placement {
        Placement::Downstream => Ok(()),
        Placement::Upstream => Err(refusal(
            "\"filter_state\" not with placement \"upstream\", where the route configuration has \
             written the headers already and an edit changes no route",
        )),
    }
}

pub(crate) fn refusal(message: &str) -> ConfigError {
    ConfigError::new("request_headers", message)
}

/// Refuses a header whose name is the filter state key of an id or an attribute.
fn refuse_key(name: &[u8], attributes: &[AttributeConfig]) -> Result<(), ConfigError> {
    let is_name = |key: &str| key.as_bytes() == name;
    let of_project = filter_state::ALL.iter().any(|key| is_name(key));
    if of_project || attributes.iter().any(|attribute| is_name(&attribute.key)) {
        let name = name.escape_ascii();
        return Err(refusal(&format!(
            "\"filter_state\" not with a header {name}: the filter state `wasm.{name}` is an id's \
             or an attribute's"
        )));
    }
    Ok(())
}

/// Refuses an attribute whose key is the name of a trace header: with "filter_state" that key is
/// the header's value, in this filter or in another one of this project.
pub(crate) fn refuse_header_keys(attributes: &[AttributeConfig]) -> Result<(), ConfigError> {
    let is_header = |key: &str| Field::from_name(key.as_bytes()).is_some() || key == "baggage";
    each("attributes", attributes, |_, attribute| {
        match is_header(&attribute.key) {
            true => Err(ConfigError::new(
                "key",
                format!(
                    "{:?} is the filter state of a header of that name, expected another key",
                    attribute.key
                ),
            )),
            false => Ok(()),
        }
    })
    .map(drop)
}
