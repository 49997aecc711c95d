//! The state of a running Envoy: its configuration, and the counters that move.

mod connections;
mod exports;
mod filters;
mod requests;
mod shares;
mod stats;

use crate::document::Position;
use crate::files::Input;
use crate::finding::{Code, Findings};
use crate::model::Model;
use crate::{Options, Report, examine};

pub use filters::{FilterState, State};
pub use shares::{Decisions, Share};
pub use stats::Stats;

/// The data that was fetched from a running Envoy.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The answer of `/config_dump`, and its address.
    pub dump: Input,
    /// The address of `/stats`, as findings show it.
    pub stats: String,
    /// The counters at the first reading.
    pub before: Stats,
    /// The counters at the second reading, some seconds later.
    pub after: Stats,
    /// The seconds between the two readings.
    pub seconds: u64,
}

/// The result about a running Envoy.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// The findings.
    pub report: Report,
    /// The filters of the Envoy, in the order of the dump.
    pub filters: Vec<FilterState>,
    /// The counters that moved, in the order of their names.
    pub moved: Vec<Moved>,
    /// Who decided about sampling: `force`, the rules by name, the default, the callers.
    pub shares: Vec<Share>,
}

/// A counter that moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its name, from `meshtrace.` on.
    pub name: String,
    /// The amount by which it moved.
    pub by: u64,
    /// The meaning of the counter; empty where it is not known.
    pub meaning: String,
}

/// Checks a running Envoy's configuration and counters.
#[must_use]
pub fn diagnose(observed: &Observed, options: &Options) -> Diagnosis {
    let inputs = std::slice::from_ref(&observed.dump);
    let name = |input: usize| match input {
        0 => Some(observed.dump.name.clone()),
        _ => Some(observed.stats.clone()),
    };
    let (report, filters) = examine(inputs, options, name, |model, findings| {
        judge(model, observed, findings)
    });
    let moved = observed.after.owned().filter_map(|(name, _)| {
        let by = observed.moved(name);
        (by > 0 && !name.starts_with(filters::GAUGE)).then(|| Moved {
            name: format!("meshtrace.{name}"),
            by,
            meaning: stats::meaning(name),
        })
    });
    Diagnosis {
        report,
        filters,
        moved: moved.collect(),
        shares: shares::of(observed),
    }
}

fn judge(model: &Model<'_>, observed: &Observed, findings: &mut Findings) -> Vec<FilterState> {
    filters::rejected(model, findings);
    filters::modules(model, observed, findings);
    if model.plugins.is_empty() && observed.after.owned().next().is_none() {
        let message = "no filter of meshtrace is in this proxy's configuration; see that its \
                       resource selects this workload, and that the address is this proxy's";
        observed.find(Code::NoFilter, "", message, findings);
        return Vec::new();
    }
    let states = filters::check(model, observed, findings);
    exports::check(model, observed, findings);
    requests::check(model, observed, findings);
    states
}

impl Observed {
    /// The amount by which a counter of meshtrace moved. An Envoy that was restarted counts from 0.
    fn moved(&self, name: &str) -> u64 {
        let before = self.before.own(name).unwrap_or(0);
        self.total(name).saturating_sub(before)
    }

    /// The value of a counter of meshtrace since Envoy's start.
    fn total(&self, name: &str) -> u64 {
        self.after.own(name).unwrap_or(0)
    }

    /// Adds up the counters whose names `fits` accepts: how far they moved, and their values since
    /// the start.
    fn sum(&self, fits: impl Fn(&str) -> bool) -> Sum {
        let names = self.after.owned().filter(|(name, _)| fits(name));
        names.fold(Sum::default(), |sum, (name, total)| Sum {
            moved: sum.moved + self.moved(name),
            total: sum.total + total,
        })
    }

    /// Adds a finding about the counter `name`.
    fn find(&self, code: Code, name: &str, message: impl Into<String>, findings: &mut Findings) {
        let path = match name {
            "" => String::new(),
            _ => format!("meshtrace.{name}"),
        };
        findings.add_at(code, 1, Position::START, path, message.into());
    }

    /// The text for a sum: "4 in 5 seconds, 12 since the start".
    fn counted(&self, sum: Sum) -> String {
        let Sum { moved, total } = sum;
        format!("{moved} in {}, {total} since the start", self.window())
    }

    fn window(&self) -> String {
        match self.seconds {
            1 => "1 second".to_owned(),
            seconds => format!("{seconds} seconds"),
        }
    }
}

/// A sum of counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    moved: u64,
    total: u64,
}
