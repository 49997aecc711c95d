//! A value of a JSON text, with its path: what `Read` reads from.
//!
//! The text is read one level at a time and only where something is read: a value is a part of the
//! text. Nothing here is generic, so a module has each function once.

use core::fmt;
use std::borrow::Cow;

use crate::document::{Document, Path, Step};
use crate::error::ConfigError;
use crate::json::NotJson;
use crate::{json, number, quote};

/// The most items of a list that are read: more than any key takes. What a text of a few megabytes would become in memory could end the VM.
const MAX_ITEMS: usize = 1 << 15;

/// A value of a configuration, and where it stands.
#[derive(Clone, Copy)]
pub struct Value<'v> {
    document: &'v Document<'v>,
    path: Path<'v>,
    text: &'v str,
}

/// A key of an object: its name, and whether it must be there.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    name: &'static str,
    is_required: bool,
}

impl Key {
    /// A key that may be absent.
    #[must_use]
    pub const fn optional(name: &'static str) -> Self {
        Self {
            name,
            is_required: false,
        }
    }

    /// A key without which an object is refused.
    #[must_use]
    pub const fn required(name: &'static str) -> Self {
        Self {
            name,
            is_required: true,
        }
    }
}

/// The kind of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// A list.
    List,
    /// An object.
    Object,
}

impl<'v> Value<'v> {
    /// The value that the whole document is.
    pub(crate) fn top(document: &'v Document<'v>) -> Self {
        let path = Path {
            above: None,
            step: Step::Top,
        };
        Value {
            document,
            path,
            text: document.text.trim_ascii(),
        }
    }

    /// The kind of the value.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.text.as_bytes().first() {
            Some(b'"') => Kind::String,
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::List,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// Refuses the value: `message` says what was found, and what is expected.
    #[inline(never)]
    pub fn refuse(&self, message: &str) {
        let at = match self.kind() {
            Kind::List | Kind::Object => self.start() + 1,
            _ => self.start() + self.text.len(),
        };
        self.refuse_at(at, message);
    }

    /// Refuses the object that has the value, or the list.
    #[inline(never)]
    pub fn refuse_above(&self, message: &str) {
        let path = self.path.above.copied().unwrap_or(self.path);
        Value { path, ..*self }.refuse(message);
    }

    /// Refuses a value of another kind than the one `expected`.
    #[inline(never)]
    pub fn refuse_kind(&self, expected: &str) {
        self.refuse(&format!(
            "invalid type: {}, expected {expected}",
            self.found()
        ));
    }

    /// Refuses a value of the right kind.
    #[inline(never)]
    pub fn refuse_value(&self, expected: &str) {
        self.refuse(&format!(
            "invalid value: {}, expected {expected}",
            self.found()
        ));
    }

    /// Refuses a value that has none of its forms: a string that is none of them, or another kind.
    #[inline(never)]
    pub fn refuse_form(&self, expected: &str) {
        match self.kind() {
            Kind::String => self.refuse_value(expected),
            _ => self.refuse_kind(expected),
        }
    }

    /// The text of a string; `None`, and no mistake, where it is none.
    #[must_use]
    #[inline(never)]
    pub fn quiet_text(&self) -> Option<String> {
        json::string(self.text).ok().map(Cow::into_owned)
    }

    /// The text of a string; `None`, and a mistake, where it is none.
    #[inline(never)]
    pub fn text(&self) -> Option<String> {
        if self.kind() != Kind::String {
            self.refuse_kind("a string");
            return None;
        }
        self.string()
    }

