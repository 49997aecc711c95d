use std::fmt::Write;
use std::io::IsTerminal;

use super::{
    Axis, Parent, Row, Trace, count, duration, kind, nanos_of, of_proxy, printable, services,
    short, traces,
};
use crate::Span;

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const SERVICES: [&str; 5] = ["\x1b[36m", "\x1b[33m", "\x1b[35m", "\x1b[32m", "\x1b[34m"];

/// How the text is written.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// The number of columns that a line may take. Below 90 the ids of spans and parents are left
    /// out: the tree shows the parents too.
    pub width: usize,
    /// Whether services have colours (ANSI escapes).
    pub colour: bool,
}

impl Default for Terminal {
    /// A form that fits everywhere: 100 columns, no colour.
    fn default() -> Self {
        Self {
            width: 100,
            colour: false,
        }
    }
}

impl Terminal {
    /// Uses colour when standard output is a terminal and `NO_COLOR` is not set.
    pub fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colour: std::io::stdout().is_terminal() && !refused,
            ..Self::default()
        }
    }

    /// The spans as waterfalls, with one block for each trace.
    pub fn render(self, spans: &[Span]) -> String {
        let traces = traces(spans);
        let (axis, services) = (Axis::of(&traces), services(&traces));
        let columns = Columns::fit(&traces, self.width);
        let mut out = String::new();
        for (at, trace) in traces.iter().enumerate() {
            if at > 0 {
                out.push('\n');
            }
            self.block(
                &mut out,
                (at + 1, traces.len()),
                trace,
                axis,
                &services,
                &columns,
            );
        }
        out
    }

    fn block(
        self,
        out: &mut String,
        (nth, of): (usize, usize),
        trace: &Trace<'_>,
        axis: Axis,
        services: &[&str],
        columns: &Columns,
    ) {
        let Columns {
            service,
            name,
            kind: kinds,
            ids,
            bar,
        } = *columns;
        let title = if of == 1 {
            "Trace".to_owned()
        } else {
            format!("Trace {nth} of {of}")
        };
        let size = format!(
            "{}, {}",
            count(trace.rows.len(), "span"),
            duration(trace.end - trace.start)
        );
        line(
            out,
            &format!(
                "  {}  {}  {size}",
                self.paint(BOLD, &title),
                self.paint(BOLD, &printable(trace.id))
            ),
        );

        let (zero, full) = ("0", duration(axis.length));
        let ruler = format!("{zero}{full:>rest$}", rest = bar - zero.len());
        let mut head = vec![
            format!("{:service$}", "SERVICE"),
            format!("{:name$}", "SPAN"),
            format!("{:kinds$}", "KIND"),
            format!("{:>9}", "DURATION"),
        ];
        if ids {
            head.extend([format!("{:8}", "SPAN ID"), format!("{:9}", "PARENT")]);
        }
        head.push(ruler);
        let head = format!("  {}", head.join("  "));
        line(out, &self.paint(DIM, &head));

        for row in &trace.rows {
            let span = row.span;
            let nth = services
                .iter()
                .position(|service| *service == span.service)
                .unwrap_or(0);
            let colour = SERVICES[nth % SERVICES.len()];
            let (parent, style) = match row.parent {
                Parent::Root => ("root".to_owned(), DIM),
                Parent::Known(parent) => (short(&parent.span_id), ""),
                Parent::Missing(id) => (format!("!{}", short(id)), RED),
            };
            let mut cells = vec![
                self.paint(colour, &format!("{:service$}", cut(&span.service, service))),
                format!("{:name$}", cut(&label(row), name)),
                format!("{:kinds$}", kind(span.kind)),
                format!("{:>9}", duration(nanos_of(span))),
            ];
            if ids {
                cells.push(format!("{:8}", short(&span.span_id)));
                cells.push(self.paint(style, &format!("{parent:9}")));
            }
            cells.push(self.paint(colour, &draw(axis.place(span), bar, ink(span))));
            line(out, &format!("  {}", cells.join("  ")));
        }
        if trace
            .rows
            .iter()
            .any(|row| matches!(row.parent, Parent::Missing(_)))
        {
            line(
                out,
                &format!(
                    "  {}",
                    self.paint(RED, "! no span of this trace has the parent's id")
                ),
            );
        }
    }

    fn paint(self, style: &str, text: &str) -> String {
        if self.colour && !style.is_empty() {
            format!("{style}{text}{RESET}")
        } else {
            text.to_owned()
        }
    }
}

