//! `request_headers: "filter_state"`: request headers leave without an edit.
//!
//! Envoy chooses the route of a request again when a filter edits a header of it, from whatever
//! headers the filters in front have changed by then. Filter state changes no route.

use meshtrace_attributes::AttributeConfig;
use meshtrace_config::{ConfigError, RequestHeaders};
use meshtrace_envoy::filter_state;
use meshtrace_headers::{Managed, Value};
use meshtrace_propagation::{Field, Placement, Propagation};

use crate::{MAX_EDITS, Outcome, Request};

/// The request headers that a filter writes or removes, none of them by an edit.
///
/// For every request it sets filter state `wasm.<name>` to what the header is to be. The route
/// configuration removes the headers and writes them from that state, which needs all names to be
/// known beforehand.
#[derive(Clone, Debug, Default)]
pub struct ByFilterState {
    leaving: Vec<Box<[u8]>>,
    removed: Vec<Box<[u8]>>,
}

impl ByFilterState {
    /// `None` where the headers are edited; `attributes` are those of the same filter.
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

    /// The headers that leave as their filter state says; without one they do not.
    pub fn leaving(&self) -> impl Iterator<Item = &[u8]> {
        self.leaving.iter().map(|name| &**name)
    }

    /// The headers that never leave.
    pub fn removed(&self) -> impl Iterator<Item = &[u8]> {
        self.removed.iter().map(|name| &**name)
    }

    /// Has `outcome` say of every managed header what it is to be. Returns whether there was room
    /// for all of them.
    #[inline(never)]
    fn write_all<'a>(&'a self, request: &Request<'a>, outcome: &mut Outcome<'a>) -> bool {
        outcome.request_headers = RequestHeaders::FilterState;
        let mut complete = true;
        for name in &self.leaving {
            let is_said = outcome.headers.iter().any(|edit| edit.name == &**name);
            let mut families = outcome.headers.families().iter();
            if is_said || families.any(|family| name.starts_with(family)) {
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

/// Does what `headers` says, where it is `Some`. Returns whether there was room for all of it.
pub(crate) fn write_all<'a>(
    headers: Option<&'a ByFilterState>,
    request: &Request<'a>,
    outcome: &mut Outcome<'a>,
) -> bool {
    headers.is_none_or(|headers| headers.write_all(request, outcome))
}

/// One line that means what several do; `None` where memory is short.
///
/// Of a list the lines are joined by commas (RFC 9110, section 5.3). A header that is no list has
/// one line, so that another separator would be right for none. `cookie` alone has several that are
/// no list (RFC 9113, section 8.2.3), with the separator of its pairs (RFC 6265, section 4.2.1).
fn joined<'a>(request: &Request<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let separator: &[u8] = if name == b"cookie" { b"; " } else { b"," };
    let lines = || request.headers.lines(name);
    let length = lines().fold(0_usize, |length, line| {
        let with_separator = line.len().saturating_add(separator.len());
        length.saturating_add(with_separator)
    });
    let mut text = bumpalo::collections::Vec::new_in(request.arena);
    text.try_reserve_exact(length).ok()?;
    for (i, line) in lines().enumerate() {
        if i > 0 {
            text.extend_from_slice(separator);
        }
        text.extend_from_slice(line);
    }
    Some(text.into_bump_slice())
}

/// What one propagation stage manages.
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

/// Upstream the route is chosen already, and its headers are written.
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

/// Two meanings of one filter state.
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

/// Names of headers are keys of filter state, of another filter of this project at least.
pub(crate) fn refuse_header_keys(attributes: &[AttributeConfig]) -> Result<(), ConfigError> {
    let is_header = |key: &str| Field::from_name(key.as_bytes()).is_some() || key == "baggage";
    let mut attributes = attributes.iter().enumerate();
    match attributes.find(|(_, attribute)| is_header(&attribute.key)) {
        None => Ok(()),
        Some((i, attribute)) => Err(ConfigError::new(
            format!("attributes[{i}].key"),
            format!(
                "{:?} is the filter state of a header of that name, expected another key",
                attribute.key
            ),
        )),
    }
}
