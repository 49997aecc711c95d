use std::collections::BTreeSet;
use std::fmt::Write;

use super::markup::{colour, escape, lines, mark};
use super::{
    Axis, Parent, Row, Trace, count, duration, kind, nanos_of, of_proxy, pair, services, short,
    traces,
};
use crate::Span;

const STYLE: &str = include_str!("page.css");
const LEGEND: &str = "<p class=\"legend\"><i></i>application<i class=\"proxy\"></i>proxy</p>\n";

/// A page that needs no other file: no script, no font and no picture from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The heading, and the window's title.
    pub title: String,
    /// A description of the page, in a sentence or two.
    pub lead: String,
    /// The stations of the request, in order.
    pub path: Vec<Hop>,
    /// The pictures, one below the other.
    pub acts: Vec<Act>,
    /// Whether the first two of them stand side by side above all, as before and after.
    pub pair: bool,
    /// A last line, which names the program that made the page.
    pub footer: String,
}

/// A station of the request, or a change at one.
#[derive(Clone, Debug, Default)]
pub struct Hop {
    /// Its name. A station that has spans carries the colour of its service.
    pub name: String,
    /// A note about the station, in a few words.
    pub note: String,
}

/// The spans of one run, and what they show.
#[derive(Clone, Debug, Default)]
pub struct Act {
    /// What was run.
    pub title: String,
    /// Whether the result is the wanted one.
    pub good: bool,
    /// The result in two or three words.
    pub verdict: String,
    /// The result in a sentence.
    pub text: String,
    /// The differences from the act before.
    pub changes: Vec<Hop>,
    /// Every span of the run.
    pub spans: Vec<Span>,
    /// Long texts about the run, such as a configuration; each is folded under its name.
    pub given: Vec<Given>,
}

/// A long text under a name that unfolds it.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// What the text is.
    pub name: String,
    /// The text; its lines and spaces stay.
    pub text: String,
}

impl Page {
    /// The page as HTML.
    pub fn render(&self) -> String {
        let all: Vec<Span> = self
            .acts
            .iter()
            .flat_map(|act| act.spans.iter().cloned())
            .collect();
        let all = traces(&all);
        // The services of all acts, so that a service has one colour although another act begins
        // elsewhere.
        let services = services(&all);
        let proxies: BTreeSet<&String> = self
            .acts
            .iter()
            .flat_map(|act| &act.spans)
            .filter(|span| of_proxy(span))
            .map(|span| &span.service)
            .collect();
        let title = escape(&self.title);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
             <h1>{title}</h1>\n<p class=\"lead\">{}</p>\n",
            escape(&self.lead)
        );
        if !self.path.is_empty() {
            out.push_str("<ol class=\"path\">\n");
            for hop in &self.path {
                let class = match services.iter().position(|service| *service == hop.name) {
                    Some(nth) if proxies.contains(&hop.name) => {
                        format!("hop service proxy\" style=\"{}", colour(nth))
                    }
                    Some(nth) => format!("hop service\" style=\"{}", colour(nth)),
                    None => "hop".to_owned(),
                };
                let (name, note) = (escape(&hop.name), escape(&hop.note));
                let _ = writeln!(
                    out,
                    "<li><div class=\"{class}\">{name}<small>{note}</small></div></li>"
                );
            }
            out.push_str("</ol>\n");
        }
        if !proxies.is_empty() {
            out.push_str(LEGEND);
        }
        if let (true, [before, after, ..]) = (self.pair, self.acts.as_slice()) {
            pair::render(&mut out, before, after, &services);
        }
        for act in &self.acts {
            render_act(&mut out, act, &services);
        }
        let _ = write!(
            out,
            "<footer>{}</footer>\n</main>\n</body>\n</html>\n",
            escape(&self.footer)
        );
        out
    }
}

fn render_act(out: &mut String, act: &Act, services: &[&str]) {
    let (class, mark) = mark(act.good);
    let _ = write!(
        out,
        "<section class=\"{class}\">\n<div class=\"act\"><h2>{}</h2><span class=\"verdict\">{mark} {}</span></div>\n\
         <p class=\"said\">{}</p>\n",
        escape(&act.title),
        escape(&act.verdict),
        escape(&act.text),
    );
    if !act.changes.is_empty() {
        out.push_str("<dl class=\"changes\">\n");
        for change in &act.changes {
            let (name, note) = (escape(&change.name), escape(&change.note));
            let _ = writeln!(out, "<div><dt>{name}</dt><dd>{note}</dd></div>");
        }
        out.push_str("</dl>\n");
    }
    let traces = traces(&act.spans);
    let axis = Axis::of(&traces);
    for (at, trace) in traces.iter().enumerate() {
        render_trace(out, (at + 1, traces.len()), trace, axis, services);
    }
    for given in &act.given {
        let (name, text) = (escape(&given.name), lines(&given.text));
        let _ = writeln!(
            out,
            "<details class=\"given\"><summary>{name}</summary><pre>{text}</pre></details>"
        );
    }
    out.push_str("</section>\n");
}

