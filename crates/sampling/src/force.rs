//! Keeps a request whose sender knows a secret.

use core::fmt;

use meshtrace_config::{ConfigError, Environment};
use meshtrace_headers::Headers;
use subtle::ConstantTimeEq;

use crate::config::ForceConfig;
use crate::keys::header_name;

/// The header of `force`, and the value that it must have.
#[derive(Clone)]
pub(crate) struct Force {
    pub(crate) header: Box<[u8]>,
    /// `None`: the secret is not in the environment, and no request is forced.
    secret: Option<Box<[u8]>>,
}

/// The result of checking the header of `force` in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forcing {
    /// The request does not have the header.
    Absent,
    /// The header has the right value.
    Forced,
    /// The header has a wrong value, or several lines.
    Refused,
    /// The header cannot be checked, because the secret is not in the environment.
    Off,
}

impl fmt::Debug for Force {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Force")
            .field("header", &self.header.escape_ascii().to_string())
            .finish_non_exhaustive()
    }
}

impl Force {
    #[inline(never)]
    pub(crate) fn compile(
        config: &ForceConfig,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let variable = &config.value_env;
        if variable.is_empty() || variable.contains(['=', '\0']) {
            return Err(ConfigError::new(
                "value_env",
                // The value of this key may be the secret itself, so it is not quoted.
                "invalid value, expected the name of an environment variable",
            ));
        }
        Ok(Self {
            header: header_name("header", &config.header)?,
            secret: environment(variable)
                .filter(|secret| !secret.is_empty())
                .map(Vec::into_boxed_slice),
        })
    }

    /// Whether the secret is not in the environment.
    pub(crate) fn is_off(&self) -> bool {
        self.secret.is_none()
    }

    pub(crate) fn of(&self, headers: &Headers<'_>) -> Forcing {
        let mut lines = headers.lines(&self.header);
        let Some(value) = lines.next() else {
            return Forcing::Absent;
        };
        let Some(secret) = &self.secret else {
            return Forcing::Off;
        };
        // A request has one guess: where the header has several lines, it is refused.
        let is_only_line = lines.next().is_none();
        match is_only_line && bool::from(secret.ct_eq(value)) {
            true => Forcing::Forced,
            false => Forcing::Refused,
        }
    }
}
