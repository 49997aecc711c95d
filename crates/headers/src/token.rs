//! Tokens: the grammar of names of headers.

/// Whether `text` is a token (RFC 9110, section 5.6.2): the name of a header, a method, the key of
/// a cookie or of baggage.
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_tchar)
}
