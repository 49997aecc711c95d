//! Compares the sampling rules of one configuration with each other.

use crate::document::Node;
use crate::filter::Filter;
use crate::finding::{Code, Findings};
use crate::model::Model;

pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    for plugin in &model.plugins {
        let Some(stage) = plugin.stage(Filter::RouteSampling) else {
            continue;
        };
        let rules: Vec<_> = stage.list("rules").filter(|rule| rule.is_map()).collect();
        for (place, rule) in rules.iter().enumerate() {
            let own = rule.get("match");
            let covering = rules
                .iter()
                .take(place)
                .position(|earlier| covers(earlier.get("match"), own));
            if let Some(earlier) = covering {
                let name = rules.get(earlier).and_then(|rule| rule.text_at(&["name"]));
                let name = name.map_or(String::new(), |name| format!(" ({name})"));
                let message = format!(
                    "never decides: rules[{earlier}]{name} fits every request that this one fits, \
                     and comes first; move this rule in front of it, or remove it"
                );
                findings.add(Code::Shadowed, *rule, message);
            }
            ratio(rule.get("sample"), findings);
        }
        ratio(stage.get("default"), findings);
        if let (Some(default), Some(last)) = (stage.get("default"), rules.last())
            && last
                .get("match")
                .is_none_or(|own| own.entries().next().is_none())
        {
            let message = "never decides: the last rule has no `match`, so that it fits every \
                           request; remove one of the two";
            findings.add(Code::Shadowed, default, message);
        }
    }
}

fn ratio(sample: Option<Node<'_>>, findings: &mut Findings) {
    let Some(ratio) = sample.and_then(|sample| sample.get("ratio")) else {
        return;
    };
    let word = match ratio.number() {
        Some(0.0) => "never",
        Some(1.0) => "always",
        _ => return,
    };
    let all = if word == "never" {
        "no trace"
    } else {
        "every trace"
    };
    let message = format!(
        "keeps {all}, and \"{word}\" says so; a ratio is a part of all traces, such as 0.01 for 1 %"
    );
    findings.add(Code::PlainRatio, ratio, message);
}

/// Whether `earlier` fits every request that `later` fits.
fn covers(earlier: Option<Node<'_>>, later: Option<Node<'_>>) -> bool {
    let Some(earlier) = earlier else { return true };
    let condition = |key: &str| {
        let own = earlier.get(key);
        let other = later.and_then(|later| later.get(key));
        (own, other)
    };
    let path = match condition("path") {
        (None, _) => true,
        (Some(own), Some(other)) => path_covers(own, other),
        (Some(_), None) => false,
    };
    let methods = match condition("methods") {
        (None, _) => true,
        (Some(own), Some(other)) => other
            .items()
            .all(|method| own.items().any(|own| own.scalar() == method.scalar())),
        (Some(_), None) => false,
    };
    let host = match condition("host") {
        (None, _) => true,
        (Some(own), Some(other)) => host_covers(
            own.scalar().unwrap_or_default(),
            other.scalar().unwrap_or_default(),
        ),
        (Some(_), None) => false,
    };
    let same = |key: &str| match condition(key) {
        (None, _) => true,
        (Some(own), Some(other)) => own.scalar() == other.scalar(),
        (Some(_), None) => false,
    };
    let headers = {
        let (own, other) = condition("headers");
        own.into_iter().flat_map(Node::items).all(|own| {
            other
                .into_iter()
                .flat_map(Node::items)
                .any(|other| header_covers(own, other))
        })
    };
    let cluster = match condition("cluster") {
        (None, _) => true,
        (Some(own), Some(other)) => cluster_covers(own, other),
        (Some(_), None) => false,
    };
    path && methods && host && headers && same("route") && cluster
}

fn cluster_covers(own: Node<'_>, other: Node<'_>) -> bool {
    let exact = |node: Node<'_>| {
        node.scalar()
            .or_else(|| node.text_at(&["exact"]))
            .map(str::to_owned)
    };
    let prefix = |node: Node<'_>| node.text_at(&["prefix"]).map(str::to_owned);
    match (exact(own), prefix(own)) {
        (Some(own), _) => exact(other) == Some(own),
        (_, Some(own)) => exact(other)
            .or_else(|| prefix(other))
            .is_some_and(|name| name.starts_with(&own)),
        _ => false,
    }
}

fn host_covers(own: &str, other: &str) -> bool {
    let (own, other) = (own.to_ascii_lowercase(), other.to_ascii_lowercase());
    own == other
        || own
            .strip_prefix('*')
            .is_some_and(|ending| other.len() > ending.len() && other.ends_with(ending))
}

fn header_covers(own: Node<'_>, other: Node<'_>) -> bool {
    let text = |node: Node<'_>, key: &str| node.text_at(&[key]).map(str::to_owned);
    let (name, other_name) = (text(own, "name"), text(other, "name"));
    let same_name = name
        .zip(other_name)
        .is_some_and(|(own, other)| own.eq_ignore_ascii_case(&other));
    if !same_name {
        return false;
    }
    if own.get("present").is_some() {
        return true;
    }
    match (text(own, "exact"), text(own, "prefix")) {
        (Some(exact), _) => text(other, "exact") == Some(exact),
        (_, Some(prefix)) => [text(other, "exact"), text(other, "prefix")]
            .into_iter()
            .flatten()
            .any(|value| value.starts_with(&prefix)),
        _ => false,
    }
}

fn path_covers(own: Node<'_>, other: Node<'_>) -> bool {
    let form = |node: Node<'_>| {
        let (form, value) = node.entries().next()?;
        Some((form.to_owned(), value.scalar()?.to_owned()))
    };
    let (Some((own_form, own)), Some((other_form, other))) = (form(own), form(other)) else {
        return false;
    };
    match own_form.as_str() {
        "prefix" => {
            let prefix = own.trim_end_matches('/');
            let literal = match other_form.as_str() {
                "exact" | "prefix" => other.trim_end_matches('/').to_owned(),
                // The segments before the first one that is a variable or a wildcard.
                "template" => other
                    .split('/')
                    .take_while(|segment| !segment.contains(['{', '*']))
                    .collect::<Vec<_>>()
                    .join("/"),
                _ => return false,
            };
            literal == prefix
                || literal
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with('/'))
        }
        "template" if other_form == "exact" || other_form == "template" => {
            template_covers(&own, &other)
        }
        _ => own_form == other_form && own == other,
    }
}

/// Whether every path of `other`, an exact path or a template, fits the template `own`.
fn template_covers(own: &str, other: &str) -> bool {
    let mut others = other.split('/');
    for segment in own.split('/') {
        if segment == "**" {
            return true;
        }
        let Some(value) = others.next() else {
            return false;
        };
        let is_any = segment == "*" || segment.starts_with('{') && segment.ends_with('}');
        let fits = if is_any {
            !value.is_empty() && value != "**"
        } else {
            segment == value
        };
        if !fits {
            return false;
        }
    }
    others.next().is_none()
}
