//! The positions in the file of a text within a scalar.

use super::{Node, Position, Style};

/// The places of a scalar's characters in the file.
pub(super) enum Place {
    /// A block: the number of its first line, the number of columns before its text, and the end of
    /// its last line.
    Block {
        line: u32,
        indent: u32,
        end: Position,
    },
    /// One line of the file: its number, and the column of each character. `before` has the number
    /// of characters before each line of the text.
    Line {
        line: u32,
        columns: Vec<u32>,
        before: Vec<usize>,
    },
    /// Lines that are joined in another way: only the position at which the scalar begins is known.
    Somewhere(Position),
}

impl Place {
    pub(super) fn of(scalar: Node<'_>) -> Self {
        let at = scalar.position();
        let text = scalar.scalar().unwrap_or_default();
        let source = scalar.source_from();
        match scalar.style() {
            Some(Style::Literal) => {
                let mut body = source.lines();
                // The header is skipped where the parser's position of the scalar is at the header.
                let header = u32::from(source.starts_with(['|', '>']));
                if header == 1 {
                    body.next();
                }
                let indent = match body.find(|line| !line.trim().is_empty()) {
                    Some(first) if header == 1 => {
                        u32::try_from(first.len() - first.trim_start_matches(' ').len())
                            .unwrap_or_default()
                    }
                    _ => at.column - 1,
                };
                let line = at.line + header;
                // The file's last line may have no break, and the text has one.
                let last = text.lines().enumerate().last();
                let end = last.map_or(at, |(place, last)| {
                    let place = Position::new(place, last.chars().count() + 1);
                    Position {
                        line: line + place.line,
                        column: indent + place.column,
                    }
                });
                Self::Block { line, indent, end }
            }
            Some(Style::Folded) | None => Self::Somewhere(at),
            Some(style) => match columns(source, style, at.column, text) {
                Some(columns) => {
                    let mut count = 0;
                    let mut before = vec![0];
                    for line in text.split_inclusive('\n') {
                        count += line.chars().count();
                        before.push(count);
                    }
                    Self::Line {
                        line: at.line,
                        columns,
                        before,
                    }
                }
                None => Self::Somewhere(at),
            },
        }
    }

    /// The position in the file of the character at `within` in the scalar's text.
    pub(super) fn position(&self, within: Position) -> Position {
        match self {
            Self::Block { line, indent, end } => {
                let at = Position {
                    line: line + within.line - 1,
                    column: indent + within.column,
                };
                at.min(*end)
            }
            Self::Line {
                line,
                columns,
                before,
            } => {
                let before = before.get(within.line as usize - 1).copied();
                let place = before.unwrap_or_default() + within.column as usize - 1;
                let column = columns.get(place).or(columns.last());
                Position {
                    line: *line,
                    column: column.copied().unwrap_or(1),
                }
            }
            Self::Somewhere(at) => *at,
        }
    }
}

/// The column of each character of a scalar that is in one line of the file, and of the character
/// behind it.
fn columns(source: &str, style: Style, first: u32, text: &str) -> Option<Vec<u32>> {
    let mut columns = Vec::new();
    let mut column = first;
    let mut characters = source.chars();
    if style != Style::Plain {
        characters.next();
        column += 1;
    }
    for _ in text.chars() {
        columns.push(column);
        let length = match (characters.next()?, style) {
            ('\n', _) => return None,
            ('\'', Style::Single) => {
                characters.next();
                2
            }
            ('\\', Style::Double) => match characters.next()? {
                'u' => {
                    characters.nth(3);
                    6
                }
                'x' => {
                    characters.nth(1);
                    4
                }
                'U' => {
                    characters.nth(7);
                    10
                }
                '\n' => return None,
                _ => 2,
            },
            _ => 1,
        };
        column += length;
    }
    columns.push(column);
    Some(columns)
}
