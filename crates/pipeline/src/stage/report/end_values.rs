//! The values that are read from the host at the end of a request. An expression (CEL) reads many
//! values in one call. Where the host takes no expressions, each property is read in a call of its
//! own.

use arrayvec::ArrayVec;
use meshtrace_envoy::attribute::{self, response_header};
use meshtrace_envoy::grpc_status;
use meshtrace_envoy::response_code_details::{INTERNAL_REDIRECT, VIA_UPSTREAM};
use meshtrace_headers::Headers;
use meshtrace_otlp::Role;
use meshtrace_otlp::conventions::{self, EndValue, EndValues};

use super::OpenSpan;
use crate::Lookup;

/// An expression of the tracer, by its place in the list that the host compiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Expression {
    /// The list of all values that the role needs.
    AllValues,
    /// The list of the values that a request without an upstream has.
    ValuesWithoutUpstream,
    /// Has a value where the response is a server's error or has response flags. Otherwise it
    /// fails. A failure costs two thirds of two property calls, because the host returns no bytes.
    Trouble,
    /// Has a value where the response is not the upstream's, and otherwise fails in the same way.
    /// Only roles that may report a CLIENT span have it.
    NotFromUpstream,
}

impl Expression {
    fn text(self, role: Role) -> String {
        let list = |values: Wanted| {
            let paths: Vec<_> = values.iter().map(|value| value.path().expression).collect();
            format!("[{}]", paths.join(", "))
        };
        match self {
            Self::AllValues => list(wanted(role)),
            Self::ValuesWithoutUpstream => list(wanted_without_upstream(role)),
            Self::Trouble => "1 / (response.flags + response.code / 500)".to_owned(),
            Self::NotFromUpstream => {
                let details = EndValue::CodeDetails.path().expression;
                let upstream = VIA_UPSTREAM.escape_ascii();
                format!(r#"1 / ({details} == "{upstream}" ? 0 : 1)"#)
            }
        }
    }

    fn is_compiled(self, lookup: &dyn Lookup) -> bool {
        lookup.is_compiled(self as usize)
    }

    fn evaluate(self, lookup: &dyn Lookup) -> Option<Box<[u8]>> {
        lookup.evaluate(self as usize)
    }
}

/// The expressions of a tracer with this `role`, in the order of [`Expression`].
pub(super) fn expressions(role: Role) -> Vec<String> {
    let all = [
        Expression::AllValues,
        Expression::ValuesWithoutUpstream,
        Expression::Trouble,
        Expression::NotFromUpstream,
    ];
    all.into_iter()
        .filter(|expression| *expression != Expression::NotFromUpstream || may_be_client(role))
        .map(|expression| expression.text(role))
        .collect()
}

/// Whether a request may be reported as a CLIENT span.
pub(super) fn may_be_client(role: Role) -> bool {
    role != Role::Server
}

type Wanted = ArrayVec<EndValue, { EndValue::ALL.len() }>;

/// The values that this role needs: a server has no CLIENT span, and only a sidecar needs the
/// direction of its listener.
fn wanted(role: Role) -> Wanted {
    let is_wanted = |value: &EndValue| match value {
        EndValue::Direction => role == Role::ByDirection,
        EndValue::Attempts | EndValue::CodeDetails => may_be_client(role),
        _ => true,
    };
    EndValue::ALL.into_iter().filter(is_wanted).collect()
}

fn wanted_without_upstream(role: Role) -> Wanted {
    let mut wanted = wanted(role);
    wanted.retain(|value| value.is_known_without_upstream());
    wanted
}

/// Whether the response that has begun is the upstream's.
pub(super) fn is_from_upstream(lookup: &dyn Lookup) -> bool {
    if Expression::NotFromUpstream.is_compiled(lookup) {
        return Expression::NotFromUpstream.evaluate(lookup).is_none();
    }
    property(EndValue::CodeDetails, lookup).as_deref() == Some(VIA_UPSTREAM)
}

/// Whether a request that is over was redirected ("internal redirect"): its headers are then those
/// of the next request. The filter has seen no response of it.
pub(crate) fn is_redirected(responded: bool, lookup: &dyn Lookup) -> bool {
    !responded && leads_elsewhere(lookup)
}

/// Whether another request follows one that is over, whoever led it there: its headers are then
/// those of the next request.
pub(super) fn leads_elsewhere(lookup: &dyn Lookup) -> bool {
    property(EndValue::CodeDetails, lookup).as_deref() == Some(INTERNAL_REDIRECT)
}

/// Whether the response is a server's error or has response flags.
pub(super) fn is_in_trouble(lookup: &dyn Lookup) -> bool {
    if Expression::Trouble.is_compiled(lookup) {
        return Expression::Trouble.evaluate(lookup).is_some();
    }
    let number = |value| conventions::integer(&property(value, lookup)?);
    let (code, flags) = (number(EndValue::Code), number(EndValue::Flags));
    flags != Some(0) || code.is_some_and(|code| code >= 500)
}

/// Returns the status of gRPC. Where the response has no status, Envoy derives one from the HTTP
/// status ("HTTP to gRPC Status Code Mapping"). A derived status is not used where the response was
/// not over when the client went away, and for gRPC-Web, because its trailers are in the body by
/// then.
pub(super) fn grpc_status_of(
    open: &OpenSpan,
    client_went_away: bool,
    lookup: &dyn Lookup,
) -> Option<u32> {
    if open.grpc_status.is_some() {
        return open.grpc_status;
    }
    let status = lookup.property(attribute::RESPONSE_GRPC_STATUS.property);
    let status = status.as_deref().and_then(conventions::integer);
    let is_made_up = || {
        let header = |path: &[u8]| lookup.property(path);
        let is_web = || {
            let kind = header(response_header::CONTENT_TYPE).unwrap_or_default();
            conventions::is_grpc_web(&kind)
        };
        (client_went_away || is_web()) && header(response_header::GRPC_STATUS).is_none()
    };
    let unknown = grpc_status::UNKNOWN;
    let status = status.filter(|status| *status != u64::from(unknown) || !is_made_up());
    // Envoy's value for a status that it cannot read is no number of gRPC either.
    status.map(|status| u32::try_from(status).unwrap_or(unknown))
}

/// The values of one request, as the host returned them.
pub(super) struct Fetched {
    /// The values that came in one list. The host serialises a list as the names of a header block.
    list: Box<[u8]>,
    /// Which values the list has, in its order.
    listed: Wanted,
    /// The values that were read one by one.
    single: [Option<Box<[u8]>>; EndValue::ALL.len()],
}

impl Fetched {
    /// Reads the values that `role` needs from the host.
    pub(super) fn fetch(role: Role, lookup: &dyn Lookup) -> Self {
        let wanted = wanted(role);
        let evaluate = |expression: Expression, values: Wanted| {
            let list = expression.evaluate(lookup)?;
            let count = Headers::parse(&list)?.iter().count();
            (count == values.len()).then_some((list, values))
        };
        let (list, listed) = evaluate(Expression::AllValues, wanted.clone())
            .or_else(|| {
                let values = wanted_without_upstream(role);
                evaluate(Expression::ValuesWithoutUpstream, values)
            })
            .unwrap_or_default();
        let mut single = [const { None }; EndValue::ALL.len()];
        for (value, place) in EndValue::ALL.iter().zip(&mut single) {
            if wanted.contains(value) && !listed.contains(value) {
                *place = property(*value, lookup);
            }
        }
        Self {
            list,
            listed,
            single,
        }
    }

    /// Whether any of them came in a list.
    pub(super) fn is_listed(&self) -> bool {
        !self.listed.is_empty()
    }

    pub(super) fn values(&self) -> EndValues<'_> {
        let mut values = EndValues::default();
        for (value, single) in EndValue::ALL.into_iter().zip(&self.single) {
            values.set(value, single.as_deref());
        }
        let list = Headers::parse(&self.list).unwrap_or_default();
        for (value, (element, _)) in self.listed.iter().zip(list.iter()) {
            values.set(*value, Some(element));
        }
        values
    }
}

fn property(value: EndValue, lookup: &dyn Lookup) -> Option<Box<[u8]>> {
    lookup.property(value.path().property)
}
