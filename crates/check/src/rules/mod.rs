//! The rules: each topic has its own file.

mod config;
mod ids;
mod loading;
mod mesh;
mod native;
mod overlap;
mod placement;
mod report;
mod routes;
mod sampling;
pub(crate) mod schema;
mod state;
pub(crate) mod suggest;
mod switched_off;
mod tracer;
mod versions;

use crate::finding::{Code, Findings};
use crate::model::Model;

/// The rules of a topic.
type Topic = fn(&Model<'_>, &mut Findings);

const TOPICS: [Topic; 12] = [
    ids::check,
    loading::check,
    mesh::check,
    native::check,
    overlap::check,
    placement::check,
    report::check,
    routes::check,
    sampling::check,
    state::check,
    tracer::check,
    versions::check,
];

/// Runs all rules.
pub(crate) fn run(model: &mut Model<'_>, findings: &mut Findings) {
    // Where other files are known, a file of another tool is not reported.
    for document in model.unknown.iter().filter(|_| model.knows_nothing()) {
        findings.add(
            Code::NothingKnown,
            *document,
            "nothing here is known to meshtrace; of a plugin's configuration say whose it is: \
             --filter NAME",
        );
    }
    model.refused = config::check(model, findings);
    for topic in TOPICS {
        topic(model, findings);
    }
}
