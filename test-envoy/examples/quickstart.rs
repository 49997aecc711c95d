//! Starts an Envoy before a recording upstream, sends one request, and prints what the upstream
//! saw.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::{Envoy, EnvoyBinary, Error, Upstream};

fn main() -> Result<(), Error> {
    let upstream = Upstream::start()?;
    let manager = HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
    let envoy = Envoy::start(
        &EnvoyBinary::find()?,
        Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("upstream", upstream.address())),
    )?;

    let response = Request::get("/hello?name=you")
        .header("x-bin", b"\xff\xfe")
        .send(envoy.address("ingress")?)?;

    println!("the client got {}", response.status);
    for request in upstream.requests() {
        println!("the upstream saw {} {}", request.method, request.path);
        for (name, value) in &request.headers {
            println!("  {}: {}", name.escape_ascii(), value.escape_ascii());
        }
    }
    Ok(())
}
