//! Several values of one header: the first one is cut out where the filter continues it.
//!
//! A sender may join repeated lines by commas, with white space around them, and elements may be
//! empty (RFC 9110, section 5.6.1). A pattern is compiled on the request only where there is a comma
//! or white space.

use super::names::{TRACEPARENT, helper};
use super::reading::Reading;
use crate::cel::{cel, digits, has, matches, value, when, zeros};
use crate::script::Script;

/// What may stand before the first value.
const BEFORE: &str = r"[ \t,]*";
/// What stands behind a value.
const BEHIND: &str = r"[ \t]*(,[ \t,]*|$)";

/// The pattern of a list in which every value fits `one`.
fn all(one: &str) -> String {
    format!("^{BEFORE}({one}{BEHIND})+$")
}

/// Whether every value of `header` begins with what `first` finds in the first one, in CEL.
///
/// What is found becomes a part of a pattern, so `first` bounds its length. In the text that is made
/// of it no backslash can stand before a letter.
fn all_as_first(header: &str, first: &str, case: &str, rest: &str) -> String {
    let text = value(header);
    format!(
        r"{text}.matches(re.extract({text}, r'^{BEFORE}({first})', r'{case}^[[:blank:],]*(\1{rest}(,[[:blank:],]*|$))+$'))"
    )
}

impl Reading {
    /// Takes empty values and white space away from the ends of `traceparent`.
    pub(super) fn trim_traceparent(&self, script: &mut Script) {
        let trims = matches(TRACEPARENT, &self.ends());
        let trimmed = when(trims, self.trimmed(TRACEPARENT, ".*"));
        script.set(
            TRACEPARENT,
            cel(when(has(TRACEPARENT), format!("({trimmed})"))),
        );
    }

    /// Leaves the first value of `b3`, where all are decisions or all are contexts of one trace.
    pub(super) fn cut_b3(&self, script: &mut Script) {
        let digit = self.b3_digit;
        let id = digits(digit, 16);
        let trace = format!("({id})?{id}-");
        // A pattern has room for one id.
        let shaped = |span: &str, parent: &str| {
            let shape = match self.strict {
                true => format!("{digit}+-{span}(-[01d](-{parent})?)?"),
                // The grammar has no parent without a state, but old tracers send it.
                false => format!("{digit}+-{span}(-[01d])?(-{parent})?"),
            };
            matches(helper::B3, &all(&shape))
        };
        let many = format!("{digit}+");
        let no_span = format!(r"(^|[ \t,]){digit}+-{}", zeros(16));
        let contexts = [
            shaped(&id, &many),
            shaped(&many, &id),
            format!("!{}", matches(helper::B3, &no_span)),
            all_as_first(helper::B3, &trace, self.case(), "[^,]*"),
        ];
        let decisions = matches(helper::B3, &all("[01d]"));
        let counts = format!("{decisions} || {}", contexts.join(" && "));
        self.cut(helper::B3, &counts, script);
    }

    /// Leaves the first value of both ids of `x-b3-*`, where the trace id is one and all span ids
    /// are valid.
    pub(super) fn cut_b3_multi(&self, script: &mut Script) {
        let id = digits(self.b3_digit, 16);
        let trace = format!(r"({id})?{id}");
        let one = all_as_first(helper::TRACE_ID, &trace, self.case(), "[[:blank:]]*");
        self.cut(helper::TRACE_ID, &one, script);
        let no_span = format!(r"(^|[ \t,]){}", zeros(16));
        let valid = format!(
            "{} && !{}",
            matches(helper::SPAN_ID, &all(&id)),
            matches(helper::SPAN_ID, &no_span)
        );
        self.cut(helper::SPAN_ID, &valid, script);
    }

    /// Leaves the first value of `header` where `counts`; otherwise the header is malformed.
    fn cut(&self, header: &str, counts: &str, script: &mut Script) {
        let first = match self.joins() {
            true => format!("({})", when(counts, self.first_value(header))),
            false => self.first_value(header),
        };
        let several = format!("{} && {}", has(header), self.is_cut(header));
        script.set(header, cel(when(several, first)));
    }

    /// The first value of `header`, in CEL. The header is there.
    pub(super) fn item(&self, header: &str) -> String {
        let first = self.first_value(header);
        format!("({} ? {first} : {})", self.is_cut(header), value(header))
    }

    /// Whether the first value of `header` fits `pattern`, in CEL.
    pub(super) fn first_is(&self, header: &str, pattern: &str) -> String {
        let behind = if self.joins() { "(,|$)" } else { "$" };
        let before = self.before();
        matches(header, &format!(r"^{before}({pattern})[ \t]*{behind}"))
    }

    /// Whether every value of `header` fits `pattern`, in CEL.
    pub(super) fn all_are(&self, header: &str, pattern: &str) -> String {
        match self.joins() {
            true => matches(header, &all(pattern)),
            false => self.first_is(header, pattern),
        }
    }

    /// Whether `header` may be more than its first value, in CEL.
    fn is_cut(&self, header: &str) -> String {
        match self.joins() {
            true => matches(header, r"[ \t,]"),
            false => matches(header, &self.ends()),
        }
    }

    fn first_value(&self, header: &str) -> String {
        let inner = if self.joins() { "[^,]*" } else { ".*" };
        self.trimmed(header, inner)
    }

    /// What `inner` finds in `header` between what may stand at the ends, in CEL.
    fn trimmed(&self, header: &str, inner: &str) -> String {
        let (text, before) = (value(header), self.before());
        let last = before.replace('[', "[^").replace('*', "");
        format!(r"re.extract({text}, r'^{before}({inner}{last})', r'\1')")
    }

    /// What may stand before the first value.
    fn before(&self) -> &'static str {
        match self.joins() {
            true => BEFORE,
            false => r"[ \t]*",
        }
    }

    /// The pattern of a header that has more at its ends than a value.
    fn ends(&self) -> String {
        let one = self.before().replace('*', "");
        format!("^{one}|{one}$")
    }

    /// Upper case is another form of the same id where it is read at all.
    fn case(&self) -> &'static str {
        match self.any_case() {
            true => "(?i)",
            false => "",
        }
    }
}
