#!/usr/bin/env bash
# build-filters.sh: compiles every filter and writes its released form to dist/<name>.wasm, the native tracer beside it,
# and the schemas of their configurations.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

names=()
for manifest in filters/*/Cargo.toml; do
    names+=("$(sed -n 's/^name = "\(.*\)"$/\1/p' "$manifest" | head -n 1)")
done

# Debian's own rustc, which is older, is in the way of its newer one.
needed=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
found=$(rustc --version 2>/dev/null | cut -d' ' -f2) || true
if [[ -n $found && $(printf '%s\n' "$needed" "$found" | sort -V | head -n 1) != "$needed" ]]; then
    die "rustc $found is too old, $needed is needed: run 'rustup update', or on Debian 'sudo apt-get remove rustc cargo', \
after which make installs rustc-web and cargo-web"
fi
# The linker of what cargo compiles for this machine, which rustup does not bring.
command -v cc >/dev/null || .make/apt.sh gcc libc6-dev
command -v wasm-opt >/dev/null || .make/apt.sh binaryen
step "filters for wasm32-wasip1: ${names[*]} (seconds; the first time a minute)"
WASM_STD=small .make/wasm-cargo.sh build --profile wasm --locked --target wasm32-wasip1 "${names[@]/#/--package=}"
step "exports and size: dist/ (seconds)"
cargo build --quiet --locked --package meshtrace-wasm-release
release=${CARGO_TARGET_DIR:-target}/debug/meshtrace-wasm-release

mkdir -p dist
for name in "${names[@]}"; do
    linked=target/wasm/wasm32-wasip1/wasm/$name.wasm
    released=dist/$name.wasm
    if [[ $released -nt $linked && $released -nt $release ]]; then continue; fi
    "$release" "$linked" "$released"
done

# PROCESSORS: some of x86_64 and aarch64; without it both.
# shellcheck disable=SC2086  # several words
.make/build-native.sh ${PROCESSORS:-}

step "the command line: dist/meshtrace (seconds; the first time two minutes)"
cargo build --quiet --locked --profile cli --package meshtrace-cli
cp "${CARGO_TARGET_DIR:-target}/cli/meshtrace" dist/meshtrace.new
mv dist/meshtrace.new dist/meshtrace

step "schemas of their configurations: dist/schema/ (seconds)"
dist/meshtrace schema --all dist/schema
