//! `examples/walkthrough`: its gateway, its sidecars and its services, from the files that compose mounts, as processes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use envoy_test_harness::{Envoy, EnvoyBinary, Options, OtlpSink, Span, SpanKind};
use meshtrace_test_support::common;
use meshtrace_test_support::example::set_cluster;
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::page::{self, commands, words};

const FOLDER: &str = "examples/walkthrough";
/// In the order in which they are started: each knows those that it calls.
const SERVICES: [&str; 4] = ["stock", "payments", "orders", "storefront"];

/// A process of the page that is no Envoy; it ends with the test.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that stays this test's until a process listens on it.
fn reserve() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Python and Go set this too, and so may listen where this is only bound.
    socket.set_reuseaddr(true).expect("an option");
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    socket.bind(any).expect("a port");
    socket
}

/// The command line of a proxy in compose.yaml: what stands behind this flag.
fn flag(compose: &Value, service: &str, name: &str) -> String {
    let command = compose["services"][service]["command"].as_array();
    let mut words = command.expect("a command").iter();
    words.find(|word| *word == name).expect("the flag");
    let value = words.next().and_then(Value::as_str);
    value.expect("its value").to_owned()
}

/// Starts the proxy of this file as compose does, with the clusters where they are here.
fn start(
    binary: &EnvoyBinary,
    compose: &Value,
    service: &str,
    clusters: &[(&str, SocketAddr)],
) -> Envoy {
    let file = flag(compose, service, "-c");
    let mut bootstrap = common::yaml(&format!("{FOLDER}/{file}"));
    for (name, address) in clusters {
        set_cluster(&mut bootstrap, name, *address);
    }
    bootstrap["node"] = json!({
        "id": flag(compose, service, "--service-node"),
        "cluster": flag(compose, service, "--service-cluster"),
    });
    let options = Options::new().working_directory(common::root());
    Envoy::start_raw(binary, bootstrap, options).unwrap_or_else(|why| panic!("{service}: {why}"))
}

fn application(compose: &Value, name: &str, port: &TcpSocket, sidecar: SocketAddr) -> Running {
    let address = port.local_addr().expect("its address");
    let variables: BTreeMap<String, String> =
        serde_json::from_value(compose["services"][name]["environment"].clone())
            .expect("its variables");
    let process = Command::new("python3")
        .arg(common::root().join(FOLDER).join("app.py"))
        .envs(variables)
        .env("PORT", address.port().to_string())
        .env("SIDECAR", format!("http://{sidecar}"))
        .stdout(Stdio::null())
        .spawn();
    let process = Running(process.expect("python3"));
    wait_for(address, name);
    process
}

