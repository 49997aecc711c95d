//! Runs one request through extract, decide and inject, and shows what leaves.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::expect_used, reason = "only tests call it")]

use bumpalo::Bump;
use meshtrace_headers::{Change, Edits, Headers, encode};
use meshtrace_propagation::{
    Counter, IdGenerator, Peer, Propagation, Tally, TraceContext, TraceContextConfig, TraceDecision,
};

pub(crate) type Lines = Vec<(String, Vec<u8>)>;

/// What a request looks like after the filter, and what the filter made of it.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) lines: Lines,
    pub(crate) edits: usize,
    pub(crate) context: Option<TraceContext>,
    pub(crate) decision: TraceDecision,
    pub(crate) tally: Tally,
}

impl Left {
    /// The value of the only line named `name`.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.lines.iter().filter(|(n, _)| n == name);
        let (_, value) = lines.next()?;
        assert!(
            lines.next().is_none(),
            "{name} left more than once: {self:?}"
        );
        Some(String::from_utf8(value.clone()).expect("what the filter writes is ASCII"))
    }

    /// `name: value` of every line, sorted.
    pub(crate) fn text(&self) -> Vec<String> {
        let mut text: Vec<_> = self
            .lines
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.escape_ascii()))
            .collect();
        text.sort();
        text
    }
}

pub(crate) fn propagation(config: &str) -> Propagation {
    let config: TraceContextConfig =
        meshtrace_config::read(config.as_bytes()).expect("a configuration");
    Propagation::new(&config).expect("a configuration that compiles")
}

pub(crate) fn run(config: &str, sent: &Lines) -> Left {
    run_from(config, sent, Peer::default())
}

pub(crate) fn run_from(config: &str, sent: &Lines, peer: Peer<'_>) -> Left {
    run_to(config, sent, peer, None)
}

/// To the upstream cluster, where the host told which it is.
pub(crate) fn run_to(config: &str, sent: &Lines, peer: Peer<'_>, cluster: Option<&str>) -> Left {
    let propagation = propagation(config);
    let block = encode(sent);
    let headers = Headers::parse(&block).expect("a header block");
    let mut tally = Tally::default();
    let ids = IdGenerator::from_seed([7; 32]);
    let arena = Bump::new();
    let mut edits = Edits::new_in(&arena, 128);

    let incoming = propagation.extract(headers, peer, &mut tally);
    let decision = propagation.decide(&incoming, &ids, &mut tally);
    let policy = propagation.policy_for(&headers, cluster.map(str::as_bytes));
    propagation.join_baggage(&incoming, policy, &arena, &mut edits, &mut tally);
    propagation.inject(
        &incoming,
        &decision.outgoing,
        policy,
        &mut edits,
        &mut tally,
    );
    assert!(!edits.overflowed());

    Left {
        lines: apply(sent, &edits),
        edits: edits.len(),
        context: incoming.context().copied(),
        decision,
        tally,
    }
}

/// The request after `edits`, as a host would leave it.
pub(crate) fn apply(sent: &Lines, edits: &Edits<'_>) -> Lines {
    let mut lines = sent.clone();
    let families = edits.families();
    lines.retain(|(name, _)| {
        !families
            .iter()
            .any(|prefix| name.as_bytes().starts_with(prefix))
    });
    for edit in edits.iter() {
        let name = std::str::from_utf8(edit.name).expect("a header name");
        lines.retain(|(n, _)| n != name);
        if let Change::Replace(value) = &edit.change {
            lines.push((name.to_owned(), value.as_bytes().to_vec()));
        }
    }
    lines
}

pub(crate) const T: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub(crate) const S: &str = "00f067aa0ba902b7";
pub(crate) const T2: &str = "80f198ee56343ba864fe8b2a57d3eff7";
pub(crate) const S2: &str = "e457b5a2e4d86bd1";
pub(crate) const P: &str = "05e3ac9a4f6e3b90";

/// `$T` and its like stand for the ids above.
pub(crate) fn ids(text: &str) -> String {
    text.replace("$T2", T2)
        .replace("$S2", S2)
        .replace("$T", T)
        .replace("$S", S)
        .replace("$P", P)
}

/// `name: value` lines.
pub(crate) fn parse(text: &str) -> Lines {
    let text = ids(text);
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| line.split_once(':').expect("a header line"))
        .map(|(name, value)| (name.to_owned(), value.trim().into()))
        .collect()
}

/// One promise: what comes in, what leaves.
pub(crate) struct Row {
    pub(crate) promise: &'static str,
    pub(crate) config: &'static str,
    pub(crate) sent: &'static str,
    pub(crate) left: &'static str,
    pub(crate) counted: &'static [Counter],
}

#[track_caller]
pub(crate) fn check(rows: &[Row]) {
    for row in rows {
        let left = run(row.config, &parse(row.sent));
        let mut expected: Vec<_> = parse(row.left)
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.escape_ascii()))
            .collect();
        expected.sort();
        assert_eq!(left.text(), expected, "{}", row.promise);
        let counted: Vec<_> = left.tally.iter().collect();
        assert_eq!(counted, row.counted, "{}", row.promise);
    }
}
