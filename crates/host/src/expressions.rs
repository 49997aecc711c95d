//! Expressions (CEL) that Envoy evaluates: several attributes in one call.

use proxy_wasm::types::LogLevel;

use crate::call;
use crate::status::Status;

/// The expressions of one root context, compiled once; `None` where the host refused one.
#[derive(Debug)]
pub(crate) struct Expressions(Vec<Option<Token>>);

/// The token by which Envoy refers to a compiled expression: four bytes.
type Token = Box<[u8]>;

impl Expressions {
    #[inline(never)]
    pub(crate) fn compile(texts: &[String]) -> Self {
        let compile = |text: &String| {
            call::foreign("expr_create", text.as_bytes())
                .inspect_err(|status| {
                    call::log(
                        LogLevel::Info,
                        &format!("{text:?} is not compiled, its parts are asked for: {status}"),
                    );
                })
                .ok()
        };
        Self(texts.iter().map(compile).collect())
    }

    pub(crate) fn is_compiled(&self, place: usize) -> bool {
        matches!(self.0.get(place), Some(Some(_)))
    }

    /// The value of the expression at that place.
    pub(crate) fn evaluate(&self, place: usize) -> Result<Box<[u8]>, Status> {
        match self.0.get(place) {
            Some(Some(token)) => call::foreign("expr_evaluate", token),
            _ => Err(Status::NOT_FOUND),
        }
    }
}

impl Drop for Expressions {
    fn drop(&mut self) {
        for token in self.0.iter().flatten() {
            // Where the host keeps the expression, nothing else can be done.
            let _ = call::foreign("expr_delete", token);
        }
    }
}
