//! An explanation as plain English text, at most 100 columns wide.

use crate::explanation::{Explanation, HeaderChange, Section, Span};
use crate::request::SentRequest;

/// The most characters of a line.
const WIDTH: usize = 100;

const BOLD: u8 = 1;
const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

/// Writes `explanation`, the result of running a filter over `sent`. With `in_colour` the text has
/// colours.
#[must_use]
pub fn text(explanation: &Explanation, sent: &SentRequest, in_colour: bool) -> String {
    let mut page = Page {
        text: String::new(),
        in_colour,
    };
    page.line(0, "", None, &head(explanation, sent));
    for caution in &explanation.cautions {
        page.line(0, "caution ", Some(YELLOW), caution);
    }
    let body = page.text.len();
    page.extract(explanation);
    page.sample(explanation);
    page.gather(explanation);
    page.inject(explanation);
    page.ids(explanation);
    page.report(explanation);
    if page.text.len() == body {
        page.line(
            0,
            "",
            None,
            "The filter changes nothing about this request.",
        );
    }
    page.notes(explanation);
    page.text
}

fn head(explanation: &Explanation, sent: &SentRequest) -> String {
    let value = |name: &str| {
        let mut lines = sent.headers.iter();
        let line = lines.find(|(candidate, _)| candidate == name);
        line.map_or("", |(_, value)| value.as_str())
    };
    let (method, path) = (value(":method"), value(":path"));
    let authority = value(":authority");
    format!("{}: {method} {path} of {authority}", explanation.filter)
}

struct Page {
    text: String,
    in_colour: bool,
}

impl Page {
    /// Adds `label` and `text`. A text that is too long for a line goes on in the next line, below
    /// itself.
    fn line(&mut self, indent: usize, label: &str, colour: Option<u8>, text: &str) {
        let start = indent + label.chars().count();
        let room = WIDTH.saturating_sub(start).max(1);
        self.text.push_str(&" ".repeat(indent));
        match colour.filter(|_| self.in_colour) {
            Some(colour) => {
                let label = format!("\u{1b}[{colour}m{label}\u{1b}[0m");
                self.text.push_str(&label);
            }
            None => self.text.push_str(label),
        }
        for (number, piece) in wrapped(text, room).iter().enumerate() {
            if number > 0 {
                self.text.push_str(&" ".repeat(start));
            }
            self.text.push_str(piece);
            self.text.push('\n');
        }
    }

    fn section(&mut self, title: &str) {
        self.text.push('\n');
        self.line(0, title, Some(BOLD), "");
    }

    fn counters(&mut self, explanation: &Explanation, section: Section) {
        for counter in explanation.counters_of(section) {
            self.line(2, "counted    ", None, &counter.meaning);
            self.line(13, "", None, &counter.name);
        }
    }

    fn filter_state(&mut self, explanation: &Explanation, section: Section) {
        for state in explanation.filter_state_of(section) {
            let text = format!("{} = {}", state.key, state.value);
            self.line(2, "state      ", Some(GREEN), &text);
        }
    }

    fn has(explanation: &Explanation, section: Section) -> bool {
        explanation.counters_of(section).next().is_some()
            || explanation.filter_state_of(section).next().is_some()
    }

    fn extract(&mut self, explanation: &Explanation) {
        if !Self::has(explanation, Section::Extract) && explanation.read.is_empty() {
            return;
        }
        self.section("extract");
        for read in &explanation.read {
            let (label, colour) = match (read.chosen, read.malformed) {
                (true, _) => ("read       ", GREEN),
                (false, _) => ("malformed  ", RED),
            };
            self.line(2, label, Some(colour), read.format);
            for (name, value) in &read.headers {
                self.line(13, "", None, &format!("{name}: {value}"));
            }
        }
        self.counters(explanation, Section::Extract);
        self.filter_state(explanation, Section::Extract);
    }

    fn sample(&mut self, explanation: &Explanation) {
        if !Self::has(explanation, Section::Sample) {
            return;
        }
        self.section("sample");
        match &explanation.rule {
            Some(rule) if rule.name == "default" => {
                let text = format!("No rule fits; the default says: {}", rule.says);
                self.line(2, "rule       ", Some(GREEN), &text);
            }
            Some(rule) => {
                let text = format!("{} says: {}", rule.name, rule.says);
                self.line(2, "rule       ", Some(GREEN), &text);
            }
            None if explanation.has_rules => {
                self.line(2, "rule       ", None, "No rule was looked for.");
            }
            None => {}
        }
        self.counters(explanation, Section::Sample);
        self.filter_state(explanation, Section::Sample);
    }

