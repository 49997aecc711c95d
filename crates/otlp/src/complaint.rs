//! The lines of the log about an export that fails: one a minute at most, of all workers together.

use core::time::Duration;

use meshtrace_envoy::grpc_status;

use crate::answer::CallStatus;

/// The shortest time between two lines about calls that fail.
const MINUTE: Duration = Duration::from_secs(60);
/// The shortest time between two lines about a cluster that does not exist.
const HOUR: Duration = Duration::from_secs(3600);
/// A collector that restarts fails a call once. So a line about calls that are made again is due
/// only after this number of failures.
const FAILURES: u32 = 2;

/// What went wrong with an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Envoy has no such cluster.
    UnknownCluster,
    /// The collector refused the spans for good.
    Refused(CallStatus),
    /// The collector finds a call with one span too large.
    TooLarge(CallStatus),
    /// The call is made again.
    Repeated(CallStatus),
    /// The spans are too old by now.
    Expired(CallStatus),
    /// The owner ends, so the call is not made again.
    Ended(CallStatus),
}

/// The lines that were due in this worker, and the one that is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaints {
    due: Option<(Trouble, u64)>,
    /// The spans that were lost since the last line.
    lost: u32,
    /// The time of the last line about a call, and about the cluster.
    of_calls: Option<u64>,
    of_cluster: Option<u64>,
}

impl Complaints {
    /// Records that a call with this number of `spans` failed. `failures` is the number of calls
    /// in a row that failed and are made again.
    pub(crate) fn record(&mut self, trouble: Trouble, spans: u32, failures: u32, now: u64) {
        let is_repeated = matches!(trouble, Trouble::Repeated(_));
        if !is_repeated {
            self.lost = self.lost.saturating_add(spans);
        }
        if is_repeated && failures < FAILURES {
            return;
        }
        let last = match trouble {
            Trouble::UnknownCluster => &mut self.of_cluster,
            _ => &mut self.of_calls,
        };
        if last.is_none_or(|last| trouble.is_due(last, now)) {
            *last = Some(now);
            self.due = Some((trouble, now));
        }
    }

    /// Returns what is due, once.
    pub(crate) fn take(&mut self) -> Option<Complaint> {
        let (trouble, at) = self.due.take()?;
        // Those that this line does not tell are in the next one that does.
        let lost = match trouble.tells_lost() {
            true => core::mem::take(&mut self.lost),
            false => 0,
        };
        Some(Complaint { trouble, at, lost })
    }
}

impl Trouble {
    /// Whether the line about it has the number of lost spans.
    fn tells_lost(self) -> bool {
        matches!(
            self,
            Self::Refused(_) | Self::TooLarge(_) | Self::Expired(_) | Self::Ended(_)
        )
    }

    /// Whether a line about it may be said at `now`, where the last one was said at `last`.
    fn is_due(self, last: u64, now: u64) -> bool {
        let interval = match self {
            Self::UnknownCluster => HOUR,
            _ => MINUTE,
        };
        Duration::from_nanos(now.saturating_sub(last)) >= interval
    }
}

/// A line that is due in this worker. Another worker may have said one already.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Complaint {
    trouble: Trouble,
    at: u64,
    lost: u32,
}

impl Complaint {
    /// The name of the time of the last line, in the data that the workers share.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.trouble {
            Trouble::UnknownCluster => "export.no_cluster",
            _ => "export.calls",
        }
    }

    /// Returns the time of this line, in nanoseconds on the monotonic clock, where it may be said:
    /// `last` is when a worker said the last line, and 0 stands for never.
    #[must_use]
    pub fn admit(&self, last: u64) -> Option<u64> {
        (last == 0 || self.trouble.is_due(last, self.at)).then_some(self.at.max(1))
    }

    /// The spans that this worker lost since its last line; `None` where the line does not tell them.
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        self.trouble.tells_lost().then(|| self.lost.into())
    }

    /// The line about calls to the `cluster`. `lost` is the number of spans that all workers lost
    /// since the last line.
    #[must_use]
    pub fn line(&self, cluster: &str, lost: u64) -> String {
        match self.trouble {
            Trouble::UnknownCluster => format!(
                "mesh_tracing.report.cluster: Envoy knows no cluster {cluster:?}; spans are dropped \
                 and counted until it does"
            ),
            Trouble::Refused(status) => format!(
                "mesh_tracing.report: the cluster {cluster:?} refuses spans for good: {}; {lost} \
                 spans lost{}",
                in_words(status),
                advice(status),
            ),
            Trouble::TooLarge(status) => format!(
                "mesh_tracing.report: the cluster {cluster:?} finds one span too large for a call: \
                 {}; {lost} spans lost; raise the collector's limit of a request",
                in_words(status),
            ),
            Trouble::Repeated(status) => format!(
                "mesh_tracing.report: calls to the cluster {cluster:?} fail and are made again: \
                 {}{}",
                in_words(status),
                advice(status),
            ),
            Trouble::Expired(status) | Trouble::Ended(status) => format!(
                "mesh_tracing.report: calls to the cluster {cluster:?} fail: {}; {lost} spans lost, \
                 {}{}",
                in_words(status),
                match self.trouble {
                    Trouble::Ended(_) => "as the plugin ends",
                    _ => "which waited too long",
                },
                advice(status),
            ),
        }
    }
}

