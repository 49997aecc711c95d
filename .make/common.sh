# shellcheck shell=bash
# Sourced by the other scripts of this folder.

# shellcheck disable=SC2034  # used by the scripts that source this file
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${MESHTRACE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/meshtrace}
# The test harness finds the Envoys there that envoy.sh fetched.
export ENVOY_TEST_CACHE=$cache

# What goes on is told on stderr: stdout carries the answer (a path, export lines).
step() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Runs a command whose output matters only when it fails.
quietly() {
    local log
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        rm -f "$log"
    else
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
}
