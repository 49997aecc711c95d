//! What is looked for: one file a topic.

mod config;
mod placement;
mod routes;
pub(crate) mod schema;
pub(crate) mod suggest;
mod tracer;

use crate::finding::{Code, Findings};
use crate::model::Model;

/// Looks for everything.
pub(crate) fn run(model: &Model<'_>, findings: &mut Findings) {
    for document in &model.unknown {
        findings.add(
            Code::NothingKnown,
            *document,
            "nothing here is known to meshtrace; of a plugin's configuration say whose it is: --filter NAME",
        );
    }
    config::check(model, findings);
    placement::check(model, findings);
    routes::check(model, findings);
    tracer::check(model, findings);
}
