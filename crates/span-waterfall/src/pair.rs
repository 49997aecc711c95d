//! Two acts side by side, without ids: what changed is seen at once.

use std::fmt::Write;

use super::html::Act;
use super::markup::{colour, escape, mark};
use super::{Axis, count, of_proxy, traces};

/// Draws `left` beside `right`; on a narrow screen above it.
pub(crate) fn render(out: &mut String, left: &Act, right: &Act, services: &[&str]) {
    out.push_str("<div class=\"pair\">\n");
    for act in [left, right] {
        let (class, mark) = mark(act.good);
        let _ = writeln!(
            out,
            "<section class=\"{class}\">\n<div class=\"act\"><h2>{}</h2><span class=\"verdict\">{mark} {}</span></div>",
            escape(&act.title),
            escape(&act.verdict),
        );
        let traces = traces(&act.spans);
        let axis = Axis::of(&traces);
        for trace in &traces {
            let _ = writeln!(
                out,
                "<article class=\"trace mini\"><header><code>{}</code><span>{}</span></header>",
                escape(trace.id),
                count(trace.rows.len(), "span"),
            );
            for row in &trace.rows {
                let (from, length) = axis.place(row.span);
                let nth = services
                    .iter()
                    .position(|service| *service == row.span.service)
                    .unwrap_or(0);
                let _ = writeln!(
                    out,
                    "<div class=\"bar{proxy}\" style=\"{colour}\" title=\"{name}\">\
                     <div class=\"span\" style=\"--depth:{depth}\"><i></i><b>{service}</b></div>\
                     <div class=\"track\"><i style=\"--at:{at:.2};--for:{wide:.2}\"></i></div></div>",
                    proxy = if of_proxy(row.span) { " proxy" } else { "" },
                    colour = colour(nth),
                    name = escape(&row.span.name),
                    depth = row.depth(),
                    service = escape(&row.span.service),
                    at = from * 100.0,
                    wide = length * 100.0,
                );
            }
            out.push_str("</article>\n");
        }
        out.push_str("</section>\n");
    }
    out.push_str("</div>\n");
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ONE, TWO, by_proxy, shop};
    use super::*;

    fn act(title: &str, good: bool, spans: Vec<crate::Span>) -> Act {
        Act {
            title: title.into(),
            good,
            verdict: format!("{title}'s verdict"),
            spans,
            ..Act::default()
        }
    }

    #[test]
    fn both_acts_stand_in_one_row_with_all_their_traces() {
        let mut joined = shop(ONE, Some("b2b2b2b2b2b2b2b2"));
        joined[0] = by_proxy(joined[0].clone());
        let mut out = String::new();
        let services = ["storefront", "payments"];
        render(
            &mut out,
            &act("Before", false, shop(TWO, None)),
            &act("<After>", true, joined),
            &services,
        );
        let (before, after) = out.split_once("&lt;After&gt;").expect("both");
        assert_eq!(before.matches("<article").count(), 2, "{before}");
        assert_eq!(after.matches("<article").count(), 1, "{after}");
        assert!(before.contains("✗ Before&#39;s verdict"), "{before}");
        assert!(after.contains("✓ &lt;After&gt;&#39;s verdict"), "{after}");
        assert_eq!(out.matches("class=\"bar\"").count(), 5);
        assert_eq!(out.matches("class=\"bar proxy\"").count(), 1);
        // The payment is drawn from a quarter of the axis on, for half of it.
        assert!(before.contains("--at:25.00;--for:50.00"), "{before}");
    }
}
