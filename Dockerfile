# Everything that `make build` makes, without Debian on your machine:
#
#     docker build --output dist .
#
# leaves the modules, the native tracer, the command line and the schemas in dist/. With `--target build` it is an image in
# which the other targets of make run too. .make/tests/dockerfile.sh keeps the packages those of make.
FROM docker.io/library/debian:bookworm-slim AS build

# Of the scripts: a compiler with the targets of Wasm and the source of the standard library, its linker, wasm-opt, and Python
# with pip. Beside them: certificates, make, and git, which tells the commit.
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        binaryen \
        cargo-web \
        gcc \
        libc6-dev \
        lld-19 \
        python3 \
        python3-venv \
        rust-web-src \
        rustc-web \
        wasi-libc \
        ca-certificates \
        git \
        make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /meshtrace
COPY . .
# What is fetched and compiled once stays in a cache of the builder, and is in no layer.
RUN --mount=type=cache,target=/root/.cache/meshtrace \
    --mount=type=cache,target=/root/.cargo/registry \
    --mount=type=cache,target=/meshtrace/target \
    make build

FROM scratch
COPY --from=build /meshtrace/dist/ /
