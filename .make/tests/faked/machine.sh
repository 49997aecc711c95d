# shellcheck shell=bash
# Sourced by the tests of scripts that look for a toolchain: a machine on which every program that the script asks is a fake.
# $script is what is tested, with the words of $arguments.

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
arguments=()

# fake <name> <body>: a program on PATH that notes its call and then does what the body says.
fake() {
    printf '#!/bin/bash\necho "%s $*" >>"%s/calls"\n%s\n' "$1" "$work" "$2" >"$work/bin/$1"
    chmod +x "$work/bin/$1"
}

run() {
    : >"$work/calls"
    # shellcheck disable=SC2154  # the test sets script
    PATH=$work/bin MESHTRACE_CACHE=$work/cache MESHTRACE_DEBIAN_BIN=$work/debian MESHTRACE_DEBIAN_SOURCE=$work/debian/source \
        bash "$script" "${arguments[@]}" >"$work/stdout" 2>"$work/stderr" && status=0 || status=$?
}

# expect <what> <condition…>
expect() {
    local what=$1
    shift
    if "$@"; then return; fi
    printf 'FAILED: %s\n' "$what" >&2
    sed 's/^/    /' "$work/calls" "$work/stdout" "$work/stderr" >&2
    exit 1
}
called() { grep -q "^$1" "$work/calls"; }
not_called() { ! called "$1"; }
printed() { grep -q -e "$1" "$work/stdout"; }
told() { grep -q -e "$1" "$work/stderr"; }
silent() { [[ ! -s $work/stderr ]]; }
