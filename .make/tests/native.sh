#!/usr/bin/env bash
# The native tracer of each processor that `make build` compiled it for: what its file asks of a machine, and that it
# loads and works: a request with B3 leaves with the caller's trace in W3C and in B3. A processor that is not this
# machine's is qemu's.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=$(.make/python-env.sh .make/native-requirements.txt)
export ZIG_GLOBAL_CACHE_DIR=$cache/zig/global ZIG_LOCAL_CACHE_DIR=$work/zig

# The oldest glibc that it must run on, as zigbuild.sh has it. Envoy's own binaries ask for 2.30, of which the images
# with Ubuntu and the distroless ones have a newer one.
glibc=$(sed -n 's/^glibc=//p' .make/zigbuild.sh)

# symbols <module> <defined|UND>: their names, with versions.
symbols() {
    readelf --wide --dyn-syms "$1" |
        awk -v want="$2" '$1 ~ /^[0-9]+:$/ && $8 != "" && (want == "UND") == ($7 == "UND") { print $5, $8 }'
}

# examine <processor> <module>
examine() {
    local machine needed known newest strangers
    machine=$(readelf --file-header "$2" | sed -n 's/ *Machine: *//p')
    case $1:$machine in
        x86_64:*X86-64 | aarch64:AArch64) ;;
        *) die "$2 is for $machine" ;;
    esac
    # What every glibc brings. Distroless images have no libgcc_s, and no libstdc++.
    known=' libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 ld-linux-x86-64.so.2 ld-linux-aarch64.so.1 '
    for needed in $(readelf --dynamic "$2" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
        [[ $known == *" $needed "* ]] || die "$2 needs $needed"
    done
    if readelf --dynamic "$2" | grep -E 'TEXTREL|RPATH|RUNPATH'; then die "$2: see above"; fi
    if readelf --wide --program-headers "$2" | grep -E 'LOAD .*RWE|GNU_STACK .*E '; then
        die "$2 has memory that can be written and run"
    fi
    newest=$(symbols "$2" UND | grep -o 'GLIBC_[0-9.]*' | sort --version-sort --unique | tail -n 1)
    [[ $(printf '%s\n' "$newest" "GLIBC_$glibc" | sort --version-sort | tail -n 1) == "GLIBC_$glibc" ]] ||
        die "$2 needs $newest, and GLIBC_$glibc is what it is linked for"
    # Whatever is not glibc's may be missing: Envoy's functions are looked up, as not every version has all.
    strangers=$(symbols "$2" UND | grep -v '@' | grep -v '^WEAK ' || true)
    [[ -z $strangers ]] || die "$2 imports $strangers"
    strangers=$(symbols "$2" defined | grep -v ' envoy_dynamic_module_on_' || true)
    [[ -z $strangers ]] || die "$2 exports $strangers"
    symbols "$2" defined | awk '{ print $2 }' | sort >"$work/exports.$1"
    for name in program_init tracer_{config_new,start_span,span_finish,span_reserve_tags} \
        http_filter_config_{new,scheduled,http_callout_done} bootstrap_extension_{config_new,shutdown}; do
        grep -qx "envoy_dynamic_module_on_$name" "$work/exports.$1" || die "$2 does not export $name"
    done
    step "$2: $machine, $newest, $(wc -l <"$work/exports.$1") exports"
}

tried=0
for module in dist/{x86_64,aarch64}/libmeshtrace.so; do
    processor=$(basename "$(dirname "$module")")
    if [[ ! -e $module ]]; then
        step "the native tracer for $processor was skipped by make build, and is not loaded"
        continue
    fi
    examine "$processor" "$module"
    emulator=()
    if [[ $processor != "$(uname -m)" ]]; then
        debian=${processor/aarch64/arm64}
        .make/apt.sh qemu-user "libc6-${debian/x86_64/amd64}-cross"
        emulator=("qemu-$processor" -L "/usr/$processor-linux-gnu")
    fi
    "$python" -m ziglang cc -target "$processor-linux-gnu.2.17" -rdynamic -o "$work/load" .make/tests/native-load.c -ldl
    said=$("${emulator[@]}" "$work/load" "$module") || die "$module: $said"
    for expected in 'ABI v0.1.0' 'without a cluster: refused' 'traceparent: 00-463ac35c9f6413ad48485a3953bb6124-' \
        'x-b3-parentspanid: a2fb4a1d1a96d312' done; do
        [[ $said == *"$expected"* ]] || die "$module: not $expected in: $said"
    done
    tried=$((tried + 1))
done
if [[ $tried -eq 2 ]]; then
    cmp "$work/exports.x86_64" "$work/exports.aarch64" || die "the processors' exports differ"
fi
[[ $tried -gt 0 ]] || die "no native tracer in dist/: run make build"
echo "native.sh: $tried processor(s): ok"