    fn gather(&mut self, explanation: &Explanation) {
        let is_empty = explanation.attributes.is_empty() && explanation.left_out.is_empty();
        if !Self::has(explanation, Section::Gather) && is_empty {
            return;
        }
        self.section("gather");
        for attribute in &explanation.attributes {
            let text = format!("{} = {}", attribute.key, attribute.value);
            self.line(2, "attribute  ", Some(GREEN), &text);
            match &attribute.raw {
                Some(raw) if *raw == attribute.value => {}
                Some(raw) => self.line(2, "from       ", None, raw),
                None => self.line(
                    2,
                    "from       ",
                    None,
                    "its default: the request has no value",
                ),
            }
        }
        for attribute in &explanation.left_out {
            self.line(2, "left out   ", Some(RED), &attribute.key);
            self.line(2, "from       ", None, &attribute.raw);
        }
        self.counters(explanation, Section::Gather);
        self.filter_state(explanation, Section::Gather);
    }

    fn inject(&mut self, explanation: &Explanation) {
        if !Self::has(explanation, Section::Inject) && explanation.headers.is_empty() {
            return;
        }
        self.section("inject");
        for header in &explanation.headers {
            self.header(header);
        }
        if explanation.headers_by_filter_state {
            let text =
                "The route configuration writes and removes these headers, from filter state.";
            self.line(2, "", None, text);
        }
        self.counters(explanation, Section::Inject);
        self.filter_state(explanation, Section::Inject);
    }

    fn header(&mut self, header: &HeaderChange) {
        let name = &header.name;
        let (before, after) = match (header.before.is_empty(), header.after.is_empty()) {
            (false, false) => ("before     ", "after      "),
            _ => ("removed    ", "written    "),
        };
        for value in &header.before {
            self.line(2, before, Some(RED), &format!("{name}: {value}"));
        }
        for value in &header.after {
            self.line(2, after, Some(GREEN), &format!("{name}: {value}"));
        }
    }

    fn ids(&mut self, explanation: &Explanation) {
        if Self::has(explanation, Section::Ids) {
            self.section("ids");
            self.counters(explanation, Section::Ids);
            self.filter_state(explanation, Section::Ids);
        }
    }

    fn report(&mut self, explanation: &Explanation) {
        let Some(span) = &explanation.span else {
            return;
        };
        self.section("span");
        self.line(2, "name       ", None, &span.name);
        self.line(2, "trace      ", None, &span.trace_id);
        self.line(2, "span       ", None, &span.span_id);
        let parent = span.parent_span_id.as_deref();
        let parent = parent.unwrap_or("none: it is the root of the trace");
        self.line(2, "parent     ", None, parent);
        if !span.tracestate.is_empty() {
            self.line(2, "tracestate ", None, &span.tracestate);
        }
        self.line(2, "sampled    ", None, fate(span));
        self.counters(explanation, Section::Report);
    }

    fn notes(&mut self, explanation: &Explanation) {
        let mut notes = Vec::new();
        if !explanation.generated.is_empty() {
            notes.push(format!(
                "Made by the filter: {}. This command makes the same ones every time; a proxy makes \
                 random ones.",
                explanation.generated.join(", ")
            ));
        }
        if !explanation.unknown_properties.is_empty() {
            notes.push(format!(
                "Properties of the proxy without a value here: {}. Give them with --property.",
                explanation.unknown_properties.join(", ")
            ));
        }
        if explanation.ends_without_tracer && Self::has(explanation, Section::Ids) {
            notes.push(
                "The ids are those in a proxy without a tracer of its own: such a tracer changes the \
                 headers after the filter."
                    .to_owned(),
            );
        }
        if explanation.continues_with_response {
            notes.push("What the filter takes from the response is not shown.".to_owned());
        }
        if !notes.is_empty() {
            self.text.push('\n');
        }
        for note in notes {
            self.line(0, "note: ", None, &note);
        }
    }
}

fn fate(span: &Span) -> &'static str {
    match (span.sampled, span.never) {
        (true, _) => "yes: the span is exported",
        (false, true) => "no: the span is not exported, whatever becomes of the request",
        (false, false) => "no: the span is exported only where `report.keep` says so",
    }
}

/// The text in lines of at most `room` characters. A word that is longer is cut. The result has at
/// least one line.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in text.split(' ') {
        let mut characters: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + characters.len() > room {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        while characters.len() > room {
            let rest = characters.split_off(room);
            lines.push(characters.iter().collect());
            characters = rest;
        }
        line.extend(&characters);
        length += characters.len();
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_no_longer_than_the_room() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
