#!/usr/bin/env bash
# fuzz.sh [target…]: libFuzzer looks for bytes that break a promise of crates/fuzz-targets, FUZZ_SECONDS for each target,
# and six times that for `format` (60, so that all of them take ten minutes). What it finds is in target/fuzz/found/; a seed of that name in
# crates/fuzz-targets/corpus/ keeps it from coming back.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root/crates/fuzz-targets"

seconds_each=${FUZZ_SECONDS:-60}
work=$root/target/fuzz
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
    for program in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$program" .rs)"); done
fi

# libFuzzer itself is C++.
command -v c++ >/dev/null || "$root/.make/apt.sh" g++
PATH=$("$root/.make/cargo-tool.sh" cargo-fuzz 0.13.2 "about a minute"):$PATH
# cargo-fuzz has no --locked.
cargo fetch --quiet --locked --manifest-path fuzz/Cargo.toml
# The crates under test forbid unsafe code, but for the native module: it is fuzzed with AddressSanitizer, which is a
# flag that is not stable yet.
fuzz() {
    local command=$1 target=$2
    shift 2
    if [[ $target == native ]]; then
        RUSTC_BOOTSTRAP=1 cargo fuzz "$command" --fuzz-dir fuzz --sanitizer address --target-dir "$work/address" "$target" "$@"
    else
        cargo fuzz "$command" --fuzz-dir fuzz --sanitizer none --target-dir "$work" "$target" "$@"
    fi
}
step "fuzzing: compiling with libFuzzer's instrumentation (the first time two minutes)"
for target in "${targets[@]}"; do quietly fuzz build "$target"; done

failed=()
for i in "${!targets[@]}"; do
    target=${targets[i]}
    seconds=$seconds_each
    # One target for all formats.
    if [[ $target == format ]]; then seconds=$((6 * seconds_each)); fi
    grown=$work/corpus/$target
    found=$work/found/$target
    log=$work/$target.log
    mkdir -p "$grown" "$found"
    step "fuzzing $target: $((i + 1)) of ${#targets[@]}, $seconds seconds"
    # What a thread of Envoy has stays with it: that is no leak.
    if fuzz run "$target" "$grown" "corpus/$target" -- -max_total_time="$seconds" -detect_leaks=0 \
        -max_len=2048 -timeout=5 -print_final_stats=1 -verbosity=1 -dict=fuzz/headers.dict \
        -artifact_prefix="$found/" >"$log" 2>&1; then
        sed -n 's/^stat::number_of_executed_units: */    executions: /p' "$log" >&2
    else
        failed+=("$target")
        grep -E -A 3 "panicked at|ERROR|Test unit written" "$log" | tail -n 12 >&2 || tail -n 12 "$log" >&2
    fi
done
if [[ ${#failed[@]} -gt 0 ]]; then die "broken: ${failed[*]}; the bytes are in $work/found/"; fi
