//! Whatever is accepted means what the well-known crates say that it means: `regex-automata` for
//! bytes, `regex-lite` for texts.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

use meshtrace_regex::{Dfa, Exhausted, Memory, Regex, check};
use proptest::prelude::*;
use regex_automata::dfa::{Automaton, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

/// Expressions of every kind of part.
fn expression() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[ab/é_\n1]",
        2 => prop::sample::select(vec![
            ".", r"\d", r"\W", r"\s", "[ab]", "[^a/]", "[0-9_]", "[[:alpha:]/]", "[^[:^digit:]]", "[]-]", "[-a]", r"\n",
            r"\x2F", r"\x{61}", r"\.", "(?s:.)",
        ]).prop_map(str::to_owned),
        1 => prop::sample::select(vec![
            "^", "$", r"\b", r"\B", r"\A", r"\z", "(?m:^)", "(?m:$)", r"\b{start}", r"\b{end}", r"\<", r"\>",
            r"\b{start-half}", r"\b{end-half}",
        ]).prop_map(str::to_owned),
        1 => Just(String::new()),
    ];
    part.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(?:{a}|{b})")),
            1 => inner.clone().prop_map(|a| format!("({a})")),
            1 => inner.clone().prop_map(|a| format!("(?i:{a})")),
            1 => inner.clone().prop_map(|a| format!("(?U:{a})")),
            2 => (inner, prop::sample::select(vec!["*", "+", "?", "*?", "+?", "??", "{2}", "{0,2}", "{1,}?", "{0}"]))
                .prop_map(|(a, many)| format!("(?:{a}){many}")),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    "[abA/é_ \n12]{0,12}"
}

/// The places of the expressions that the whole of `line` fits, by `regex-automata`.
fn expected(patterns: &[&str], line: &[u8]) -> Option<Vec<usize>> {
    let bytes = syntax::Config::new().unicode(false).utf8(false);
    let nfa = thompson::Compiler::new()
        .configure(thompson::Config::new().which_captures(thompson::WhichCaptures::None))
        .syntax(bytes)
        .build_many(patterns)
        .ok()?;
    let config = dense::Config::new().match_kind(MatchKind::All);
    let dfa = dense::Builder::new()
        .configure(config)
        .build_from_nfa(&nfa)
        .ok()?;
    let start = start::Config::new().anchored(Anchored::Yes);
    let mut state = dfa.start_state(&start).unwrap();
    for byte in line {
        state = dfa.next_state(state, *byte);
    }
    let end = dfa.next_eoi_state(state);
    let mut found: Vec<_> = match dfa.is_match_state(end) {
        true => (0..dfa.match_len(end))
            .map(|i| dfa.match_pattern(end, i).as_usize())
            .collect(),
        false => Vec::new(),
    };
    found.sort_unstable();
    Some(found)
}

fn fitting(patterns: &[&str], line: &[u8]) -> Vec<usize> {
    let dfa = Dfa::build(patterns, 1 << 22, &mut 50_000_000).expect("an automaton");
    let end = line
        .iter()
        .fold(dfa.start(), |state, byte| dfa.next(state, *byte));
    let mut found: Vec<_> = dfa.ends(end).iter().collect();
    found.sort_unstable();
    if dfa.is_dead(end) {
        assert!(found.is_empty());
    }
    found
}

/// The places of the groups of a match.
type Found = Vec<Option<(usize, usize)>>;

/// Every match with its groups, one after the other.
fn all_of(pattern: &str, text: &str) -> Vec<Found> {
    let regex = Regex::new(pattern, 10_000).unwrap();
    let (mut memory, mut work) = (Memory::default(), usize::MAX);
    let mut all = Vec::new();
    let mut at = 0;
    while let Some((start, end)) = regex.find(&mut memory, text, at, &mut work).unwrap() {
        all.push(
            (0..regex.groups())
                .map(|group| memory.group(group))
                .collect(),
        );
        if start == end && end == text.len() {
            break;
        }
        at = match start == end {
            true => text.ceil_char_boundary(end + 1),
            false => end,
        };
        if at > text.len() {
            break;
        }
    }
    all
}

fn all_of_lite(pattern: &str, text: &str) -> Option<Vec<Found>> {
    let regex = regex_lite::Regex::new(pattern).ok()?;
    let mut locations = regex.capture_locations();
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(found) = regex.captures_read_at(&mut locations, text, at) {
        all.push(
            (0..locations.len())
                .map(|group| locations.get(group))
                .collect(),
        );
        let (start, end) = (found.start(), found.end());
        if start == end && end == text.len() {
            break;
        }
        at = match start == end {
            true => text.ceil_char_boundary(end + 1),
            false => end,
        };
        if at > text.len() {
            break;
        }
    }
    Some(all)
}

