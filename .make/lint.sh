#!/usr/bin/env bash
# lint.sh: format, clippy with warnings denied (natively, and for Wasm where clippy has that target), licences.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

step "format"
cargo fmt --all --check

step "clippy (first time a minute)"
cargo clippy --workspace --all-targets --locked -- -D warnings

names=()
for manifest in filters/*/Cargo.toml; do
    names+=("--package=$(sed -n 's/^name = "\(.*\)"$/\1/p' "$manifest" | head -n 1)")
done
selection=$(.make/wasm-target.sh)
if [[ $selection == *RUSTC=* ]]; then
    # Clippy reads only a standard library of its own compiler's version.
    step "clippy for wasm32-wasip1: skipped, Debian's toolchain has no clippy"
else
    step "clippy for wasm32-wasip1"
    .make/wasm-cargo.sh clippy --locked --target wasm32-wasip1 "${names[@]}" -- -D warnings
fi

step "the packages for crates.io (first time two minutes)"
cargo package --quiet --offline --allow-dirty --package span-waterfall --package envoy-test-harness

# `make long` alone compiles them, and --locked.
step "the lock file of the fuzzing programs"
cargo metadata --quiet --locked --format-version 1 --manifest-path crates/fuzz-targets/fuzz/Cargo.toml >/dev/null ||
    die "crates/fuzz-targets/fuzz/Cargo.lock is stale: cargo metadata --manifest-path crates/fuzz-targets/fuzz/Cargo.toml writes it anew"

deny=("$(.make/cargo-tool.sh cargo-deny 0.20.2 "about two minutes")/cargo-deny"
    --log-level error --locked --config .cargo-deny.toml)
step "licences, bans, sources"
"${deny[@]}" check licenses bans sources
step "advisories"
if timeout 60 "${deny[@]}" fetch db >/dev/null 2>&1; then
    "${deny[@]}" check --disable-fetch advisories
else
    step "advisories were not checked: their database could not be reached"
fi
