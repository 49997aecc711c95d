# Every target sets up what it needs, on a machine with cargo, Python 3 with pip, and Debian's apt (root or sudo).
# What is fetched or built once goes to MESHTRACE_CACHE (default ~/.cache/meshtrace). The work is in .make/.

# The pure crates: those with tests for Wasm.
PURE_CRATES := $(shell sed -n 's/^name = "\(meshtrace-.*\)"/\1/p' $$(grep -ls '^wasm-bindgen-test' crates/*/Cargo.toml) /dev/null)
FIXTURES := $(patsubst %/Cargo.toml,%,$(wildcard test-envoy/fixtures/*/Cargo.toml))
SHELL_TESTS := $(wildcard .make/tests/*.sh)

# Where `make push` pushes to, and under which tag: without one, under each filter's version.
REGISTRY ?=
TAG ?=
VERSION ?=

.PHONY: help build test test-mesh lint long bench demo docs images push manifests release faults clean shell-tests fixtures \
	test-wasm registry version

# The steps share downloads and target folders; cargo uses all cores by itself.
.NOTPARALLEL:

help:
	@echo 'make demo    applications and tracing Envoys that speak different formats: one request, joined'
	@echo '             JAEGER=1: its traces in a Jaeger too, which is compiled once; JAEGER=HOST: in the one that runs there'
	@echo 'make build   the filters and the native tracer, released, and the schemas of their configurations: dist/'
	@echo '             PROCESSORS=x86_64 or aarch64: the native tracer for one of them; by default for both'
	@echo 'make images  an OCI image layout for each filter and the native tracer, and its SBOM: dist/oci/'
	@echo 'make push    the images to REGISTRY=host:port/namespace [TAG=...], and the digests to pin'
	@echo 'make manifests  istio-manifests/ with REGISTRY=host:port/namespace and the digests of the images: dist/manifests/'
	@echo 'make release VERSION=0.1.0  all that a user installs, with checksums and bills of materials: dist/release/'
	@echo 'make docs    the pages as a site with a search: dist/docs/'
	@echo 'make test    build, then all tests that need only cargo, pip and Debian packages'
	@echo 'make test-mesh  the tests with Istio, the Collector and func-e, which need Go; STRICT=1: without Go it fails'
	@echo 'make lint    format, clippy, licences, advisories'
	@echo 'make bench   what a request costs, and our formats beside the published propagators: a table, dist/bench.json'
	@echo 'make long    the property and statistical tests with a million cases each, full load, and fuzzing (half an hour)'
	@echo 'make faults  docs/faults.md anew, from the tests that make test ran'
	@echo 'make clean   removes target/ and dist/; the downloads in ~/.cache/meshtrace stay'

build:
	@.make/build-filters.sh

test: build shell-tests fixtures test-wasm
	@.make/test.sh

test-mesh: images
	@.make/test-mesh.sh

lint:
	@.make/lint.sh

long: build
	@.make/long.sh

bench: build fixtures
	@.make/bench.sh

# The other processor's module takes minutes that nobody waits for here.
demo: export PROCESSORS := $(shell uname -m | sed s/arm64/aarch64/)
demo: build
	@.make/demo.sh

images: build
	@.make/images.sh

# What is missing is said before the minutes of a build.
push: registry images
	@.make/push.sh '$(REGISTRY)' '$(TAG)'

manifests: registry images
	@python3 .make/manifests.py '$(REGISTRY)' dist/oci dist/manifests $(TAG)

registry:
	@$(if $(REGISTRY),,$(error which registry? make $(MAKECMDGOALS) REGISTRY=host:port/namespace))

release: version images
	@REGISTRY='$(REGISTRY)' .make/release.sh '$(VERSION)'

version:
	@.make/release.sh --may '$(VERSION)'

docs:
	@.make/docs.sh

faults:
	@python3 .make/faults.py --write

clean:
	rm -rf target dist

shell-tests:
	@set -e; for test in $(SHELL_TESTS); do $$test; done

fixtures:
	@$(if $(FIXTURES),.make/build-fixture.sh $(FIXTURES))
	@.make/build-provoked.sh

test-wasm:
	@$(if $(PURE_CRATES),.make/test-wasm.sh $(PURE_CRATES))
