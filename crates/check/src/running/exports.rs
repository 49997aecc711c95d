//! The export of spans.

use crate::finding::{Code, Findings};
use crate::model::Model;

use super::{Observed, connections};

/// The number of requests without a span that is enough to say that nothing is sampled.
const SOME: u64 = 10;

/// Checks the counters `report.*`.
pub(super) fn check(model: &Model<'_>, observed: &Observed, findings: &mut Findings) {
    let sum = |names: &[&str]| observed.sum(|name| names.contains(&name));
    let exported = sum(&["report.exported"]);
    // Where spans arrive now, failures that were counted earlier are over.
    let is_over = exported.moved > 0;

    let refused = sum(&["report.dropped.refused", "report.rejected"]);
    if refused.moved > 0 || refused.total > 0 && !is_over {
        let message = format!(
            "the collector refused spans for good ({}); the counters \
             `cluster.NAME.upstream_rq_STATUS` of its cluster tell the status: 401 and 403 need `report.headers`, 404 another `report.path`, 415 another `report.protocol`",
            observed.counted(refused)
        );
        let name = match observed.total("report.dropped.refused") {
            0 => "report.rejected",
            _ => "report.dropped.refused",
        };
        observed.find(Code::SpansRefused, name, message, findings);
    }

    let failed = sum(&[
        "report.retries",
        "report.dropped.expired",
        "report.malformed_answers",
    ]);
    // A call that was made before the first reading has been answered, or will never be.
    let unanswered = observed.before.own("report.calls").unwrap_or(0) > 0
        && refused.total == 0
        && observed.total("report.dropped.unknown_cluster") == 0;
    let nothing_ever = exported.total == 0 && (failed.total > 0 || unanswered);
    if !is_over && (failed.moved > 0 || nothing_ever) {
        let calls = sum(&["report.calls"]);
        let reason = connections::reason(model, observed).unwrap_or_else(|| {
            "see that the cluster of `report.cluster` has a healthy endpoint (/clusters), that it \
             speaks what `report.protocol` says, and that no policy of the collector forbids it"
                .to_owned()
        });
        let message = format!(
            "no span was exported in {}; failed calls and expired spans: {}; export calls: {}; \
             {reason}",
            observed.window(),
            observed.counted(failed),
            observed.counted(calls),
        );
        observed.find(Code::NothingExported, "report.exported", message, findings);
    } else if failed.moved > 0 {
        let message = format!(
            "exports failed ({}) while others passed ({}); failed ones are repeated for five \
             minutes; give the collector more room, or `report.timeout_ms` more time",
            observed.counted(failed),
            observed.counted(exported),
        );
        observed.find(Code::ExportsRepeated, "report.retries", message, findings);
    }

    let not_sampled = sum(&["report.not_sampled"]);
    let was_tried = failed.total + refused.total + observed.total("report.calls") > 0;
    if not_sampled.total >= SOME && exported.total == 0 && !was_tried {
        let message = format!(
            "no span was exported, because no request was sampled ({} were not); a caller's \
             decision stands, and a trace that begins here is sampled as `sampling` says, without \
             it 1 in 100: for a test set \"sampling\": {{\"default\": \"always\"}}",
            observed.counted(not_sampled)
        );
        let name = "report.not_sampled";
        observed.find(Code::NothingSampled, name, message, findings);
    }

    let unknown = sum(&["report.dropped.unknown_cluster"]);
    let is_known = findings
        .all
        .iter()
        .any(|(code, ..)| *code == Code::NoCluster);
    if !is_known && (unknown.moved > 0 || unknown.total > 0 && !is_over) {
        let message = format!(
            "Envoy does not know the cluster of `report.cluster`, so that its spans are dropped \
             ({}); name one of /clusters",
            observed.counted(unknown)
        );
        let name = "report.dropped.unknown_cluster";
        observed.find(Code::NoCluster, name, message, findings);
    }

    let full = sum(&["report.dropped.queue_full"]);
    if full.moved > 0 || full.total > 0 && !is_over {
        let message = format!(
            "spans found no room in the queue ({}); the collector takes them more slowly than \
             they come: give it more room, raise `report.batch.max_queue` and `max_in_flight`, or \
             sample less",
            observed.counted(full)
        );
        observed.find(
            Code::QueueFull,
            "report.dropped.queue_full",
            message,
            findings,
        );
    }
}
