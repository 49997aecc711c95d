//! JSON text (RFC 8259), read one level at a time: the parts of a text are parts of its string, and
//! nothing is allocated for what is not asked for.
//!
//! serde_json reads the same texts and refuses the others in the same words; in a Wasm module it is
//! 20 kB larger, with what it takes of the standard library. Nothing here is generic, so a module has
//! each function once.

use std::borrow::Cow;
use std::fmt;

/// Why a text is not JSON, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson {
    why: &'static str,
    line: usize,
    column: usize,
}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, line, column } = self;
        write!(f, "{why} at line {line} column {column}")
    }
}

impl std::error::Error for NotJson {}

/// Whether the text is JSON, of any depth. That a string's escapes are characters is not looked at.
///
/// # Errors
/// What is wrong first.
pub fn check(text: &str) -> Result<(), NotJson> {
    let mut reader = Reader { text, at: 0 };
    reader.value()?;
    reader.end()
}

/// Calls `each` with the name and the text of each member of an object, in their order; names may be
/// there twice.
///
/// # Errors
/// Where the text is not JSON, or no object. Members before the mistake have been handed over.
pub fn members<'j>(text: &'j str, each: &mut dyn FnMut(&str, &'j str)) -> Result<(), NotJson> {
    let mut reader = Reader { text, at: 0 };
    let mut is_first = true;
    reader.open(b'{')?;
    while reader.goes_on(b'}', is_first)? {
        is_first = false;
        if reader.peek() != Some(b'"') {
            return Err(reader.at_next("key must be a string"));
        }
        let name = reader.string()?;
        reader.colon()?;
        each(&name, reader.part()?);
    }
    reader.end()
}

/// Calls `each` with the text of each item of a list.
///
/// # Errors
/// Where the text is not JSON, or no list. Items before the mistake have been handed over.
pub fn items<'j>(text: &'j str, each: &mut dyn FnMut(&'j str)) -> Result<(), NotJson> {
    let mut reader = Reader { text, at: 0 };
    let mut is_first = true;
    reader.open(b'[')?;
    while reader.goes_on(b']', is_first)? {
        is_first = false;
        each(reader.part()?);
    }
    reader.end()
}

/// The content of a string, without its escapes; a part of the text where it has none.
///
/// # Errors
/// Where the text is no JSON string, or an escape is no character.
pub fn string(text: &str) -> Result<Cow<'_, str>, NotJson> {
    let mut reader = Reader { text, at: 0 };
    if reader.space() != Some(b'"') {
        return Err(reader.at_next("expected value"));
    }
    let string = reader.string()?;
    reader.end()?;
    Ok(string)
}

/// A text, and how far it is read, in bytes.
struct Reader<'j> {
    text: &'j str,
    at: usize,
}

const EOF_STRING: &str = "EOF while parsing a string";
const BAD_ESCAPE: &str = "invalid escape";
const BAD_NUMBER: &str = "invalid number";
const LONE_SURROGATE: &str = "lone leading surrogate in hex escape";