/// The widths of the columns that depend on their content.
#[derive(Clone, Copy, Debug)]
struct Columns {
    service: usize,
    name: usize,
    kind: usize,
    ids: bool,
    bar: usize,
}

impl Columns {
    fn fit(traces: &[Trace<'_>], width: usize) -> Self {
        /// The columns of the margin, the duration, and the gaps between five columns.
        const FIXED: usize = 2 + 9 + 4 * 2;
        /// Those of the two ids, and their gaps.
        const IDS: usize = 8 + 9 + 2 * 2;
        /// With less the names would be gone.
        const WITH_IDS: usize = 90;
        /// A bar with fewer columns shows little. Names are cut first, down to half of the room.
        const BAR: usize = 16;
        let rows = || traces.iter().flat_map(|trace| &trace.rows);
        let widest = |text: &dyn Fn(&Row<'_>) -> usize, least: usize| {
            rows().map(text).fold(least, usize::max)
        };
        let service = widest(&|row| row.span.service.chars().count(), 7).min(16);
        let kind = widest(&|row| kind(row.span.kind).len(), 4);
        let ids = width >= WITH_IDS;
        let fixed = if ids { FIXED + IDS } else { FIXED };
        let room = width.saturating_sub(fixed + service + kind);
        let name = widest(&|row| label(row).chars().count(), 4)
            .min(room.saturating_sub(BAR).max(room / 2));
        Self {
            service,
            name,
            kind,
            ids,
            bar: room.saturating_sub(name).max(BAR / 2),
        }
    }
}

/// The name of the span, after the branch of the tree that leads to it.
fn label(row: &Row<'_>) -> String {
    let mut label = String::new();
    if let Some((own, ancestors)) = row.last.split_last() {
        for last in ancestors {
            label.push_str(if *last { "  " } else { "│ " });
        }
        label.push_str(if *own { "└ " } else { "├ " });
    }
    label.push_str(&row.span.name);
    if row.span.status_error {
        label.push_str(" (error)");
    }
    label
}

fn cut(text: &str, width: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= width {
        return text;
    }
    text.chars()
        .take(width.saturating_sub(1))
        .chain(['…'])
        .collect()
}

/// The characters of a bar: for both halves of a column, for the left one, for the right one.
type Ink = [char; 3];

/// The characters of a span: a bar for an application, a line for a proxy.
fn ink(span: &Span) -> Ink {
    if of_proxy(span) {
        ['━', '╸', '╺']
    } else {
        ['█', '▌', '▐']
    }
}

/// Draws a bar in half columns. It begins at the share `from`, has the share `length`, and is
/// always visible.
fn draw((from, length): (f64, f64), columns: usize, [both, left, right]: Ink) -> String {
    let halves = (columns * 2) as f64;
    let begin = ((from * halves) as usize).min(columns * 2 - 1);
    let end = (((from + length) * halves).round() as usize).clamp(begin + 1, columns * 2);
    let filled = |half: usize| (begin..end).contains(&half);
    let cell = |column: usize| match (filled(column * 2), filled(column * 2 + 1)) {
        (true, true) => both,
        (true, false) => left,
        (false, true) => right,
        (false, false) => ' ',
    };
    (0..columns).map(cell).collect()
}

fn line(out: &mut String, text: &str) {
    let _ = writeln!(out, "{}", text.trim_end());
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ONE, TWO, by_proxy, shop, span};
    use super::*;
    use crate::SpanKind;

    #[test]
    fn one_trace_is_one_block_with_a_tree_and_a_common_axis() {
        let text = Terminal::default().render(&shop(ONE, Some("b2b2b2b2b2b2b2b2")));
        assert_eq!(
            text,
            concat!(
                "  Trace  11111111111111111111111111111111  3 spans, 40.0 ms\n",
                "  SERVICE     SPAN             KIND     DURATION  SPAN ID   PARENT     0                     40.0 ms\n",
                "  storefront  GET /checkout    SERVER    40.0 ms  a1a1a1a1  root       █████████████████████████████\n",
                "  storefront  └ GET            CLIENT    30.0 ms  b2b2b2b2  a1a1a1a1      ▐█████████████████████▌\n",
                "  payments      └ GET /charge  SERVER    20.0 ms  c3c3c3c3  b2b2b2b2          ███████████████\n",
            )
        );
    }

