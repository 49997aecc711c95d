//! Runs real Envoys for tests of proxy-wasm filters, and records what comes out of them.
