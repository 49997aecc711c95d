#!/usr/bin/env bash
# The Dockerfile installs what the scripts of `make build` ask apt for, no less, and runs make's own targets. It is not
# built: that takes a container engine and images from elsewhere.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

file=${1:-Dockerfile}
# For what is no script of ours: TLS, the commit, make itself.
own='ca-certificates git make'

# The scripts that `make build` runs, from one to the next.
scripts=(build-filters.sh)
for ((at = 0; at < ${#scripts[@]}; at++)); do
    while read -r next; do
        [[ " ${scripts[*]} " == *" $next "* ]] || scripts+=("$next")
    done < <(grep -v '^ *#' ".make/${scripts[at]}" | grep -oE '\.make/[a-z-]+\.sh' | sed 's|.*/||' | sort -u)
done
[[ " ${scripts[*]} " == *' wasm-target.sh '* && " ${scripts[*]} " == *' native-target.sh '* ]] ||
    die "make build no longer runs what this test looks for: ${scripts[*]}"

wanted=$(
    for script in "${scripts[@]}"; do
        sed -n 's/^packages=(\(.*\))$/\1/p' ".make/$script"
        grep -oE 'apt\.sh"? [a-z0-9 -]+' ".make/$script" | sed 's/^apt\.sh"* //' || true
    done | tr ' ' '\n' | grep . | sort -u
)
listed=$(sed -n '/apt-get install/,/&& rm/p' "$file" | sed '1d;$d' | tr -d ' \\' | sort)
missing=$(comm -23 <(printf '%s\n' "$wanted") <(printf '%s\n' "$listed"))
[[ -z $missing ]] || die "$file does not install ${missing//$'\n'/ }, which make build asks for"
useless=$(comm -13 <(printf '%s\n' "$wanted" | cat - <(tr ' ' '\n' <<<"$own") | sort) <(printf '%s\n' "$listed"))
[[ -z $useless ]] || die "$file installs ${useless//$'\n'/ }, which nobody asks for"

# Instructions, one after the other: nothing but these, and no step beside make's and apt's.
joined=$(sed -e '/^#/d' -e ':a' -e '/\\$/N; s/\\\n//; ta' "$file" | grep .)
while read -r instruction rest; do
    case $instruction in
        FROM | WORKDIR | COPY) ;;
        RUN)
            rest=$(sed -E 's/--mount=[^ ]+ *//g; s/ +/ /g' <<<"$rest")
            [[ $rest == apt-get\ update* || $rest =~ ^make\ [a-z-]+$ ]] || die "$file: a step of its own: $rest"
            if [[ $rest =~ ^make\ (.*)$ ]]; then
                grep -q "^${BASH_REMATCH[1]}:" Makefile || die "$file: make has no target ${BASH_REMATCH[1]}"
            fi
            ;;
        *) die "$file: $instruction" ;;
    esac
done <<<"$joined"
grep -q '^RUN .*' <<<"$joined" && grep -q 'make build$' <<<"$joined" || die "$file does not run make build"

# The test itself can fail.
if [[ $# -eq 0 ]]; then
    work=$(mktemp)
    trap 'rm -f "$work"' EXIT
    for change in '/ binaryen /d' 's/ git / git curl /;s/ git curl/ git \\\n        curl/' 's/make build/cargo build/'; do
        sed "$change" Dockerfile >"$work"
        if "$0" "$work" >/dev/null 2>&1; then die "the test accepts: $change"; fi
    done
    step "Dockerfile: $(wc -l <<<"$wanted") packages of make, and its own steps only"
fi
