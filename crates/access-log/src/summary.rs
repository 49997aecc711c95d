//! What a configuration does, in words.

use crate::access_log_ids::AccessLogIds;

impl AccessLogIds {
    /// What this configuration does, in words. They follow "the filter".
    #[must_use]
    #[inline(never)]
    pub fn summary(&self) -> String {
        let ids = match &self.trace_id_header {
            None => "sets the ids of the trace as filter state for the access log",
            Some(_) => {
                "sets the ids of the trace, from the headers of `ids`, as filter state for the \
                 access log"
            }
        };
        let response = match self.injects_response() {
            true => ", and writes them into the response",
            false => "",
        };
        [ids, response].concat()
    }
}
