//! What became of the calls of a request.
//!
//! Envoy marks a call that it ended itself, and says nothing of the reason. So such a call waits for
//! the end of its request, which tells it, and for the calls beside it, one of which may have an
//! answer.

use core::cell::Cell;

use meshtrace_envoy::response_flag::{
    DOWNSTREAM_CONNECTION_TERMINATION, DOWNSTREAM_PROTOCOL_ERROR, DOWNSTREAM_REMOTE_RESET,
    DURATION_TIMEOUT, OVERLOAD_MANAGER, STREAM_IDLE_TIMEOUT, UPSTREAM_MAX_STREAM_DURATION_REACHED,
    UPSTREAM_REQUEST_TIMEOUT,
};

/// The flags of a request that tell why Envoy ended its call.
const REASONS: u64 = UPSTREAM_REQUEST_TIMEOUT
    | STREAM_IDLE_TIMEOUT
    | DURATION_TIMEOUT
    | UPSTREAM_MAX_STREAM_DURATION_REACHED
    | DOWNSTREAM_CONNECTION_TERMINATION
    | DOWNSTREAM_REMOTE_RESET
    | DOWNSTREAM_PROTOCOL_ERROR
    | OVERLOAD_MANAGER;
/// The status `DEADLINE_EXCEEDED` of gRPC.
const DEADLINE_EXCEEDED: u32 = 4;

/// The attempts of one request, as far as they may be reported.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// How many have begun.
    pub(crate) begun: Cell<u32>,
    /// How many are open.
    pub(crate) open: Cell<u32>,
    /// The status of gRPC that the last one ended with.
    pub(crate) grpc_status: Cell<Option<u32>>,
}

impl Attempts {
    /// An attempt begins. Returns its place.
    pub(crate) fn begin(&self) -> Place {
        let others = self.open.get();
        self.open.set(others.saturating_add(1));
        self.begun.set(self.begun.get().saturating_add(1));
        self.grpc_status.set(None);
        Place {
            number: self.begun.get(),
            began_alone: others == 0,
            ..Place::default()
        }
    }

    /// An attempt ends.
    pub(crate) fn end(&self) {
        self.open.set(self.open.get().saturating_sub(1));
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The place of an attempt among the others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// Its number, from 1.
    pub(crate) number: u32,
    /// How many attempts had begun when it ended.
    pub(crate) begun_then: u32,
    /// Whether no other attempt was open when it began.
    pub(crate) began_alone: bool,
    /// Whether an attempt that was open when it ended had an answer.
    pub(crate) is_beaten: bool,
}

impl Place {
    /// Whether the attempt of the place `other`, which ends later, was open when this one ended.
    pub(crate) fn was_beside(self, other: Self) -> bool {
        other.number <= self.begun_then
    }

    /// Whether all is known of this attempt, which has ended, once the attempt `next` has told what it
    /// sends: no other was open beside it, so none can have its answer, and the end of the request is
    /// not its own.
    pub(crate) fn is_settled_by(self, next: Self) -> bool {
        let was_alone = self.began_alone && self.begun_then == self.number;
        was_alone && self.number < next.number
    }
}

/// The end of a request, as far as it tells the end of its calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestEnd {
    pub(crate) code: Option<u64>,
    pub(crate) flags: u64,
    pub(crate) grpc_status: Option<u32>,
}

/// What kind of an answer a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AsksFor {
    /// One of HTTP alone.
    Http,
    /// One of gRPC, which has a status of its own at its end.
    Grpc,
    /// Another protocol.
    Upgrade,
}

/// Whose end is described, with what else tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// That of a request, whose last call had this status of gRPC.
    Request { grpc_status: Option<u32> },
    /// That of an attempt.
    Attempt {
        /// The end of the request; `None` where another attempt began after this one.
        request: Option<RequestEnd>,
        is_beaten: bool,
        asks_for: AsksFor,
    },
    /// That of another call, such as an authoriser's.
    OtherCall,
}

/// What a [`Fate`] adds to the tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The code of the answer.
    pub(crate) code: Option<u64>,
    pub(crate) flags: u64,
    /// Those of all flags that are failures of this call.
    pub(crate) failing: u64,
    pub(crate) grpc_status: Option<u32>,
    /// The reason, where no flag tells it.
    pub(crate) reason: &'static [u8],
    pub(crate) is_beaten: bool,
    /// Whether the answer lacks its end.
    pub(crate) is_unfinished: bool,
}

