//! The limits of tags, as data.

use core::fmt;

use crate::{EnvoyVersion, cel};

/// A limit of rendered tags that a user must know. It is displayed as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagLimit {
    /// The attributes also reach the application, as headers.
    HeadersGoOn {
        /// The headers' prefix.
        prefix: String,
    },
    /// A native filter puts the response header into the tag without a change.
    ResponseHeaderAsItIs {
        /// The attribute.
        key: String,
    },
    /// This version has no tag for the attribute.
    NotOnTheSpan {
        /// The attribute.
        key: String,
        /// The version of Envoy.
        version: EnvoyVersion,
    },
    /// The proxy's CLIENT span may end before the response is read.
    ResponseOnServerSpan,
    /// Istio does not merge `customTags`.
    ReplacesTags,
}

impl fmt::Display for TagLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeadersGoOn { prefix } => write!(
                f,
                "The attributes go on to the application in the headers {prefix}*: a tag reads them \
                 when the request is over, so they cannot be removed before."
            ),
            Self::ResponseHeaderAsItIs { key } => write!(
                f,
                "{key} is put on the span by header_to_metadata, as the response has it: it is not \
                 cut and not cleaned."
            ),
            Self::NotOnTheSpan { key, version } => write!(
                f,
                "{key} is not on the span: it is known with the response, and no tag of {version} \
                 reads filter state. Access logs read it ({}).",
                 cel::filter_state(key)
            ),
            Self::ResponseOnServerSpan => f.write_str(
                "What comes from the response is on the SERVER span; it is on the CLIENT span where \
                 the response has a body, as that span ends before any filter sees a response \
                 without one.",
            ),
            Self::ReplacesTags => f.write_str(
                "The customTags replace those that a Telemetry of the root namespace sets, and Istio \
                 takes one Telemetry without a selector a namespace: put them together where you \
                 have one.",
            ),
        }
    }
}
