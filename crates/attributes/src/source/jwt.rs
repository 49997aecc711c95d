//! Claims of JSON Web Tokens (RFC 7519), decoded and not verified.

use arrayvec::ArrayVec;
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use meshtrace_config::{ConfigError, json};
use meshtrace_headers::{Arena, Headers};

use crate::config::MAX_ATTRIBUTES;
use crate::text::Raw;
use crate::{Counter, Tally};

/// Most headers that tokens are read from: the arena has room for their payloads.
pub(crate) const MAX_HEADERS: usize = 2;
/// The longest token that is read, in bytes.
const MAX_TOKEN: usize = 8192;

/// RFC 7515, section 2: base64url without padding; padded ones are read too.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A header with a token, and the members of its payload that are needed.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    header: Box<[u8]>,
    members: Vec<Box<str>>,
}

/// The place of `header` among the tokens.
pub(super) fn place(tokens: &mut Vec<Token>, header: Box<[u8]>) -> Result<usize, ConfigError> {
    if let Some(known) = tokens.iter().position(|token| token.header == header) {
        return Ok(known);
    }
    if tokens.len() == MAX_HEADERS {
        return Err(ConfigError::new(
            "jwt_claim.header",
            format!("one more header with tokens, expected at most {MAX_HEADERS}"),
        ));
    }
    tokens.push(Token {
        header,
        members: Vec::new(),
    });
    Ok(tokens.len() - 1)
}

/// The place of the member `name` among those wanted of the token.
pub(super) fn want(tokens: &mut [Token], token: usize, name: &str) -> usize {
    let Some(token) = tokens.get_mut(token) else {
        return 0;
    };
    let known = token.members.iter().position(|member| **member == *name);
    known.unwrap_or_else(|| {
        token.members.push(name.into());
        token.members.len() - 1
    })
}

/// The wanted members of one payload, as JSON text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims<'a> {
    members: ArrayVec<Option<&'a str>, MAX_ATTRIBUTES>,
}

impl Token {
    /// Decodes the token of a request. Where there is no readable token, there are no claims.
    pub(crate) fn read<'a>(
        &self,
        headers: Headers<'a>,
        arena: &'a Arena,
        tally: &mut Tally,
    ) -> Claims<'a> {
        let line = headers.lines(&self.header).next();
        let Some(token) = line.and_then(token_of) else {
            return Claims::default();
        };
        if token.len() > MAX_TOKEN {
            tally.count(Counter::JwtTooLong);
            return Claims::default();
        }
        match self.claims(token, arena) {
            Ok(claims) => claims,
            Err(reason) => {
                tally.count(reason);
                Claims::default()
            }
        }
    }

    fn claims<'a>(&self, token: &[u8], arena: &'a Arena) -> Result<Claims<'a>, Counter> {
        // RFC 7519, section 7.2: header, payload and signature. A token of five parts is encrypted.
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Counter::JwtMalformed);
        };
        let room = base64::decoded_len_estimate(payload.len());
        let Ok(room) = arena.try_alloc_slice_fill_copy(room, 0_u8) else {
            return Err(Counter::Dropped);
        };
        let length = BASE64URL
            .decode_slice(payload, room)
            .map_err(|_| Counter::JwtMalformed)?;
        let json = room.get(..length).ok_or(Counter::JwtMalformed)?;
        let json = core::str::from_utf8(json).map_err(|_| Counter::JwtMalformed)?;
        members_of(json, &self.members).ok_or(Counter::JwtMalformed)
    }
}

/// The token in a header's value: after `Bearer` (RFC 6750, section 2.1), or alone. A value of
/// another scheme has no token.
fn token_of(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    match value.iter().position(|byte| *byte == b' ') {
        None => Some(value).filter(|token| !token.is_empty()),
        Some(end) => {
            let (scheme, token) = value.split_at_checked(end)?;
            scheme
                .eq_ignore_ascii_case(b"bearer")
                .then(|| token.trim_ascii())
        }
    }
}

impl<'a> Claims<'a> {
    /// Returns a string, a number as it is written, or a boolean. Any other type is no value.
    pub(super) fn find<'v>(
        &self,
        member: usize,
        below: &[Box<str>],
        raw: &'v mut Raw,
    ) -> Option<&'v [u8]>
    where
        'a: 'v,
    {
        let mut json: &'a str = (*self.members.get(member)?)?;
        for name in below {
            let claims = members_of(json, core::slice::from_ref(name))?;
            json = (*claims.members.first()?)?;
        }
        match json.as_bytes().first()? {
            b'"' => string(json, raw),
            b'-' | b'0'..=b'9' | b't' | b'f' => Some(json.as_bytes()),
            _ => None,
        }
    }
}

/// The content of a JSON string.
fn string<'v>(json: &'v str, raw: &'v mut Raw) -> Option<&'v [u8]> {
    let inside = json.strip_prefix('"')?.strip_suffix('"')?;
    if !inside.contains('\\') {
        return Some(inside.as_bytes());
    }
    let text = json::string(json).ok()?;
    raw.clear();
    let room = raw.remaining_capacity();
    raw.extend(text.bytes().take(room));
    Some(raw)
}

