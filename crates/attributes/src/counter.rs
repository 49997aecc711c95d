//! What is counted about attributes.

meshtrace_counters::counters! {
    "meshtrace.span_attributes.",
    /// At least one attribute was known when the request's headers had come.
    Found = "found",
    /// No attribute was known when the request's headers had come.
    NotFound = "not_found",
    /// A value was longer than it may be, and was cut.
    Truncated = "truncated",
    /// A value had control characters or was not UTF-8.
    Replaced = "replaced",
    /// A value was nothing but white space, which is no value.
    Blank = "blank",
    /// A value was not in its list of allowed ones.
    NotAllowed = "not_allowed",
    /// An attribute was left out: the environment has no key for its `hmac_sha256`.
    HmacKeyMissing = "hmac_key_missing",
    /// A token was not a JWT.
    JwtMalformed = "jwt.malformed",
    /// A token was too long to be read.
    JwtTooLong = "jwt.too_long",
    /// A client sent headers of the family that the filter writes; they were removed.
    HeadersRemoved = "headers_removed",
    /// A member of `baggage` was not well-formed, and was left out when the header was written.
    BaggageMalformed = "baggage_malformed",
    /// The `baggage` header had no room for a member.
    BaggageFull = "baggage_full",
    /// There was no room for an attribute, or its replacement took too much work.
    Dropped = "dropped",
}

/// The counters that one request moves.
pub type Tally = meshtrace_counters::Tally<Counter>;