fn render_trace(
    out: &mut String,
    (nth, of): (usize, usize),
    trace: &Trace<'_>,
    axis: Axis,
    services: &[&str],
) {
    let title = if of == 1 {
        "Trace".to_owned()
    } else {
        format!("Trace {nth} of {of}")
    };
    let _ = write!(
        out,
        "<article class=\"trace\">\n<header><strong>{title}</strong><code>{}</code><span>{}, {}</span></header>\n\
         <div class=\"grid head\"><span>Service, span</span><span>Kind</span><span class=\"time\">Duration</span>\
         <span class=\"own\">Span id</span><span class=\"parent\">Parent</span><div class=\"axis\">",
        escape(trace.id),
        count(trace.rows.len(), "span"),
        duration(trace.end - trace.start),
    );
    let ticks = ticks(axis.length);
    let share = |nanos: u64| nanos as f64 / axis.length as f64 * 100.0;
    for &tick in &ticks {
        let text = if tick == 0 {
            "0".to_owned()
        } else {
            duration(tick).replace(".0 ", " ")
        };
        let _ = write!(out, "<span style=\"--at:{:.2}\">{text}</span>", share(tick));
    }
    out.push_str("</div></div>\n");
    let rules: String = ticks
        .iter()
        .map(|&tick| format!("<u style=\"--at:{:.2}\"></u>", share(tick)))
        .collect();
    for row in &trace.rows {
        render_row(out, row, axis, &rules, services);
    }
    out.push_str("</article>\n");
}

fn render_row(out: &mut String, row: &Row<'_>, axis: Axis, rules: &str, services: &[&str]) {
    let span = row.span;
    let (service, name, took) = (
        escape(&span.service),
        escape(&span.name),
        duration(nanos_of(span)),
    );
    let (from, length) = axis.place(span);
    let parent = match row.parent {
        Parent::Root => {
            "<span class=\"parent soft\" title=\"No parent: the span begins the trace\">root</span>"
                .into()
        }
        Parent::Known(parent) => format!(
            "<span class=\"parent id\" title=\"{} {}\">{}</span>",
            escape(&parent.service),
            escape(&parent.name),
            escape(&short(&parent.span_id)),
        ),
        Parent::Missing(id) => format!(
            "<span class=\"parent id wrong\" title=\"No span of this trace has the id {id}\">! {short}</span>",
            id = escape(id),
            short = escape(&short(id)),
        ),
    };
    let error = if span.status_error {
        " <span class=\"wrong\">error</span>"
    } else {
        ""
    };
    let begun = span.start_unix_nanos.saturating_sub(axis.start);
    let nth = services
        .iter()
        .position(|service| *service == span.service)
        .unwrap_or(0);
    let _ = write!(
        out,
        "<details{proxy} style=\"{colour}\">\n<summary class=\"grid\" title=\"{name}, begun after {begun}, took {took}\">\
         <div class=\"span\" style=\"--depth:{depth}\"><i></i><div><b>{service}</b><em>{name}{error}</em></div></div>\
         <span class=\"kind\">{kind}</span><span class=\"time\">{took}</span>\
         <span class=\"own id\">{own}</span>{parent}\
         <div class=\"track\">{rules}<i style=\"--at:{at:.2};--for:{wide:.2}\"></i></div></summary>\n",
        proxy = if of_proxy(span) {
            " class=\"proxy\""
        } else {
            ""
        },
        colour = colour(nth),
        begun = duration(begun),
        depth = row.depth(),
        kind = kind(span.kind),
        own = escape(&short(&span.span_id)),
        at = from * 100.0,
        wide = length * 100.0,
    );
    out.push_str("<dl class=\"facts\">");
    fact(out, "span id", &span.span_id);
    fact(
        out,
        "parent span id",
        span.parent_span_id.as_deref().unwrap_or("none"),
    );
    if !span.trace_state.is_empty() {
        fact(out, "tracestate", &span.trace_state);
    }
    for (key, value) in span.attributes.iter().chain(&span.resource) {
        fact(out, key, value);
    }
    out.push_str("</dl>\n</details>\n");
}

fn fact(out: &mut String, key: &str, value: &str) {
    let _ = write!(
        out,
        "<div><dt>{}</dt><dd class=\"id\">{}</dd></div>",
        escape(key),
        escape(value)
    );
}