fn wait_for(address: SocketAddr, name: &str) {
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{name}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Each span as service and kind, with its parent's.
fn tree(spans: &[Span]) -> Vec<String> {
    let name = |span: &Span| format!("{} {:?}", span.service, span.kind);
    let parent = |span: &Span| {
        let id = span.parent_span_id.as_ref()?;
        let parent = spans.iter().find(|other| other.span_id == *id);
        Some(parent.map_or_else(|| "nobody here".to_owned(), name))
    };
    let line = |span| match parent(span) {
        Some(parent) => format!("{} of {parent}", name(span)),
        None => name(span),
    };
    let mut lines: Vec<_> = spans.iter().map(line).collect();
    lines.sort();
    lines
}

/// All that compose starts but the collector, Jaeger and Prometheus.
struct System {
    entrance: SocketAddr,
    _proxies: Vec<Envoy>,
    _applications: Vec<Running>,
}

impl System {
    fn start(collector: SocketAddr) -> Self {
        common::module("mesh_tracing");
        let binary = EnvoyBinary::find().expect("an Envoy");
        let compose = common::yaml(&format!("{FOLDER}/compose.yaml"));
        let mut clusters = vec![("collector", collector)];
        let (mut proxies, mut applications) = (Vec::new(), Vec::new());
        for service in SERVICES {
            let port = reserve();
            let own = ("application", port.local_addr().expect("its address"));
            let known: Vec<_> = clusters.iter().copied().chain([own]).collect();
            let sidecar = start(&binary, &compose, &format!("{service}-sidecar"), &known);
            let outbound = sidecar.address("outbound").expect("its address");
            applications.push(application(&compose, service, &port, outbound));
            clusters.push((service, sidecar.address("inbound").expect("its address")));
            proxies.push(sidecar);
        }
        let known: Vec<_> = clusters
            .into_iter()
            .filter(|(name, _)| ["collector", "storefront"].contains(name))
            .collect();
        let gateway = start(&binary, &compose, "gateway", &known);
        let entrance = gateway.address("entrance").expect("its address");
        proxies.push(gateway);
        Self {
            entrance,
            _proxies: proxies,
            _applications: applications,
        }
    }

    /// Sends the request of a command of the page, and compares its answer.
    fn ask(&self, command: &page::Command, status: u16) {
        let mut request = None;
        let mut headers = Vec::new();
        let line = words(&command.line);
        for pair in line.windows(2) {
            match pair[0].as_str() {
                "-H" => headers.push(pair[1].split_once(": ").expect("a header")),
                _ if pair[1].starts_with("localhost:10000/") => request = pair[1].split_once('/'),
                _ => {}
            }
        }
        let path = format!("/{}", request.expect("a path").1);
        let request = envoy_test_harness::client::Request::get(&path);
        let request = headers.into_iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        let response = request.send(self.entrance).expect("a response");
        assert_eq!(response.text(), command.output, "{}", command.line);
        assert_eq!(response.status, status, "{}", command.line);
    }
}

/// The page's two commands: one that every service answers, and one that fails.
fn page() -> [page::Command; 2] {
    let page = commands(&common::text(&format!("{FOLDER}/README.md")));
    page.try_into().unwrap_or_else(|page| panic!("{page:#?}"))
}

/// The spans of one request.
const EXPECTED: [&str; 9] = [
    "gateway Client of gateway Server",
    "gateway Server",
    "orders Client of orders Server",
    "orders Server of storefront Client",
    "payments Server of storefront Client",
    "stock Server of orders Client",
    "storefront Client of storefront Server",
    "storefront Client of storefront Server",
    "storefront Server of gateway Client",
];

#[test]
fn one_request_through_five_proxies_and_four_services_is_one_trace() {
    let sink = OtlpSink::start().expect("a collector");
    let system = System::start(sink.http_addr());
    for (command, status) in page().iter().zip([200, 502]) {
        sink.clear();
        system.ask(command, status);
        let spans = sink.wait_for_spans(EXPECTED.len()).expect("the spans");
        assert_eq!(tree(&spans), EXPECTED, "{}", command.line);
        assert!(spans.iter().all(|span| span.trace_id == spans[0].trace_id));
        let failed = spans.iter().filter(|span| span.status_error).count();
        // What the Collector's policy `failed` looks for.
        assert_eq!(failed > 0, status != 200, "{spans:#?}");
        let user = |span: &&Span| span.attribute("user.id").is_some();
        let with_user = spans.iter().filter(user).count();
        // The services copy no header but those of the trace: the user is known as far as the first of them.
        assert_eq!(with_user, if status == 200 { 3 } else { 0 }, "{spans:#?}");
        let server = spans.iter().find(|span| span.kind == SpanKind::Server);
        assert!(server.is_some());
    }
}

/// A Jaeger, where there is one.
struct Jaeger {
    query: SocketAddr,
    otlp: SocketAddr,
    _process: Running,
}

impl Jaeger {
    /// `None` where JAEGER_BIN has no program.
    fn start() -> Option<Self> {
        let binary = std::env::var_os("JAEGER_BIN").filter(|path| !path.is_empty())?;
        let [query, grpc, otlp] = [reserve(), reserve(), reserve()];
        let address = |socket: &TcpSocket| socket.local_addr().expect("its address");
        let mut configuration = common::yaml(".make/jaeger/jaeger.yaml");
        configuration["extensions"]["jaeger_query"] = json!({
            "storage": {"traces": "store"},
            "http": {"endpoint": address(&query).to_string()},
            "grpc": {"endpoint": address(&grpc).to_string()},
            "enable_tracing": false,
            "ui": {"assets_path": common::root().join(".make/jaeger/page")},
        });
        // As the Collector of the page sends it.
        let endpoint = json!({"endpoint": address(&otlp).to_string()});
        configuration["receivers"] = json!({"otlp": {"protocols": {"grpc": endpoint}}});
        configuration["service"]["pipelines"]["traces"]["receivers"] = json!(["otlp"]);
        let process = Command::new(binary)
            .arg(format!("--config=yaml:{configuration}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let jaeger = Self {
            query: address(&query),
            otlp: address(&otlp),
            _process: Running(process.expect("a Jaeger")),
        };
        wait_for(jaeger.query, "Jaeger's API");
        wait_for(jaeger.otlp, "Jaeger's receiver");
        Some(jaeger)
    }

    fn ask(&self, path: &str) -> Value {
        let response = envoy_test_harness::client::Request::get(path).send(self.query);
        let text = response.expect("an answer of Jaeger").text();
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        answer["data"].take()
    }

    /// The numbers of spans of the traces that a search finds, by their ids.
    fn traces(&self, search: &str) -> BTreeMap<String, usize> {
        let found = self.ask(&format!("/api/traces?limit=100&lookback=1h&{search}"));
        let traces = found.as_array().into_iter().flatten();
        traces
            .map(|trace| {
                let id = trace["traceID"].as_str().expect("an id");
                (id.to_owned(), trace["spans"].as_array().map_or(0, Vec::len))
            })
            .collect()
    }

    /// What the page's reader finds: the services, every trace that was kept, whole, and which of
    /// them failed.
    fn has(&self, kept: &BTreeMap<String, Vec<Span>>) {
        let expected: BTreeMap<_, _> = kept
            .iter()
            .map(|(id, spans)| (id.clone(), spans.len()))
            .collect();
        let begun = Instant::now();
        while self.traces("service=gateway") != expected {
            let waited = begun.elapsed() < Duration::from_secs(60);
            assert!(
                waited,
                "{:?}, not {expected:?}",
                self.traces("service=gateway")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let services = self.ask("/api/services");
        let mut services: Vec<_> = services.as_array().into_iter().flatten().collect();
        services.sort_by_key(|name| name.as_str());
        let mut known = Vec::from(SERVICES);
        known.push("gateway");
        known.sort_unstable();
        assert_eq!(services, known);
        for service in known {
            assert_eq!(self.traces(&format!("service={service}")), expected);
        }
        let failed: BTreeMap<_, _> = kept
            .iter()
            .filter(|(_, spans)| spans.iter().any(|span| span.status_error))
            .map(|(id, spans)| (id.clone(), spans.len()))
            .collect();
        let search = "service=gateway&tags=%7B%22error%22%3A%22true%22%7D";
        assert_eq!(self.traces(search), failed);
        assert_eq!(failed.len(), 1);
    }
}

/// The Collector of the page, with its tail sampling: what failed comes whole, and of the others a part, each whole. Where
/// there is a Jaeger it is sent the same, and asked.
#[test]
#[ignore = "it takes a Collector, COLLECTOR_BIN: `make test-mesh`"]
fn collector_keeps_what_failed() {
    const OTHERS: usize = 20;
    let sink = OtlpSink::start().expect("a collector");
    let mut configuration = common::yaml(&format!("{FOLDER}/collector.yaml"));
    let (http, grpc) = (reserve(), reserve());
    let address = |socket: &TcpSocket| socket.local_addr().expect("its address");
    for (protocol, socket) in [("http", &http), ("grpc", &grpc)] {
        configuration["receivers"]["otlp"]["protocols"][protocol]["endpoint"] =
            json!(address(socket).to_string());
    }
    let jaeger = Jaeger::start();
    let exporters = &mut configuration["exporters"];
    let mut copy = exporters["otlp_grpc/jaeger"].clone();
    copy["endpoint"] = json!(sink.grpc_addr().to_string());
    exporters["otlp_grpc/sink"] = copy;
    let mut pipeline = vec!["otlp_grpc/sink"];
    if let Some(jaeger) = &jaeger {
        exporters["otlp_grpc/jaeger"]["endpoint"] = json!(jaeger.otlp.to_string());
        pipeline.push("otlp_grpc/jaeger");
    }
    configuration["service"]["pipelines"]["traces"]["exporters"] = json!(pipeline);
    configuration["service"]["telemetry"] = json!({"metrics": {"level": "none"}});
    let binary = std::env::var_os("COLLECTOR_BIN").expect("COLLECTOR_BIN");
    let process = Command::new(binary)
        .arg(format!("--config=yaml:{configuration}"))
        .stderr(Stdio::null())
        .spawn();
    let _collector = Running(process.expect("a Collector"));
    wait_for(address(&http), "the Collector");

    let system = System::start(address(&http));
    let [works, fails] = page();
    for _ in 0..OTHERS {
        system.ask(&works, 200);
    }
    system.ask(&fails, 502);
    let begun = Instant::now();
    // It is decided about last, so that what is kept of the others is here before it.
    let traces = loop {
        let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        for span in sink.spans() {
            traces.entry(span.trace_id.clone()).or_default().push(span);
        }
        if traces.values().flatten().any(|span| span.status_error) {
            break traces;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{traces:#?}");
        std::thread::sleep(Duration::from_millis(100));
    };
    for spans in traces.values() {
        assert_eq!(tree(spans), EXPECTED);
    }
    if let Some(jaeger) = &jaeger {
        jaeger.has(&traces);
    }
    // Two of them on average; three of four happen in no run of a million.
    assert!(traces.len() - 1 < OTHERS * 3 / 4, "{}", traces.len());
}
