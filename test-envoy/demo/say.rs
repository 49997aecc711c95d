//! What the demo says on a terminal: steps with their time, verdicts in colour, lines that fit.

use std::time::{Duration, Instant};

/// The most columns of a line.
const WIDTH: usize = 100;
/// A terminal with fewer breaks the lines itself.
const LEAST: usize = 80;

/// The columns of a line on this terminal, as `COLUMNS` tells them.
pub(crate) fn width() -> usize {
    width_of(std::env::var("COLUMNS").ok().as_deref())
}

fn width_of(columns: Option<&str>) -> usize {
    let columns = columns.and_then(|columns| columns.parse().ok());
    columns.unwrap_or(WIDTH).clamp(LEAST, WIDTH)
}

const RESET: &str = "\x1b[0m";
const STEP: &str = "\x1b[1;36m";
const GOOD: &str = "\x1b[1;32m";
const BAD: &str = "\x1b[1;31m";
const SOFT: &str = "\x1b[2m";

/// Counts the steps, and writes in colour where that is wanted.
#[derive(Debug)]
pub(crate) struct Voice {
    colour: bool,
    begun: Instant,
    step: usize,
    steps: usize,
}

impl Voice {
    pub(crate) fn new(colour: bool, steps: usize) -> Self {
        Self {
            colour,
            begun: Instant::now(),
            step: 0,
            steps,
        }
    }

    /// The line that begins the next step.
    pub(crate) fn step(&mut self, what: &str) -> String {
        self.step += 1;
        let time = seconds(self.begun.elapsed());
        let place = format!("[{} of {}, {time}]", self.step, self.steps);
        format!("\n{} {}", self.paint(SOFT, &place), self.paint(STEP, what))
    }

    /// A verdict, with its sign.
    pub(crate) fn verdict(&self, good: bool, text: &str) -> String {
        let (style, sign) = if good { (GOOD, '✓') } else { (BAD, '✗') };
        let sign = self.paint(style, &sign.to_string());
        let text = wrapped(text, "    ");
        format!("  {sign} {}", self.paint(style, text.trim_start()))
    }

    fn paint(&self, style: &str, text: &str) -> String {
        match self.colour {
            true => format!("{style}{text}{RESET}"),
            false => text.to_owned(),
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The text in lines that fit, each behind this indentation.
pub(crate) fn wrapped(text: &str, indent: &str) -> String {
    let width = width();
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let room = |line: &&mut String| line.chars().count() + 1 + word.chars().count() <= width;
        match lines.last_mut().filter(room) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(format!("{indent}{word}")),
        }
    }
    lines.join("\n")
}

/// Two columns: a name, and what it is. What does not fit goes on below itself.
pub(crate) fn row(name: &str, width: usize, what: &str) -> String {
    let indent = " ".repeat(width + 4);
    let below = wrapped(what, &indent);
    let behind = below.trim_start();
    match name.chars().count() <= width {
        true => format!("  {name:width$}  {behind}"),
        false => format!("  {name}\n{below}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_and_colour_changes_no_character() {
        let said = |colour| {
            let mut voice = Voice::new(colour, 2);
            let lines = [
                voice.step("one"),
                voice.step("two"),
                voice.verdict(true, "joined"),
            ];
            lines.join("\n")
        };
        let plain = said(false);
        assert!(plain.starts_with("\n[1 of 2, 0."), "{plain}");
        assert!(plain.contains("s] one\n\n[2 of 2, "), "{plain}");
        assert!(plain.ends_with("\n  ✓ joined"), "{plain}");
        let mut coloured = said(true);
        assert!(coloured.contains(GOOD), "{coloured:?}");
        for escape in [RESET, STEP, GOOD, BAD, SOFT] {
            coloured = coloured.replace(escape, "");
        }
        let words = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
        assert_eq!(words(&coloured), words(&plain));
    }

    #[test]
    fn the_width_is_that_of_the_terminal() {
        let told = [
            None,
            Some("80"),
            Some("92"),
            Some("40"),
            Some("300"),
            Some(""),
        ];
        let widths = told.map(width_of);
        assert_eq!(widths, [100, 80, 92, 80, 100, 100]);
    }

    #[test]
    fn a_failure_is_red() {
        let voice = Voice::new(true, 1);
        assert!(
            voice
                .verdict(false, "four")
                .starts_with(&format!("  {BAD}✗"))
        );
    }

    #[test]
    fn lines_fit_and_lose_no_word() {
        let text = "word ".repeat(60);
        for lines in [
            wrapped(&text, "  "),
            row("name", 20, &text),
            row(&"n".repeat(30), 20, &text),
        ] {
            assert_eq!(lines.matches("word").count(), 60);
            assert!(lines.lines().count() > 2);
            assert!(
                lines.lines().all(|line| line.chars().count() <= width()),
                "{lines}"
            );
        }
    }
}
