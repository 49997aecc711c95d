//! What a request costs in the released module: blocks of memory, calls of Envoy, and instructions.
//! All of them are counted, so a busy machine does not change them.

#![cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
#![allow(unsafe_code, reason = "this program stands for Envoy")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod host;
mod module;
mod scenario;

use std::process::Command;

use host::Calls;
use module::Module;
use scenario::{SCENARIOS, Scenario};

/// Requests that are not counted: the first ones make the memory that later ones use again.
const WARM_UP: u64 = 1000;
const COUNTED: u64 = 1000;
/// The spans that are sent together.
const BATCH: u64 = 100;

/// Runs `count` requests of a scenario, and has their spans sent. Returns the blocks of memory that
/// the requests took, without those of the export.
fn run(module: &mut Module, scenario: &Scenario, count: u64) -> u64 {
    let mut blocks = 0;
    for _ in 0..count / BATCH {
        host::take_blocks();
        for _ in 0..BATCH {
            module.request(scenario);
        }
        blocks += host::take_blocks();
        module.export();
    }
    blocks
}

#[test]
fn no_request_takes_memory() {
    for scenario in &SCENARIOS {
        let mut module = Module::load(&scenario.config());
        assert!(
            run(&mut module, scenario, WARM_UP) > 0,
            "blocks are counted"
        );
        let blocks = run(&mut module, scenario, COUNTED);
        assert_eq!(blocks, 0, "{}", scenario.name);
    }
}

#[test]
fn a_request_asks_envoy_for_what_its_configuration_needs() {
    for scenario in &SCENARIOS {
        let mut module = Module::load(&scenario.config());
        run(&mut module, scenario, WARM_UP);
        host::take_calls();
        run(&mut module, scenario, COUNTED);
        let calls = host::take_calls();
        let of_each = |calls: u64| (calls + COUNTED / 2) / COUNTED;
        let of_each = Calls {
            get: of_each(calls.get),
            set: of_each(calls.set),
            remove: of_each(calls.remove),
            count: of_each(calls.count),
        };
        assert_eq!(of_each, scenario.calls, "{}", scenario.name);
    }
}

/// The name of the variable that tells [`runs_a_scenario`] which one.
const SCENARIO: &str = "MESHTRACE_SCENARIO";

#[test]
#[ignore = "the next test runs it in a process of its own"]
fn runs_a_scenario() {
    let name = std::env::var(SCENARIO).unwrap_or_default();
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let scenario = scenario.expect("the name of a scenario");
    let mut module = Module::load(&scenario.config());
    run(&mut module, scenario, BATCH);
    meshtrace_counts_from_here();
    run(&mut module, scenario, COUNTED);
}

/// What was counted before this call does not count: a worker compiles the configuration with its
/// first request.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn meshtrace_counts_from_here() {}

/// The instructions of the hooks of one request, without those of Envoy's functions.
fn instructions(scenario: &Scenario) -> u64 {
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--zero-before=meshtrace_counts_from_here",
            "--toggle-collect=envoy_dynamic_module_on_tracer_s*",
            "--toggle-collect=envoy_dynamic_module_callback_*",
        ])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "--ignored", "runs_a_scenario"])
        .env(SCENARIO, scenario.name)
        .output()
        .expect("valgrind, from the Debian package valgrind");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let collected = text.lines().find_map(|line| {
        let (_, number) = line.split_once("Collected :")?;
        number.trim().parse::<u64>().ok()
    });
    collected.expect("the number of instructions") / COUNTED
}

/// Other compilers make other instructions of the same source. So the numbers are recorded anew
/// where this test fails after a change that is meant.
#[test]
fn a_request_takes_the_recorded_number_of_instructions() {
    let measured = SCENARIOS.each_ref().map(instructions);
    let is_near = |(scenario, measured): (&Scenario, &u64)| {
        measured.abs_diff(scenario.instructions) * 100 <= scenario.instructions * 2
    };
    let all = || SCENARIOS.iter().zip(&measured);
    let list = all().map(|(scenario, measured)| {
        format!(
            "{}: recorded {}, measured {measured}",
            scenario.name, scenario.instructions
        )
    });
    let list: Vec<_> = list.collect();
    assert!(all().all(is_near), "{list:#?}");
    let of = |name| {
        let found = all().find(|(scenario, _)| scenario.name == name);
        *found.expect("a scenario").1
    };
    // The rules are searched by one pass over the path, however many there are.
    let (ten, thousand) = (of("root, 10 rules"), of("root, 1,000 rules"));
    assert!(thousand * 100 <= ten * 102, "{ten} {thousand}");
}