impl Fate {
    pub(crate) fn is_of_call(self) -> bool {
        !matches!(self, Self::Request { .. })
    }

    /// What it adds to the tags of a call that Envoy ended or did not end, with its own code and
    /// flags.
    pub(crate) fn ending(self, is_canceled: bool, code: Option<u64>, flags: u64) -> Ending {
        // The flag for the time of an attempt stays on one that was answered after that.
        let own_reasons = match code {
            None => UPSTREAM_REQUEST_TIMEOUT | STREAM_IDLE_TIMEOUT,
            Some(_) => STREAM_IDLE_TIMEOUT,
        };
        let own = Ending {
            // The flag of a call tells that its upstream was silent for too long.
            failing: flags & STREAM_IDLE_TIMEOUT,
            ..Ending::default()
        };
        match self {
            Self::Request { grpc_status } => Ending {
                grpc_status,
                ..Ending::default()
            },
            _ if !is_canceled || flags & own_reasons != 0 => own,
            // It is not known why.
            Self::OtherCall
            | Self::Attempt {
                is_beaten: true, ..
            } => Ending {
                is_beaten: true,
                ..own
            },
            Self::Attempt {
                request, asks_for, ..
            } => {
                let request = request.unwrap_or_default();
                of_canceled(request, asks_for, code.is_some())
            }
        }
    }
}