proptest! {
    #[test]
    fn expressions_over_bytes_fit_what_they_fit(
        patterns in prop::collection::vec(expression(), 1..4),
        lines in prop::collection::vec(text(), 1..4),
    ) {
        let patterns: Vec<_> = patterns.iter().map(String::as_str).collect();
        for line in lines {
            if let Some(expected) = expected(&patterns, line.as_bytes()) {
                prop_assert_eq!(fitting(&patterns, line.as_bytes()), expected, "{:?} {:?}", patterns, line);
            }
        }
    }

    #[test]
    fn expressions_are_found_in_texts_with_their_groups(pattern in expression(), text in text()) {
        // There `{0}` takes the groups inside it out of the count.
        prop_assume!(!pattern.contains("{0}"));
        let expected = all_of_lite(&pattern, &text);
        prop_assert_eq!(Some(all_of(&pattern, &text)), expected, "{:?} {:?}", pattern, text);
    }

    /// Any text: what one takes, the other takes.
    #[test]
    fn what_is_no_expression_is_refused(pattern in r"[ab\[\](){}?*+|^$.\\\-:<>P&~0-3,i=!xé]{0,10}") {
        let lite = regex_lite::Regex::new(&pattern);
        let own = Regex::new(&pattern, 100_000);
        prop_assert_eq!(own.is_ok(), lite.is_ok(), "{:?}: {:?} {:?}", pattern, own.err(), lite.err());
    }

    #[test]
    fn bytes_that_are_no_text_are_bytes(line in prop::collection::vec(any::<u8>(), 0..6)) {
        for pattern in [".*", r"[^a]*", r"\xff.*", "(?i)A?é.*", r"\W+", r"[\x80-\xff]+"] {
            prop_assert_eq!(Some(fitting(&[pattern], &line)), expected(&[pattern], &line), "{:?}", pattern);
        }
    }
}

#[test]
fn a_refusal_says_what_to_write() {
    for (pattern, reason) in [
        ("(", "a `(` without its `)`"),
        ("a)", "a `)` without its `(`"),
        ("*", "a repetition of nothing"),
        (
            "a{",
            "expected `{2}`, `{2,}` or `{2,5}`, or `\\{` for the character",
        ),
        ("[a", "a `[` without its `]`"),
        ("[b-a]", "whose end is before its beginning"),
        ("[a&&b]", "sets of classes"),
        ("[a[b]]", "a class inside a class is not supported"),
        ("[é]", "write them as alternatives"),
        (r"\p{L}", "Unicode classes are not supported"),
        (r"(a)\1", "backreferences are not supported"),
        ("(?=a)", "look-around is not supported"),
        ("(?<n>a)(?<n>b)", "two groups of one name"),
        ("(?q)", "a flag that is not known"),
        (r"\q", "an escape that is not known"),
        (r"\xg0", "no hexadecimal number"),
    ] {
        let error = check(pattern).unwrap_err().to_string();
        assert!(error.contains(reason), "{pattern}: {error}");
    }
    let deep = "(".repeat(4096) + &")".repeat(4096);
    assert!(
        check(&deep)
            .unwrap_err()
            .to_string()
            .contains("inside one another")
    );
    assert!(check(&("a".to_owned() + &"*".repeat(4000))).is_err());
}

#[test]
fn what_is_too_large_ends_soon() {
    for pattern in [
        "(((a{1000}){1000}){1000}){1000}",
        "((((){1000}){1000}){1000}){1000}",
        ".*a.{200}",
        "(a?){1000}a{1000}",
    ] {
        let mut steps = 1_000_000;
        assert!(
            Dfa::build(&[pattern], 512 * 1024, &mut steps).is_err(),
            "{pattern}"
        );
    }
    assert!(Regex::new(r"\w{1000}{1000}", 700).is_err());
}

/// Every pattern of one configuration is looked for with the same memory.
#[test]
fn one_memory_is_for_all_expressions() {
    let patterns = ["(a)(b)?", "()()()()(x|y)+", "b", "(?<n>[ab]+)-"];
    let regexes = patterns.map(|pattern| Regex::new(pattern, 100).unwrap());
    let mut shared = Memory::default();
    for regex in &regexes {
        shared.fit(regex).unwrap();
    }
    for text in ["ab-xy", "yy", "", "bab-", "aé"] {
        for (regex, pattern) in regexes.iter().zip(patterns) {
            let mut own = Memory::default();
            let found = regex.find(&mut shared, text, 0, &mut 1_000_000);
            assert_eq!(found, regex.find(&mut own, text, 0, &mut 1_000_000));
            for group in 0..regex.groups() + 2 {
                let groups = (shared.group(group), own.group(group));
                assert_eq!(groups.0, groups.1, "{pattern} {text} {group}");
            }
        }
    }
}

/// A search takes what it says, and ends where it has no more.
#[test]
fn a_search_takes_no_more_work_than_it_may() {
    let regex = Regex::new(&format!("(?:(?:.?){{60}}{}.*X)|a", "()".repeat(60)), 700).unwrap();
    let mut memory = Memory::default();
    let taken = |text: &str, memory: &mut Memory| {
        let mut left = usize::MAX;
        let found = regex.find(memory, text, 0, &mut left);
        assert_eq!(found, Ok(Some((0, 1))));
        usize::MAX - left
    };
    let (short, long) = (
        taken(&"a".repeat(100), &mut memory),
        taken(&"a".repeat(200), &mut memory),
    );
    let per_character = (long - short) / 100;
    assert!((10..700 * 20).contains(&per_character), "{per_character}");
    for (lent, expected) in [
        (long, Ok(Some((0, 1)))),
        (long - 1, Err(Exhausted)),
        (0, Err(Exhausted)),
    ] {
        let mut left = lent;
        let found = regex.find(&mut memory, &"a".repeat(200), 0, &mut left);
        assert_eq!(found, expected, "{lent}");
        assert!(left <= lent);
    }
    let mut left = 10_000;
    let plain = Regex::new("[0-9]+", 700).unwrap();
    let found = plain.find(&mut memory, &"a".repeat(200), 0, &mut left);
    assert_eq!(found, Ok(None));
    let taken = 10_000 - left;
    assert!((200..2_000).contains(&taken), "{taken}");
}
