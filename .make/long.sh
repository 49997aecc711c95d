#!/usr/bin/env bash
# long.sh: what is too long for every change.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

step "property tests, 1,000,000 cases each (minutes)"
PROPTEST_CASES=1000000 cargo test --release --locked --package meshtrace-propagation --test round_trips
PROPTEST_CASES=1000000 cargo test --release --locked --package meshtrace-access-log --test any_bytes
PROPTEST_CASES=20000 cargo test --release --locked --package meshtrace-otlp --test export

step "kept shares of 1,000,000 trace ids (a minute with the build)"
cargo test --release --locked --package meshtrace-sampling --test probability -- --include-ignored

step "one worker under full load, on every supported Envoy (half a minute)"
command -v wrk >/dev/null || .make/apt.sh wrk
cargo test --release --locked --package envoy-test-harness --test mesh_tracing throughput:: -- --ignored --nocapture

step "what goes out when Envoy ends, on every supported Envoy (a minute or two)"
cargo test --release --locked --package envoy-test-harness --test mesh_tracing export:: -- --ignored

step "10,000 hostile requests a filter before a strict HTTP/2 upstream (three to ten minutes)"
.make/python-env.sh test-envoy/tests/all_filters/strict/requirements.txt >/dev/null
HOSTILE_REQUESTS_PER_FILTER=10000 cargo test --release --locked --package envoy-test-harness --test all_filters hostile:: -- --nocapture

step "the native tracer with AddressSanitizer, in every Envoy that has it (five minutes)"
.make/build-sanitized.sh
cargo test --release --locked --package envoy-test-harness --test native --no-run
# Without random addresses: the sanitizer would start Envoy again where the address of its memory is taken. Two tests are left
# out: Envoy 1.36 has memory where the sanitizer's must be, and the sanitizer takes the place of a library that counts threads.
MESHTRACE_NATIVE_FOLDER=target/sanitized ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0:abort_on_error=1:handle_segv=0 \
    setarch --addr-no-randomize cargo test --release --locked --package envoy-test-harness --test native -- --include-ignored \
    --skip an_envoy_without_what_the_module_needs --skip only_checked_starts_no_thread

if command -v go >/dev/null; then
    step "the answers of a real Jaeger, which is compiled once"
    JAEGER=1 .make/mesh/jaeger.sh
    step "the access log of pods in a real Loki, which is compiled once"
    LOKI=1 .make/mesh/logs.sh
fi

step "what Istio's pilot-discovery serves, in the Envoys of Istio 1.31 and of the next (five minutes; twenty the first time)"
if command -v go >/dev/null; then DISCOVERY_ENVOYS="1.39.3 1.40.0" .make/mesh/discovery.sh; else step "skipped: no Go on PATH"; fi

if command -v go >/dev/null; then
    step "Envoy Gateway itself, which is compiled once (a minute; ten or more the first time)"
    ENVOY_GATEWAY=1 .make/mesh/envoy-gateway.sh
fi

.make/fuzz.sh