    /// `true` or `false`; `None`, and a mistake, where it is neither.
    #[inline(never)]
    pub fn boolean(&self) -> Option<bool> {
        match self.text {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.refuse_kind("a boolean");
                None
            }
        }
    }

    /// A whole number from 0 to `most`, in any form (`5000.0`, `1e3`); `None`, and a mistake, where
    /// it is none.
    #[inline(never)]
    pub fn whole_number(&self, most: u64) -> Option<u64> {
        let is_number = self.kind() == Kind::Number;
        let digits = number::as_integer(self.text).filter(|_| is_number);
        let number = digits.as_deref().and_then(|digits| digits.parse().ok());
        let number = number.filter(|number| *number <= most);
        if number.is_none() {
            let expected = format!("a whole number from 0 to {most}");
            match digits {
                Some(_) => self.refuse_value(&expected),
                None => self.refuse_kind(&expected),
            }
        }
        number
    }

    /// Any number; `None`, and a mistake, where it is none.
    #[inline(never)]
    pub fn number(&self) -> Option<f64> {
        let is_number = self.kind() == Kind::Number;
        let number = number::as_float(self.text).filter(|_| is_number);
        if number.is_none() {
            self.refuse_kind("a number");
        }
        number
    }

    /// A number as it is written, with its sign, its point and its exponent.
    #[must_use]
    pub fn as_written(&self) -> &'v str {
        self.text
    }

    /// The place of a string in `words`; `None`, and a mistake, where it is none of them.
    #[inline(never)]
    pub fn word(&self, words: &[&str]) -> Option<usize> {
        let word = self.text()?;
        let place = words.iter().position(|known| *known == word);
        if place.is_none() {
            self.refuse_unknown("variant", &word, words, None);
        }
        place
    }

    /// Reads a value that is one of `names`, and calls `read` with the place of its name. The first
    /// `bare` of them are strings; each other one is the only key of an object, and `read` is given
    /// the key's value.
    #[inline(never)]
    pub fn tagged(
        &self,
        names: &[&str],
        bare: usize,
        read: &mut dyn FnMut(usize, Option<Value<'_>>),
    ) {
        match self.kind() {
            Kind::String => match self.word(names) {
                Some(place) if place < bare => read(place, None),
                Some(_) => self.refuse_value("an object with that key"),
                None => {}
            },
            Kind::Object => {
                let members = self.members();
                let [(name, text)] = members.as_slice() else {
                    let found = match members.len() {
                        0 => "an empty object",
                        _ => "more than one key",
                    };
                    return self.refuse(&format!("{found}, expected {}", one_of(names)));
                };
                let value = self.member(name, text);
                match names.iter().position(|known| *known == *name) {
                    None => self.refuse_unknown("variant", name, names, Some(text)),
                    Some(place) if place >= bare => read(place, Some(value)),
                    Some(place) if value.kind() == Kind::Null => read(place, None),
                    Some(_) => value.refuse_kind("the name alone, as a string"),
                }
            }
            _ => self.refuse_kind("a string or an object"),
        }
    }

    /// Reads an object with these `keys`, and calls `read` with the place of each one that is there,
    /// and its value. Keys that are unknown, missing or there twice are mistakes.
    #[inline(never)]
    pub fn object(&self, keys: &[Key], read: &mut dyn FnMut(usize, Value<'_>)) {
        match (self.kind(), self.path.step) {
            (Kind::Object, _) => {}
            (_, Step::Top) => return self.refuse("not a JSON object, expected one such as {}"),
            _ => return self.refuse_kind("an object"),
        }
        let (mut seen, mut repeated) = (0_u64, 0_u64);
        for (name, text) in self.members() {
            let value = self.member(&name, text);
            let Some(place) = keys.iter().position(|key| key.name == name) else {
                let names: Vec<_> = keys.iter().map(|key| key.name).collect();
                value.refuse_unknown("field", &name, &names, Some(text));
                continue;
            };
            let bit = u32::try_from(place)
                .ok()
                .and_then(|place| 1_u64.checked_shl(place));
            let bit = bit.unwrap_or_default();
            if seen & bit == 0 {
                read(place, value);
            } else if repeated & bit == 0 {
                repeated |= bit;
                let message = format!("duplicate field `{name}`");
                self.refuse_member(self.key_end(text), &name, &message);
            }
            seen |= bit;
        }
        let end = self.start() + self.text.len();
        for (place, key) in keys.iter().enumerate() {
            if key.is_required && (seen >> place) & 1 == 0 {
                let message = format!("missing field `{}`", key.name);
                self.refuse_member(end, key.name, &message);
            }
        }
    }

    /// Refuses the key of a member of an object, which is none of `names`.
    #[inline(never)]
    pub fn refuse_key(&self, names: &[&str]) {
        if let Step::Key(name) = self.path.step {
            self.refuse_unknown("variant", name, names, Some(self.text));
        }
    }

    /// Calls `read` with the name and the value of each member of an object with any keys.
    #[inline(never)]
    pub fn map(&self, read: &mut dyn FnMut(&str, Value<'_>)) {
        if self.kind() != Kind::Object {
            return self.refuse_kind("an object");
        }
        for (name, text) in self.members() {
            read(&name, self.member(&name, text));
        }
    }

    /// Calls `read` with each item of a list.
    #[inline(never)]
    pub fn items(&self, read: &mut dyn FnMut(Value<'_>)) {
        if self.kind() != Kind::List {
            return self.refuse_kind("a list");
        }
        let mut i = 0;
        let parsed = json::items(self.text, &mut |text| {
            if i < MAX_ITEMS {
                read(self.below(Step::Item(i), text));
            }
            i += 1;
        });
        self.parsed(parsed);
        if i > MAX_ITEMS {
            self.refuse("more than 32768 items");
        }
    }

    /// Refuses a name that is none of `names`. `text` is the value of a key of that name.
    #[inline(never)]
    fn refuse_unknown(&self, what: &str, name: &str, names: &[&str], text: Option<&'v str>) {
        let name = quote::shorten(name);
        let message = format!("unknown {what} `{name}`, expected {}", one_of(names));
        match text {
            None => self.refuse(&message),
            Some(text) => self.refuse_at(self.key_end(text), &message),
        }
    }

    fn refuse_at(&self, at: usize, message: &str) {
        self.tell(at, message, None);
    }

    /// Refuses the object for its member `name`.
    fn refuse_member(&self, at: usize, name: &str, message: &str) {
        self.tell(at, message, Some(name));
    }

    /// Of many mistakes most are only counted: to find the place of each would take the time of
    /// reading all that is before it.
    fn tell(&self, at: usize, message: &str, member: Option<&str>) {
        let Ok(mut mistakes) = self.document.mistakes.try_borrow_mut() else {
            return;
        };
        if mistakes.is_full() {
            return mistakes.count_one();
        }
        let mut path = String::new();
        self.path.write(&mut path);
        let before = self.document.text.get(..at).unwrap_or_default();
        let lines = before.bytes().filter(|byte| *byte == b'\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |end| end + 1);
        let about = member.map(|name| {
            let mut path = String::new();
            self.member(name, "").path.write(&mut path);
            path
        });
        let position = Some((lines + 1, column));
        let mistake = ConfigError::told(path, message.to_owned(), about, position);
        mistakes.add(mistake);
    }

    /// What was found, for a mistake.
    fn found(&self) -> String {
        let text = quote::shorten(self.text);
        match self.kind() {
            Kind::Null => "null".to_owned(),
            Kind::Bool => format!("boolean `{text}`"),
            Kind::Number if self.text.contains(['.', 'e', 'E']) => {
                format!("floating point `{text}`")
            }
            Kind::Number => format!("integer `{text}`"),
            Kind::String => match self.string() {
                Some(string) => format!("string {:?}", quote::shorten(&string)),
                None => "string".to_owned(),
            },
            Kind::List => "list".to_owned(),
            Kind::Object => "object".to_owned(),
        }
    }

    fn string(&self) -> Option<String> {
        match json::string(self.text) {
            Ok(string) => Some(string.into_owned()),
            Err(error) => {
                self.refuse(&format!("not a JSON string ({error})"));
                None
            }
        }
    }

    /// The members of an object; none where the key of one is no text.
    fn members(&self) -> Vec<(String, &'v str)> {
        let mut members = Vec::new();
        let parsed = json::members(self.text, &mut |name, text| {
            members.push((name.to_owned(), text));
        });
        if !self.parsed(parsed) {
            members.clear();
        }
        members
    }

    /// Whether the parts of a value could be read. It has their kind already, so that only a key
    /// that is no text can be wrong.
    fn parsed(&self, parsed: Result<(), NotJson>) -> bool {
        if let Err(error) = parsed {
            self.refuse(&format!("not JSON ({error})"));
        }
        parsed.is_ok()
    }

    fn member<'m>(&'m self, name: &'m str, text: &'m str) -> Value<'m> {
        self.below(Step::Key(name), text)
    }

    fn below<'m>(&'m self, step: Step<'m>, text: &'m str) -> Value<'m> {
        let path = Path {
            above: Some(&self.path),
            step,
        };
        Value {
            document: self.document,
            path,
            text,
        }
    }

    /// Where the value begins in the document.
    fn start(&self) -> usize {
        self.offset(self.text)
    }

    fn offset(&self, part: &str) -> usize {
        let document = self.document.text.as_ptr().addr();
        part.as_ptr().addr().saturating_sub(document)
    }

    /// Where the key of a member ends in the document.
    fn key_end(&self, member: &str) -> usize {
        let before = self.document.text.get(..self.offset(member));
        let before = before.unwrap_or_default().trim_ascii_end();
        before
            .strip_suffix(':')
            .unwrap_or(before)
            .trim_ascii_end()
            .len()
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Value").field(&self.text).finish()
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [one] => format!("`{one}`"),
        [one, other] => format!("`{one}` or `{other}`"),
        many => format!("one of `{}`", many.join("`, `")),
    }
}