/// The members of an object that have these names, and whether it is one. Of members with equal
/// names the last one counts (RFC 7519, section 4).
fn members_of<'a>(json: &'a str, names: &[Box<str>]) -> Option<Claims<'a>> {
    let none = core::iter::repeat_n(None, names.len());
    let mut members: ArrayVec<_, MAX_ATTRIBUTES> = none.take(MAX_ATTRIBUTES).collect();
    let read = json::members(json, &mut |name, value| {
        let place = names.iter().position(|wanted| **wanted == *name);
        if let Some(member) = place.and_then(|place| members.get_mut(place)) {
            *member = Some(value);
        }
    });
    read.ok().map(|()| Claims { members })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
    use meshtrace_headers::encode;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    /// What the claim is that `path` leads to, in the token of `value`.
    fn claim(value: &[u8], path: &[&str]) -> (Option<String>, Tally) {
        let mut tokens = Vec::new();
        let place = place(&mut tokens, b"authorization"[..].into()).unwrap();
        let member = want(&mut tokens, place, path[0]);
        let below: Vec<Box<str>> = path[1..].iter().map(|name| (*name).into()).collect();

        let block = encode(&[(&b"authorization"[..], value)]);
        let (arena, mut tally) = (Arena::new(), Tally::default());
        let claims = tokens[place].read(Headers::parse(&block).unwrap(), &arena, &mut tally);
        let mut raw = Raw::new();
        let found = claims.find(member, &below, &mut raw);
        (
            found.map(|found| String::from_utf8(found.to_vec()).unwrap()),
            tally,
        )
    }

    const PAYLOAD: &str = r#" {"sub": "alice", "n": 12345678901234567890123, "f": -1.50, "ok": true,
        "null": null, "list": ["x"], "https://example.com/tenant": "t1",
        "realm": {"id": {"name": "r1"}, "sub": "inner"}, "esc": "a\"\u00e9\n", "twice": 1, "twice": 2} "#;

    #[test]
    fn strings_numbers_and_booleans_are_values() {
        let bearer = format!("Bearer {}", token(PAYLOAD));
        for (path, expected) in [
            (&["sub"][..], Some("alice")),
            (&["n"], Some("12345678901234567890123")),
            (&["f"], Some("-1.50")),
            (&["ok"], Some("true")),
            (&["https://example.com/tenant"], Some("t1")),
            (&["realm", "id", "name"], Some("r1")),
            (&["esc"], Some("a\"é\n")),
            (&["twice"], Some("2")),
            (&["null"], None),
            (&["list"], None),
            (&["realm"], None),
            (&["sub", "x"], None),
            (&["absent"], None),
        ] {
            let (found, tally) = claim(bearer.as_bytes(), path);
            assert_eq!(found.as_deref(), expected, "{path:?}");
            assert_eq!(tally, Tally::default());
        }
    }

    #[test]
    fn a_token_stands_alone_or_behind_bearer() {
        let payload = r#"{"sub": "a"}"#;
        let padded = format!("e30.{}.", URL_SAFE.encode(payload));
        for value in [
            token(payload),
            format!(" bearer   {} ", token(payload)),
            format!("BEARER {padded}"),
        ] {
            assert_eq!(
                claim(value.as_bytes(), &["sub"]).0.as_deref(),
                Some("a"),
                "{value}"
            );
        }
        for value in ["", "Basic YWxpY2U6cGFzcw==", "Bearer"] {
            let (found, tally) = claim(value.as_bytes(), &["sub"]);
            assert_eq!(found, None);
            assert_eq!(tally.has(Counter::JwtMalformed), value == "Bearer");
        }
    }

    #[test]
    fn what_is_no_jwt_is_counted() {
        let deep = "[".repeat(5000);
        for value in [
            &b"Bearer opaque"[..],
            b"a.b",
            b"a.b.c.d",
            b"a.b.c.d.e",
            b"a.***.c",
            b"a.\xff\xfe.c",
            b"..",
            token("").as_bytes(),
            token("[]").as_bytes(),
            token("\"sub\"").as_bytes(),
            token(r#"{"sub": "a""#).as_bytes(),
            token(r#"{"sub": "a"} x"#).as_bytes(),
            token(&deep).as_bytes(),
        ] {
            let (found, tally) = claim(value, &["sub"]);
            assert_eq!(found, None);
            assert!(tally.has(Counter::JwtMalformed), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn a_token_that_is_too_long_is_not_read() {
        let fits = token(&format!(r#"{{"sub": "a", "x": "{}"}}"#, "x".repeat(6000)));
        assert!(fits.len() <= MAX_TOKEN);
        assert_eq!(claim(fits.as_bytes(), &["sub"]).0.as_deref(), Some("a"));

        let long = token(&format!(r#"{{"sub": "a", "x": "{}"}}"#, "x".repeat(9000)));
        let (found, tally) = claim(long.as_bytes(), &["sub"]);
        assert_eq!(found, None);
        assert!(tally.has(Counter::JwtTooLong));
    }
}
