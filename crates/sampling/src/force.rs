//! Keeping a request because its sender knows a secret.

use core::fmt;

use meshtrace_config::ConfigError;
use meshtrace_headers::Headers;
use subtle::ConstantTimeEq;

use crate::config::{ForceConfig, header_name};

/// The header, and the value that it must have.
#[derive(Clone)]
pub(crate) struct Force {
    pub(crate) header: Box<[u8]>,
    /// `None`: it is not in the environment, and nobody is believed.
    secret: Option<Box<[u8]>>,
}

/// What the header of a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forcing {
    /// It is not there.
    Absent,
    /// It has the right value.
    Forced,
    /// It has another one.
    Refused,
    /// There is no right value.
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
        environment: &dyn Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<Self, ConfigError> {
        let variable = &config.value_env;
        if variable.is_empty() || variable.contains(['=', '\0']) {
            return Err(ConfigError::new(
                "value_env",
                format!(
                    "invalid value: string {variable:?}, expected the name of an environment variable"
                ),
            ));
        }
        Ok(Self {
            header: header_name("header", &config.header)?,
            secret: environment(variable)
                .filter(|secret| !secret.is_empty())
                .map(Vec::into_boxed_slice),
        })
    }

    pub(crate) fn of(&self, headers: &Headers<'_>) -> Forcing {
        let mut is_there = false;
        let mut is_right = subtle::Choice::from(0);
        for value in headers.lines(&self.header) {
            is_there = true;
            if let Some(secret) = &self.secret {
                is_right |= secret.ct_eq(value);
            }
        }
        match (is_there, &self.secret) {
            (false, _) => Forcing::Absent,
            (true, None) => Forcing::Off,
            (true, Some(_)) if bool::from(is_right) => Forcing::Forced,
            (true, Some(_)) => Forcing::Refused,
        }
    }
}
