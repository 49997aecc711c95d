# Every target sets up what it needs, on a machine with cargo, Python 3 with pip, and Debian's apt (root or sudo).
# What is fetched or built once goes to MESHTRACE_CACHE (default ~/.cache/meshtrace). The work is in .make/.

# The pure crates: those with tests for Wasm.
PURE_CRATES := $(shell sed -n 's/^name = "\(.*\)"/\1/p' $$(grep -ls '^wasm-bindgen-test' crates/*/Cargo.toml) /dev/null)
FIXTURES := $(patsubst %/Cargo.toml,%,$(wildcard test-envoy/fixtures/*/Cargo.toml))
SHELL_TESTS := $(wildcard .make/tests/*.sh)

.PHONY: help build test lint long bench demo clean shell-tests fixtures test-wasm

# The steps share downloads and target folders; cargo uses all cores by itself.
.NOTPARALLEL:

help:
	@echo 'make demo    applications and tracing Envoys that speak different formats: one request, joined'
	@echo 'make build   the filters, released: dist/*.wasm'
	@echo 'make test    build, then all tests that need only cargo, pip and Debian packages'
	@echo 'make lint    format, clippy, licences, advisories'
	@echo 'make long    the property tests with a million cases each, and full load (minutes)'
	@echo 'make bench   what a request costs, side by side: a table, and dist/bench.json (minutes)'
	@echo 'make clean   removes target/ and dist/; the downloads in ~/.cache/meshtrace stay'

build:
	@.make/build-filters.sh

test: build shell-tests fixtures test-wasm
	@.make/test.sh

lint:
	@.make/lint.sh

long: build
	@.make/long.sh

bench: build
	@.make/bench.sh

demo: build
	@.make/demo.sh

clean:
	rm -rf target dist

shell-tests:
	@set -e; for test in $(SHELL_TESTS); do $$test; done

fixtures:
	@$(if $(FIXTURES),.make/build-fixture.sh $(FIXTURES))

test-wasm:
	@$(if $(PURE_CRATES),.make/test-wasm.sh $(PURE_CRATES))