fn in_words(status: CallStatus) -> String {
    match status {
        CallStatus::Http(status) => format!("status {status}"),
        CallStatus::Grpc(code) => format!("gRPC status {code}"),
        CallStatus::NoAnswer => "no answer".to_owned(),
        CallStatus::NotMade => "Envoy could not make the call".to_owned(),
    }
}

/// What to do about this status. It begins with a semicolon.
const fn advice(status: CallStatus) -> &'static str {
    match status {
        CallStatus::Http(401 | 403)
        | CallStatus::Grpc(grpc_status::UNAUTHENTICATED | grpc_status::PERMISSION_DENIED) => {
            "; write what the collector expects into `report.headers`"
        }
        CallStatus::Http(404) => "; see `report.path`",
        CallStatus::Http(415) | CallStatus::Grpc(grpc_status::UNIMPLEMENTED) => {
            "; see `report.protocol`"
        }
        CallStatus::NotMade | CallStatus::NoAnswer | CallStatus::Http(502..=504) => {
            "; see that the cluster has an endpoint that listens, and that it speaks what \
             `report.protocol` says (\"grpc\" needs HTTP/2)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_refusal_is_one_line_a_minute_with_all_spans_that_were_lost() {
        let mut complaints = Complaints::default();
        let refused = Trouble::Refused(CallStatus::Http(401));
        let mut lines = Vec::new();
        for second in 0..150 {
            complaints.record(refused, 2, 0, second * SECOND);
            lines.extend(
                complaints
                    .take()
                    .map(|due| due.line("otel", due.lost().unwrap_or(0))),
            );
        }
        assert_eq!(
            lines[0],
            "mesh_tracing.report: the cluster \"otel\" refuses spans for good: status 401; 2 spans \
             lost; write what the collector expects into `report.headers`"
        );
        assert!(lines[1].contains("; 120 spans lost;"), "{}", lines[1]);
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn one_failure_that_is_repeated_is_no_line() {
        let mut complaints = Complaints::default();
        let repeated = Trouble::Repeated(CallStatus::Http(503));
        complaints.record(repeated, 5, 1, 0);
        assert!(complaints.take().is_none());
        complaints.record(repeated, 5, 2, SECOND);
        let due = complaints.take().expect("a line");
        let line = due.line("otel", due.lost().unwrap_or(0));
        assert!(
            line.contains("fail and are made again: status 503; see that"),
            "{line}"
        );
        assert!(!line.contains("lost"), "{line}");
    }

    #[test]
    fn an_unknown_cluster_is_one_line_an_hour_beside_the_others() {
        let mut complaints = Complaints::default();
        let mut lines = 0;
        for minute in 0..121 {
            complaints.record(Trouble::UnknownCluster, 1, 0, minute * 60 * SECOND);
            lines += usize::from(complaints.take().is_some());
        }
        assert_eq!(lines, 3);
        complaints.record(
            Trouble::Refused(CallStatus::Grpc(7)),
            1,
            0,
            121 * 60 * SECOND,
        );
        let due = complaints.take().expect("a line");
        let line = due.line("otel", due.lost().unwrap_or(0));
        assert!(line.contains("gRPC status 7"), "{line}");
    }

    #[test]
    fn a_line_that_does_not_tell_what_is_lost_leaves_it_to_the_next_one() {
        let mut complaints = Complaints::default();
        complaints.record(Trouble::Refused(CallStatus::Http(400)), 6, 0, 0);
        assert_eq!(complaints.take().and_then(|due| due.lost()), Some(6));
        for second in 1..70 {
            complaints.record(Trouble::Refused(CallStatus::Http(400)), 1, 0, second);
        }
        let repeated = Trouble::Repeated(CallStatus::Http(503));
        complaints.record(repeated, 5, 2, 61 * SECOND);
        assert_eq!(complaints.take().map(|due| due.lost()), Some(None));
        complaints.record(Trouble::Refused(CallStatus::Http(400)), 1, 0, 121 * SECOND);
        assert_eq!(complaints.take().and_then(|due| due.lost()), Some(70));
    }

    #[test]
    fn of_two_workers_one_speaks_in_a_minute() {
        let refused = Trouble::Refused(CallStatus::Http(401));
        let mut workers = [Complaints::default(), Complaints::default()];
        let (mut last, mut lines) = (0, 0);
        for second in 1..151 {
            for worker in &mut workers {
                worker.record(refused, 1, 0, second * SECOND);
                let said = worker.take().and_then(|due| due.admit(last));
                lines += usize::from(said.is_some());
                last = said.unwrap_or(last);
            }
        }
        assert_eq!(lines, 3);
    }
}