/// The ending of a call that Envoy ended although no other call has the answer.
fn of_canceled(request: RequestEnd, asks_for: AsksFor, is_answered: bool) -> Ending {
    let flags = request.flags & REASONS;
    let is_success = |code: &u64| (200..400).contains(code);
    // The upstream did not switch protocols. Envoy passes its answer on as one of its own, and ends
    // the call. Envoy's own failures have other codes.
    let of_upgrade = request.code.filter(is_success);
    let is_upgrade = asks_for == AsksFor::Upgrade;
    let of_upgrade = of_upgrade.filter(|_| is_upgrade && !is_answered && flags == 0);
    let is_late =
        matches!(request.code, Some(408 | 504)) || request.grpc_status == Some(DEADLINE_EXCEEDED);
    Ending {
        code: of_upgrade,
        flags,
        failing: if is_answered { 0 } else { flags },
        reason: if is_late { b"timeout" } else { b"canceled" },
        is_unfinished: is_answered && asks_for == AsksFor::Grpc,
        ..Ending::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: RequestEnd = RequestEnd {
        code: None,
        flags: 0,
        grpc_status: None,
    };

    fn attempt(request: RequestEnd) -> Fate {
        Fate::Attempt {
            request: Some(request),
            is_beaten: false,
            asks_for: AsksFor::Http,
        }
    }

    #[test]
    fn the_end_of_the_request_tells_why_envoy_ended_a_call() {
        for (code, flags, grpc_status, expected) in [
            (Some(504), UPSTREAM_REQUEST_TIMEOUT, None, &b"timeout"[..]),
            (Some(504), 0, None, b"timeout"),
            (Some(408), 0, None, b"timeout"),
            (Some(200), 0, Some(4), b"timeout"),
            (Some(200), 0, Some(14), b"canceled"),
            (None, DOWNSTREAM_REMOTE_RESET, None, b"canceled"),
            (Some(403), 0, None, b"canceled"),
        ] {
            let request = RequestEnd {
                code,
                flags,
                grpc_status,
            };
            let ending = attempt(request).ending(true, None, 0);
            let found = (ending.flags, ending.failing, ending.reason, ending.code);
            assert_eq!(found, (flags, flags, expected, None), "{request:?}");
            assert!(!ending.is_beaten);
            // What was answered before is not undone by it.
            let ending = attempt(request).ending(true, Some(200), 0);
            assert_eq!((ending.flags, ending.failing), (flags, 0), "{request:?}");
            // A call that ended by itself has nothing of it.
            let ending = attempt(request).ending(false, None, 0);
            assert_eq!(ending, Ending::default(), "{request:?}");
        }
    }

    #[test]
    fn a_flag_of_the_requests_path_is_no_reason() {
        let request = RequestEnd {
            flags: u64::MAX,
            ..ENDED
        };
        assert_eq!(attempt(request).ending(true, None, 0).flags, REASONS);
    }

    #[test]
    fn a_call_that_has_a_reason_of_its_own_keeps_it() {
        let request = RequestEnd {
            code: Some(200),
            flags: DOWNSTREAM_REMOTE_RESET,
            ..ENDED
        };
        for (own, failing) in [
            (UPSTREAM_REQUEST_TIMEOUT, 0),
            (STREAM_IDLE_TIMEOUT, STREAM_IDLE_TIMEOUT),
        ] {
            let ending = attempt(request).ending(true, None, own);
            assert_eq!((ending.flags, ending.failing), (0, failing));
        }
    }

    /// With hedging an attempt goes on after its time.
    #[test]
    fn a_call_that_was_answered_after_its_time_has_the_requests_reason() {
        let request = RequestEnd {
            code: Some(200),
            flags: DOWNSTREAM_REMOTE_RESET,
            ..ENDED
        };
        let ending = attempt(request).ending(true, Some(200), UPSTREAM_REQUEST_TIMEOUT);
        assert_eq!((ending.flags, ending.failing), (DOWNSTREAM_REMOTE_RESET, 0));
    }

    #[test]
    fn only_an_answer_of_grpc_that_was_cut_lacks_its_end() {
        for (asks_for, code, expected) in [
            (AsksFor::Grpc, Some(200), true),
            (AsksFor::Grpc, None, false),
            (AsksFor::Http, Some(200), false),
            (AsksFor::Upgrade, Some(101), false),
        ] {
            let fate = Fate::Attempt {
                request: Some(ENDED),
                is_beaten: false,
                asks_for,
            };
            for is_canceled in [false, true] {
                let ending = fate.ending(is_canceled, code, 0);
                assert_eq!(ending.is_unfinished, expected && is_canceled);
            }
        }
    }

    #[test]
    fn a_call_that_was_beaten_or_is_none_of_the_routers_is_excused() {
        let beaten = Fate::Attempt {
            request: Some(ENDED),
            is_beaten: true,
            asks_for: AsksFor::Http,
        };
        for fate in [beaten, Fate::OtherCall] {
            assert!(fate.ending(true, None, 0).is_beaten);
            assert!(!fate.ending(false, None, 0).is_beaten);
        }
    }

    #[test]
    fn the_answer_to_an_upgrade_is_the_calls_where_it_is_no_failure() {
        for (code, is_upgrade, flags, expected) in [
            (200, true, 0, Some(200)),
            (302, true, 0, Some(302)),
            (504, true, 0, None),
            (200, false, 0, None),
            (200, true, STREAM_IDLE_TIMEOUT, None),
        ] {
            let request = RequestEnd {
                code: Some(code),
                flags,
                ..ENDED
            };
            let fate = Fate::Attempt {
                request: Some(request),
                is_beaten: false,
                asks_for: match is_upgrade {
                    true => AsksFor::Upgrade,
                    false => AsksFor::Http,
                },
            };
            assert_eq!(fate.ending(true, None, 0).code, expected, "{code}");
        }
    }

    #[test]
    fn only_an_attempt_that_was_open_is_beside_another() {
        let ended = Place {
            number: 1,
            begun_then: 2,
            ..Place::default()
        };
        for (number, expected) in [(2, true), (3, false)] {
            let other = Place {
                number,
                ..Place::default()
            };
            assert_eq!(ended.was_beside(other), expected);
        }
    }

    #[test]
    fn only_an_attempt_that_was_alone_is_settled_by_the_next_one() {
        let attempts = Attempts::default();
        let ended = |mut place: Place| {
            attempts.end();
            place.begun_then = attempts.begun.get();
            place
        };
        let alone = ended(attempts.begin());
        assert!(!alone.is_settled_by(alone), "it may be the last one");
        let second = attempts.begin();
        assert!(alone.is_settled_by(second));
        let third = attempts.begin();
        let (second, third) = (ended(second), ended(third));
        let last = attempts.begin();
        assert!(alone.is_settled_by(last));
        assert!(!second.is_settled_by(last), "the third one began beside it");
        assert!(!third.is_settled_by(last), "it began beside the second one");
        // What is no attempt has no place.
        assert!(!Place::default().is_settled_by(last));
    }
}
