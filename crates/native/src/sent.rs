//! The authority that an attempt was sent with.
//!
//! A route with `auto_host_rewrite` takes it from the endpoint. Envoy rewrites the header when the
//! attempt has its connection, which is after the injection, and shows a tracer no header later. The
//! header stays as it is until the next attempt. So the injection of an attempt shows what the
//! attempt before it was sent with, and the tag `http.url` of the request shows that of the last one.

use core::cell::{Cell, Ref, RefCell};

use crate::fate::Attempts;

/// What is known of the authorities that the attempts of one request were sent with.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// The authority that was seen last.
    seen: RefCell<Vec<u8>>,
    /// Whether the end of the request showed another one than the injections.
    is_rewritten: Cell<bool>,
    /// Whether it cannot be told whose the rewritten authority is.
    is_unknown: Cell<bool>,
}

impl Sent {
    /// The `authority` is seen as the headers leave for an attempt, beside which others are open or
    /// not. Returns whether it is what the attempt before this one was sent with in place of what
    /// was seen then.
    pub(crate) fn inject(&self, authority: &[u8], has_others: bool) -> bool {
        let Ok(mut seen) = self.seen.try_borrow_mut() else {
            return false;
        };
        if *seen == authority {
            return false;
        }
        let is_rewritten = !seen.is_empty();
        seen.clear();
        seen.extend_from_slice(authority);
        if is_rewritten && has_others {
            self.is_unknown.set(true);
        }
        is_rewritten && !has_others
    }

    /// The request ends with this URL. `is_beginning` tells whether a path is the beginning of the
    /// target of the request as it came in.
    pub(crate) fn end(
        &self,
        url: &[u8],
        attempts: &Attempts,
        is_beginning: impl FnOnce(&[u8]) -> bool,
    ) {
        let Ok(mut seen) = self.seen.try_borrow_mut() else {
            return;
        };
        // Without an attempt nothing was sent.
        if seen.is_empty() {
            return;
        }
        let Some((authority, path)) = parts_of(url).filter(|(authority, _)| *seen != *authority)
        else {
            return;
        };
        // Envoy writes the path as it came in, or its beginning. Another one is that of a redirect
        // which Envoy follows: it has the authority of the next request.
        if path.is_empty() || !is_beginning(path) {
            return;
        }
        seen.clear();
        seen.extend_from_slice(authority);
        self.is_rewritten.set(true);
        if attempts.open.get() > 1 {
            self.is_unknown.set(true);
        }
    }

    /// The authority that the last attempt was sent with, where it is another one than the injection
    /// showed.
    pub(crate) fn rewritten(&self) -> Option<Ref<'_, Vec<u8>>> {
        let seen = self.seen.try_borrow().ok()?;
        self.is_rewritten.get().then_some(seen)
    }

    /// Whether it cannot be told what an attempt was sent with. `is_redirect` is whether the answer
    /// may be one that Envoy follows: then the request may have ended with the next request's URL.
    pub(crate) fn is_unknown(&self, is_redirect: bool) -> bool {
        self.is_unknown.get() || is_redirect && self.is_rewritten.get()
    }

    /// Clears the content. Returns the memory that it holds, in bytes.
    pub(crate) fn clear(&mut self) -> usize {
        self.seen.get_mut().clear();
        self.is_rewritten.set(false);
        self.is_unknown.set(false);
        self.seen.get_mut().capacity()
    }
}

/// The authority and the path of a URL.
fn parts_of(url: &[u8]) -> Option<(&[u8], &[u8])> {
    let scheme = url.iter().position(|byte| *byte == b':')?;
    let rest = url.get(scheme..)?.strip_prefix(b"://")?;
    let end = rest.iter().position(|byte| *byte == b'/');
    rest.split_at_checked(end.unwrap_or(rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sent: &Sent) -> Option<String> {
        sent.rewritten().map(|seen| seen.escape_ascii().to_string())
    }

    #[test]
    fn the_next_attempt_and_the_end_tell_what_was_sent() {
        let sent = Sent::default();
        assert!(!sent.inject(b"shop:80", false));
        assert!(!sent.inject(b"shop:80", false));
        assert!(sent.inject(b"a.host", false), "the one before had this");
        let is_beginning = |path: &[u8]| b"/x?y".starts_with(path);
        sent.end(b"http://a.host/x", &Attempts::default(), is_beginning);
        assert_eq!((told(&sent), sent.is_unknown(false)), (None, false));
        sent.end(b"http://b.host/x", &Attempts::default(), is_beginning);
        assert_eq!(told(&sent).as_deref(), Some("b.host"));
        assert_eq!(
            (sent.is_unknown(false), sent.is_unknown(true)),
            (false, true)
        );
    }

    #[test]
    fn attempts_beside_each_other_hide_whose_authority_it_is() {
        let mut sent = Sent::default();
        sent.inject(b"shop", false);
        assert!(!sent.inject(b"a.host", true));
        assert!(sent.is_unknown(false));
        sent.clear();
        assert!(!sent.is_unknown(true));
        sent.inject(b"shop", true);
        let attempts = Attempts::default();
        attempts.begin();
        attempts.begin();
        sent.end(b"http://a.host/", &attempts, |path| path == b"/");
        assert!(sent.is_unknown(false));
    }

    #[test]
    fn the_url_of_another_path_or_of_no_attempt_tells_nothing() {
        for (seen, url, target) in [
            ("", "http://a/x", "/x"),
            ("shop", "http://other:81/next", "/x"),
            ("shop", "http://other:81", "/x"),
            ("shop", "other/x", "/x"),
            ("shop", "", "/x"),
            ("shop", "http:", "/x"),
            ("shop", "http://other/x", ""),
        ] {
            let sent = Sent::default();
            sent.inject(seen.as_bytes(), false);
            sent.end(url.as_bytes(), &Attempts::default(), |path| {
                target.as_bytes().starts_with(path)
            });
            assert_eq!(told(&sent), None, "{seen} {url} {target}");
            assert!(!sent.is_unknown(true), "{seen} {url} {target}");
        }
    }
}
