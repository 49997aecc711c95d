//! docs/troubleshooting.md has a section for each code, and for nothing else.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use meshtrace_check::Code;

fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/troubleshooting.md");
    fs::read_to_string(page).expect("the page")
}

#[test]
fn every_code_has_a_section_in_its_place() {
    let page = page();
    let mut sections = page.split("\n## ").skip(1);
    for code in Code::ALL {
        let section = sections
            .next()
            .unwrap_or_else(|| panic!("{code} has no section"));
        let head = format!("{code}\n\n**{}** ({})\n", code.title(), code.level());
        assert!(section.starts_with(&head), "{head}{section}");
        for part in ["- Symptom: ", "- Cause: ", "- Cure: "] {
            let count = section.matches(part).count();
            assert_eq!(count, 1, "{code}: {part}");
        }
        assert!(section.trim_end().lines().count() <= 14, "{code}");
    }
    assert_eq!(sections.next(), None);
}

#[test]
fn the_table_of_symptoms_leads_to_every_section() {
    let page = page();
    let known: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let table = page.split("\n## ").next().expect("a head");
    let mut led_to = BTreeSet::new();
    for link in table.split("[MT").skip(1) {
        let (code, rest) = link.split_once("](#").expect("a link");
        let code = format!("MT{code}");
        assert!(known.contains(code.as_str()), "{code}");
        assert!(rest.starts_with(&code.to_lowercase()), "{rest}");
        led_to.insert(code);
    }
    let missing: Vec<_> = known
        .iter()
        .filter(|code| !led_to.contains(**code))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn codes_are_in_order_and_each_once() {
    assert!(Code::ALL.is_sorted_by(|one, other| one.as_str() < other.as_str()));
}