impl<'j> Reader<'j> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn ahead(&self) -> Option<&[u8; 8]> {
        self.text.as_bytes().get(self.at..)?.first_chunk()
    }

    fn next(&mut self) -> Option<u8> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    /// The next byte that is no white space, which is not taken.
    #[inline(never)]
    fn space(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    fn since(&self, start: usize) -> &'j str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// A mistake in the byte that was read last.
    #[cold]
    #[inline(never)]
    fn here(&self, why: &'static str) -> NotJson {
        let before = self.text.as_bytes().get(..self.at).unwrap_or_default();
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        let start = before.iter().rposition(|byte| *byte == b'\n');
        let column = before.len() - start.map_or(0, |end| end + 1);
        let line = lines + 1;
        NotJson { why, line, column }
    }

    /// A mistake in the next byte.
    #[cold]
    #[inline(never)]
    fn at_next(&self, why: &'static str) -> NotJson {
        let at = (self.at + 1).min(self.text.len());
        Reader { at, ..*self }.here(why)
    }

    fn end(&mut self) -> Result<(), NotJson> {
        match self.space() {
            None => Ok(()),
            Some(_) => Err(self.at_next("trailing characters")),
        }
    }

    fn open(&mut self, opening: u8) -> Result<(), NotJson> {
        if self.space() != Some(opening) {
            return Err(self.at_next("expected value"));
        }
        self.at += 1;
        Ok(())
    }

    /// Whether a list or an object has one more part, which begins at the next byte.
    fn goes_on(&mut self, closing: u8, is_first: bool) -> Result<bool, NotJson> {
        match self.space() {
            Some(byte) if byte == closing => {
                self.at += 1;
                return Ok(false);
            }
            Some(_) if is_first => return Ok(true),
            Some(b',') => self.at += 1,
            next => return Err(self.unclosed(next, closing)),
        }
        match self.space() {
            Some(byte) if byte == closing => Err(self.at_next("trailing comma")),
            Some(_) => Ok(true),
            None => Err(self.at_next("EOF while parsing a value")),
        }
    }

    #[cold]
    fn unclosed(&self, next: Option<u8>, closing: u8) -> NotJson {
        self.at_next(match (next, closing) {
            (Some(_), b']') => "expected `,` or `]`",
            (Some(_), _) => "expected `,` or `}`",
            (None, b']') => "EOF while parsing a list",
            (None, _) => "EOF while parsing an object",
        })
    }

    fn colon(&mut self) -> Result<(), NotJson> {
        match self.space() {
            Some(b':') => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(self.at_next("expected `:`")),
            None => Err(self.unclosed(None, b'}')),
        }
    }

    /// The text of the next value.
    fn part(&mut self) -> Result<&'j str, NotJson> {
        self.space();
        let start = self.at;
        self.value()?;
        Ok(self.since(start))
    }

    /// Goes behind the next value. The brackets that are open around it are kept in a list, so that
    /// no depth takes the stack.
    #[inline(never)]
    fn value(&mut self) -> Result<(), NotJson> {
        // The ends that are open, without the innermost one.
        let mut outer: Vec<u8> = Vec::new();
        let mut innermost = None;
        loop {
            let opened = match self.space() {
                Some(b'n') => self.word(b"null")?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b'"') => self.skip_string()?,
                Some(b'[') => Some(b']'),
                Some(b'{') => Some(b'}'),
                Some(_) => return Err(self.at_next("expected value")),
                None => return Err(self.at_next("EOF while parsing a value")),
            };
            let mut is_first = false;
            if opened.is_some() {
                self.at += 1;
                is_first = true;
                outer.extend(innermost);
                innermost = opened;
            }
            // Whatever ends here.
            let closing = loop {
                let Some(closing) = innermost else {
                    return Ok(());
                };
                match self.space() {
                    Some(byte) if byte == closing => {
                        self.at += 1;
                        innermost = outer.pop();
                        is_first = false;
                    }
                    Some(_) if is_first => break closing,
                    Some(b',') => {
                        self.at += 1;
                        break closing;
                    }
                    next => return Err(self.unclosed(next, closing)),
                }
            };
            if closing == b'}' {
                match self.space() {
                    Some(b'"') => self.skip_string()?,
                    Some(_) => return Err(self.at_next("key must be a string")),
                    None => return Err(self.unclosed(None, b'}')),
                };
                self.colon()?;
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<Option<u8>, NotJson> {
        for expected in word {
            match self.next() {
                Some(byte) if byte == *expected => {}
                Some(_) => return Err(self.here("expected ident")),
                None => return Err(self.here("EOF while parsing a value")),
            }
        }
        Ok(None)
    }

    fn number(&mut self) -> Result<Option<u8>, NotJson> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.next() {
            Some(b'0') if self.is_digit() => return Err(self.at_next(BAD_NUMBER)),
            Some(b'0') => {}
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.here(BAD_NUMBER)),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !self.is_digit() {
                return Err(self.at_next(BAD_NUMBER));
            }
            self.digits();
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            let Some(b'0'..=b'9') = self.next() else {
                return Err(self.here(BAD_NUMBER));
            };
            self.digits();
        }
        Ok(None)
    }

    fn is_digit(&self) -> bool {
        matches!(self.peek(), Some(b'0'..=b'9'))
    }

    fn digits(&mut self) {
        while self.is_digit() {
            self.at += 1;
        }
    }

    /// The next byte of a string that is no character of it: a quote, a backslash, or a control
    /// character.
    fn plain(&mut self) -> Option<u8> {
        // Eight bytes at once: the highest bit of each that is one of them is set (Mycroft's test).
        const ONES: u64 = u64::MAX / 0xff;
        let zero = |word: u64| word.wrapping_sub(ONES) & !word;
        while let Some(bytes) = self.ahead() {
            let word = u64::from_le_bytes(*bytes);
            let ends = zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5c));
            let ends = (ends | (word.wrapping_sub(ONES * 0x20) & !word)) & (ONES << 7);
            if ends != 0 {
                self.at += (ends.trailing_zeros() / 8) as usize;
                return self.peek();
            }
            self.at += 8;
        }
        while let Some(byte) = self.peek() {
            if matches!(byte, b'"' | b'\\' | 0..0x20) {
                break;
            }
            self.at += 1;
        }
        self.peek()
    }

    fn skip_string(&mut self) -> Result<Option<u8>, NotJson> {
        self.at += 1;
        loop {
            match self.plain() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(None);
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(None)?;
                }
                next => return Err(self.unended(next)),
            }
        }
    }

    /// The content of the string that begins at the next byte.
    #[inline(never)]
    fn string(&mut self) -> Result<Cow<'j, str>, NotJson> {
        self.at += 1;
        let mut start = self.at;
        let mut content = Cow::Borrowed("");
        loop {
            let next = self.plain();
            let plain = self.since(start);
            match content.is_empty() {
                true => content = Cow::Borrowed(plain),
                false => content.to_mut().push_str(plain),
            }
            match next {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(content);
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(Some(content.to_mut()))?;
                    start = self.at;
                }
                next => {
                    // serde_json stands behind the character here, and before it above.
                    self.next();
                    return Err(self.unended(next));
                }
            }
        }
    }

    #[cold]
    fn unended(&mut self, next: Option<u8>) -> NotJson {
        match next {
            None => self.here(EOF_STRING),
            Some(_) => {
                self.here("control character (\\u0000-\\u001F) found while parsing a string")
            }
        }
    }

    /// Reads an escape behind its backslash. Without `content`, half a surrogate is no mistake.
    #[inline(never)]
    fn escape(&mut self, content: Option<&mut String>) -> Result<(), NotJson> {
        let char = match self.next() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = self.hex()?;
                if content.is_none() {
                    return Ok(());
                }
                self.character(unit)?
            }
            Some(_) => return Err(self.here(BAD_ESCAPE)),
            None => return Err(self.here(EOF_STRING)),
        };
        if let Some(content) = content {
            content.push(char);
        }
        Ok(())
    }

    /// The character that begins with a unit of UTF-16.
    fn character(&mut self, unit: u32) -> Result<char, NotJson> {
        let mut code = unit;
        if let 0xd800..=0xdbff = unit {
            for expected in *b"\\u" {
                match self.next() {
                    Some(byte) if byte == expected => {}
                    Some(_) => return Err(self.here("unexpected end of hex escape")),
                    None => return Err(self.here(EOF_STRING)),
                }
            }
            let low = self.hex()?.wrapping_sub(0xdc00);
            code = match low {
                0..0x400 => 0x1_0000 + ((unit - 0xd800) << 10) + low,
                _ => unit,
            };
        }
        char::from_u32(code).ok_or_else(|| self.here(LONE_SURROGATE))
    }

    /// Four hexadecimal digits.
    fn hex(&mut self) -> Result<u32, NotJson> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let Some(digits) = digits else {
            self.at = self.text.len();
            return Err(self.here(EOF_STRING));
        };
        self.at += 4;
        let mut unit = 0;
        for digit in digits {
            let digit = char::from(*digit).to_digit(16);
            unit = 16 * unit + digit.ok_or_else(|| self.here(BAD_ESCAPE))?;
        }
        Ok(unit)
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests;