    #[test]
    fn the_spans_of_proxies_are_lines_and_those_of_applications_blocks() {
        let mut spans = shop(ONE, Some("b2b2b2b2b2b2b2b2"));
        spans[0] = by_proxy(spans[0].clone());
        let text = Terminal::default().render(&spans);
        let bars: Vec<_> = text
            .lines()
            .skip(2)
            .map(|line| &line[line.rfind(' ').unwrap() + 1..])
            .collect();
        assert_eq!(
            bars,
            [
                "█████████████████████████████",
                "▐█████████████████████▌",
                "━━━━━━━━━━━━━━━"
            ]
        );
    }

    #[test]
    fn two_traces_share_the_axis() {
        let text = Terminal::default().render(&shop(TWO, None));
        let blocks: Vec<&str> = text.split("\n\n").collect();
        assert_eq!(blocks.len(), 2);
        assert!(blocks[0].starts_with("  Trace 1 of 2  1111"), "{text}");
        assert!(blocks[1].starts_with("  Trace 2 of 2  2222"), "{text}");
        // The payment begins a quarter into the request, although it is the first span of its own
        // trace.
        assert!(blocks[1].contains("root              ▐███"), "{text}");
    }

    #[test]
    fn a_missing_parent_is_marked_and_explained() {
        let text = Terminal::default().render(&shop(TWO, Some("b2b2b2b2b2b2b2b2")));
        assert!(text.contains("!b2b2b2b2"), "{text}");
        assert!(
            text.ends_with("  ! no span of this trace has the parent's id\n"),
            "{text}"
        );
    }

    #[test]
    fn long_names_are_cut_and_never_pass_the_width() {
        let mut spans = shop(ONE, Some("b2b2b2b2b2b2b2b2"));
        spans.push(span(
            ONE,
            "d4",
            None,
            SpanKind::Producer,
            &"s".repeat(80),
            &"n".repeat(300),
            (0, 1),
        ));
        for width in [80, 100, 160] {
            let text = Terminal {
                width,
                colour: false,
            }
            .render(&spans);
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(width), "{widest:?} columns\n{text}");
        }
    }

    #[test]
    fn a_narrow_terminal_shows_names_and_no_ids() {
        let spans = shop(ONE, Some("b2b2b2b2b2b2b2b2"));
        let at = |width| {
            Terminal {
                width,
                colour: false,
            }
            .render(&spans)
        };
        let (wide, narrow) = (at(90), at(80));
        assert!(wide.contains("PARENT") && !narrow.contains("PARENT"));
        assert!(!narrow.contains("b2b2b2b2"), "{narrow}");
        for span in &spans {
            assert!(narrow.contains(&span.name), "{narrow}");
        }
    }

    #[test]
    fn escapes_in_a_name_do_not_reach_the_terminal() {
        let evil = span(
            ONE,
            "a1",
            None,
            SpanKind::Server,
            "s\x1b[2J",
            "a\nb\x07",
            (0, 1),
        );
        let text = Terminal::default().render(&[evil]);
        assert!(!text.contains(['\x1b', '\x07']), "{text:?}");
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn colour_changes_no_character_of_the_text() {
        let spans = shop(TWO, Some("b2b2b2b2b2b2b2b2"));
        let plain = Terminal::default().render(&spans);
        let mut coloured = Terminal {
            colour: true,
            ..Terminal::default()
        }
        .render(&spans);
        assert!(coloured.contains(SERVICES[0]) && coloured.contains(SERVICES[1]));
        for escape in SERVICES.iter().chain(&[RESET, BOLD, DIM, RED]) {
            coloured = coloured.replace(escape, "");
        }
        let trimmed: Vec<&str> = coloured.lines().map(str::trim_end).collect();
        assert_eq!(trimmed, plain.lines().collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(Terminal::default().render(&[]), "");
    }

    #[test]
    fn the_shortest_span_is_still_seen() {
        let block = ['█', '▌', '▐'];
        assert_eq!(draw((0.0, 0.0), 4, block), "▌   ");
        assert_eq!(draw((1.0, 0.0), 4, block), "   ▐");
        assert_eq!(draw((0.25, 0.5), 4, block), " ██ ");
    }
}