/// Round times along the axis, far enough apart to be read.
fn ticks(length: u64) -> Vec<u64> {
    let step = (0..)
        .flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)))
        .take(57)
        .find(|step| length / step <= 4)
        .unwrap_or(length.max(1));
    // The last tenth has no label, because it would reach over the edge.
    (0..=length / step)
        .map(|nth| nth * step)
        .filter(|&tick| tick == 0 || tick <= length / 10 * 9)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ONE, TWO, by_proxy, shop, span};
    use super::*;
    use crate::SpanKind;

    fn page(spans: Vec<Span>) -> Page {
        let act = Act {
            title: "Without".into(),
            verdict: "2 traces".into(),
            spans,
            ..Act::default()
        };
        let path = ["client", "storefront"]
            .map(|name| Hop {
                name: name.into(),
                note: "note".into(),
            })
            .into();
        Page {
            title: "Title".into(),
            lead: "Lead.".into(),
            path,
            acts: vec![act],
            pair: false,
            footer: "Made.".into(),
        }
    }

    #[test]
    fn every_trace_and_every_span_is_on_the_page() {
        let html = page(shop(TWO, None)).render();
        assert_eq!(html.matches("<article").count(), 2);
        assert_eq!(html.matches("<details").count(), 3);
        for part in [
            "Title",
            "Lead.",
            "2 traces",
            ONE,
            TWO,
            "GET /checkout",
            "CLIENT",
            "30.0 ms",
            "a1a1a1a1",
            "Made.",
        ] {
            assert!(html.contains(part), "{part} is not in\n{html}");
        }
        // The payment is drawn from a quarter of the axis on, for half of it.
        assert!(html.contains("--at:25.00;--for:50.00"), "{html}");
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let html = page(shop(ONE, Some("b2b2b2b2b2b2b2b2"))).render();
        for outside in [
            "http:", "https:", "//", "<script", "<link", "<img", "@import", "url(",
        ] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn what_an_application_wrote_stays_text() {
        let evil = "<script>alert('1')</script>\" onclick=\"x";
        let mut bad = span(evil, evil, Some(evil), SpanKind::Server, evil, evil, (0, 1));
        bad.attributes.insert(evil.into(), evil.into());
        bad.resource.insert(evil.into(), evil.into());
        bad.trace_state = evil.into();
        let mut page = page(vec![bad]);
        page.path.push(Hop {
            name: evil.into(),
            note: evil.into(),
        });
        for text in [&mut page.title, &mut page.lead, &mut page.footer] {
            *text = evil.into();
        }
        let html = page.render();
        assert!(!html.contains("<script"), "{html}");
        assert!(!html.contains("\" onclick"), "{html}");
        assert!(
            html.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot; onclick=&quot;x"),
            "{html}"
        );
    }

    #[test]
    fn a_missing_parent_is_marked() {
        let html = page(shop(TWO, Some("b2b2b2b2b2b2b2b2"))).render();
        assert!(
            html.contains("No span of this trace has the id b2b2b2b2b2b2b2b2"),
            "{html}"
        );
        assert!(html.contains("! b2b2b2b2"), "{html}");
    }

    #[test]
    fn a_service_has_one_colour_on_the_whole_page() {
        let html = page(shop(TWO, None)).render();
        assert_eq!(
            html.matches("--service:var(--s0)").count(),
            3,
            "two spans and the station of storefront"
        );
        assert_eq!(
            html.matches("--service:var(--s1)").count(),
            1,
            "the span of payments"
        );
    }

    #[test]
    fn proxies_are_marked_in_the_picture_the_path_and_the_legend() {
        let without = page(shop(TWO, None)).render();
        assert!(!without.contains("class=\"proxy\""), "{without}");
        let mut spans = shop(TWO, None);
        spans[2] = by_proxy(spans[2].clone());
        let html = page(spans).render();
        assert_eq!(
            html.matches("<details class=\"proxy\"").count(),
            1,
            "{html}"
        );
        assert!(html.contains("class=\"hop service proxy\""), "{html}");
        assert!(html.contains(LEGEND), "{html}");
    }

    #[test]
    fn what_an_act_changes_is_said_before_its_picture() {
        let mut page = page(shop(ONE, None));
        assert!(!page.render().contains("<dl class=\"changes\">"));
        page.acts[0].changes.push(Hop {
            name: "a <filter>".into(),
            note: "joins & mends".into(),
        });
        let html = page.render();
        let change = html.find("<div><dt>a &lt;filter&gt;</dt><dd>joins &amp; mends</dd></div>");
        assert!(change.is_some() && change < html.find("<article"), "{html}");
    }

    #[test]
    fn the_first_two_acts_stand_side_by_side_where_that_is_wanted() {
        let mut page = page(shop(TWO, None));
        page.pair = true;
        assert!(!page.render().contains("class=\"pair\""), "one act alone");
        page.acts.push(page.acts[0].clone());
        let html = page.render();
        let pair = html.find("class=\"pair\"").expect("the pair");
        let first = html.find("<details").expect("the first span in full");
        assert!(pair < first, "{html}");
    }

    #[test]
    fn what_was_given_is_folded_text() {
        let mut page = page(shop(ONE, None));
        page.acts[0].given.push(Given {
            name: "gateway".into(),
            text: "{\n  \"a\": \"<b>\"\n}".into(),
        });
        let html = page.render();
        let folded = "<details class=\"given\"><summary>gateway</summary><pre>{\n  \
                      &quot;a&quot;: &quot;&lt;b&gt;&quot;\n}</pre></details>";
        assert!(html.contains(folded), "{html}");
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(40_000_000), [0, 10_000_000, 20_000_000, 30_000_000]);
        assert_eq!(ticks(31_234_567), [0, 10_000_000, 20_000_000]);
        assert_eq!(ticks(1), [0]);
        for length in [1, 999, 1_000, 123_456_789, u64::MAX] {
            assert!(ticks(length).len() <= 5, "{length}");
        }
    }
}
