//! Telemetry resources: one for each selection, as Istio takes one for a workload and one for a
//! namespace.

use serde_json::{Value, json};

use super::super::input::{Filter, Role};
use super::super::part::Config;
use super::super::plan::Tags;
use super::super::refusal::Refused;
use super::super::rendering::{Kind, Piece};
use super::{Mesh, Selection, mesh};

/// One entry of a Telemetry, for some workloads.
struct Entry {
    selection: Selection,
    filter: Filter,
    what: &'static str,
    key: &'static str,
    value: Value,
}

impl Mesh<'_> {
    fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut add = |selection, filter, what, key, value| {
            entries.push(Entry {
                selection,
                filter,
                what,
                key,
                value,
            });
        };
        for placed in &self.plan.downstream {
            let selection = self.selection_of(placed);
            if placed.config.contains_key("report") {
                let off = json!({"disableSpanReporting": true});
                let what = "the proxies' own tracer is off";
                add(selection, placed.filter, what, "tracing", off);
            }
        }
        if self.plan.sampling.is_some() {
            let none = json!({"randomSamplingPercentage": 0});
            let what = "nothing is sampled but what route_sampling, or a parent, says";
            let selection = self.selection(Some("sampling"));
            add(selection, Filter::RouteSampling, what, "tracing", none);
        }
        if let Some(Tags::Istio(tags)) = &self.plan.tags {
            let tags = tags.telemetry.pointer("/spec/tracing/0/customTags");
            let mut entry = Config::new();
            // In a proxy without the filter, a tag would read what a client sends.
            if self.setup.role == Role::Sidecar {
                entry.insert("match".to_owned(), json!({"mode": "SERVER"}));
            }
            entry.insert("customTags".to_owned(), json!(tags));
            let what = "the attributes as tags";
            let selection = self.selection(None);
            add(
                selection,
                Filter::SpanAttributes,
                what,
                "tracing",
                json!(entry),
            );
        }
        if self.plan.log.is_some() {
            let provider = json!({"providers": [{"name": mesh::LOG}]});
            let what = "the access log";
            let selection = self.selection(None);
            add(
                selection,
                Filter::AccessLogTrace,
                what,
                "accessLogging",
                provider,
            );
        }
        entries
    }

    pub(super) fn telemetries(&self) -> Result<Vec<Piece>, Refused> {
        let mut pieces = Vec::new();
        let entries = self.entries();
        for (place, entry) in entries.iter().enumerate() {
            let is_same = |other: &&Entry| other.selection == entry.selection;
            if entries.iter().take(place).any(|other| is_same(&other)) {
                continue;
            }
            let all: Vec<_> = entries.iter().filter(is_same).collect();
            pieces.push(self.telemetry(entry, &all)?);
        }
        Ok(pieces)
    }

    fn telemetry(&self, first: &Entry, all: &[&Entry]) -> Result<Piece, Refused> {
        let mut spec = Config::new();
        first.selection.add_to(&mut spec);
        for entry in all {
            let list = spec.entry(entry.key).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                put(list, &entry.value);
            }
        }
        let is_one = all.iter().all(|entry| entry.filter == first.filter);
        let name = match (is_one, &self.setup.name) {
            (true, _) => self.name(first.filter, false, ""),
            (false, None) => format!("meshtrace{}", self.role_suffix()),
            (false, Some(name)) => format!("{name}{}", self.role_suffix()),
        };
        let resource = json!({
            "apiVersion": "telemetry.istio.io/v1",
            "kind": "Telemetry",
            "metadata": self.metadata(&name),
            "spec": spec,
        });
        let has_tags = all
            .iter()
            .any(|entry| entry.filter == Filter::SpanAttributes);
        let tags = match &self.plan.tags {
            Some(Tags::Istio(tags)) if has_tags => tags.limits.as_slice(),
            _ => &[],
        };
        let tags = tags.iter().map(ToString::to_string);
        let what: Vec<_> = all.iter().map(|entry| entry.what).collect();
        let role = self.setup.role;
        let purpose = format!("{}, for {}.", what.join("; "), first.selection.text(role));
        let one = (first.selection == Selection::All && !has_tags).then(|| {
            "Istio takes one Telemetry without a selector a namespace: put this into yours where you \
             have one."
                .to_owned()
        });
        let file = format!("telemetry-{name}");
        Ok(Piece::new(Kind::Resource, file, purpose, &[resource])?.with_notes(tags.chain(one)))
    }
}

/// Adds an entry to a list of a Telemetry: into the one for the same side, as Istio warns of two.
fn put(list: &mut Vec<Value>, entry: &Value) {
    let is_same_side = |there: &&mut Value| there.get("match") == entry.get("match");
    match (list.iter_mut().find(is_same_side), entry.as_object()) {
        (Some(Value::Object(there)), Some(entry)) => there.extend(entry.clone()),
        _ => list.push(entry.clone()),
    }
}
