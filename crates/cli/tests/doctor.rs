//! `meshtrace doctor` as it is run, beside an admin interface that says what a test wants. Real Envoys are in
//! test-envoy/tests/all_filters/doctor.rs.

#![allow(clippy::expect_used, reason = "a test may fail")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meshtrace"))
        .arg("doctor")
        .args(arguments)
        // A proxy of the environment is not asked for an admin interface.
        .env("http_proxy", "http://127.0.0.1:1")
        .output()
        .expect("the command line")
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Serves what `answer` has for a path, in chunks as Envoy does, and counts the requests.
fn serve(answer: impl Fn(&str, usize) -> Option<String> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for (count, stream) in listener.incoming().enumerate() {
            reply(stream.expect("a connection"), |path| answer(path, count));
        }
    });
    format!("http://{address}")
}

fn reply(mut stream: TcpStream, answer: impl Fn(&str) -> Option<String>) {
    let mut lines = BufReader::new(stream.try_clone().expect("a reader")).lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    for line in lines {
        if line.is_ok_and(|line| line.is_empty()) {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let Some(body) = answer(path) else {
        let _ = stream
            .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return;
    };
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let mut text = head.to_owned();
    for part in body.as_bytes().chunks(7) {
        let part = String::from_utf8_lossy(part);
        text.push_str(&format!("{:x}\r\n{part}\r\n", part.len()));
    }
    text.push_str("0\r\n\r\n");
    let _ = stream.write_all(text.as_bytes());
}

const SERVER: &str = r#"{"version": "9e55/1.40.0/Clean/RELEASE/BoringSSL", "state": "LIVE", "uptime_current_epoch": "9s"}"#;
const DUMP: &str =
    r#"{"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump"}]}"#;

/// An Envoy with counters of trace_context that move, and a configuration that does not show the filter.
fn admin(invalid: u8) -> String {
    serve(move |path, count| match path {
        "/server_info" => Some(SERVER.to_owned()),
        "/config_dump" => Some(DUMP.to_owned()),
        "/stats?format=json" => Some(format!(
            r#"{{"stats": [
                {{"name": "wasmcustom.meshtrace.config_invalid", "value": {invalid}}},
                {{"name": "wasmcustom.meshtrace.trace_context.extracted.b3", "value": {count}}},
                {{"histograms": {{}}}}]}}"#
        )),
        _ => None,
    })
}

#[test]
fn all_is_well() {
    let run = doctor(&[&admin(0), "--seconds", "1"]);
    assert_eq!(
        out(&run),
        "Envoy 1.40.0, LIVE, up 9s\nWhat moved in 1 second:\n      +1 \
         meshtrace.trace_context.extracted.b3  The context was taken from `b3`.\n"
    );
    assert_eq!(err(&run), "looking at what moves for 1 second\nall well\n");
    assert_eq!(run.status.code(), Some(0));
}

#[test]
fn findings_name_the_address_and_end_with_1() {
    let admin = admin(1);
    let run = doctor(&[&format!("{admin}/"), "--seconds", "1"]);
    let line = format!("error MT110 {admin}/stats:1:1 meshtrace.config_invalid: ");
    assert!(out(&run).contains(&line), "{}", out(&run));
    assert!(err(&run).ends_with("\n1 error\n"), "{}", err(&run));
    assert_eq!(run.status.code(), Some(1));

    let run = doctor(&[&admin, "--seconds", "1", "--output", "github"]);
    assert!(
        out(&run).starts_with("::error file=http%3A//"),
        "{}",
        out(&run)
    );
    assert_eq!(out(&run).lines().count(), 1, "{}", out(&run));
}

#[test]
fn what_is_no_admin_interface_ends_with_2_and_says_what_to_do() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("its address").to_string()
    };
    let nothing = serve(|_, _| None);
    let page = serve(|_, _| Some("<html>".to_owned()));
    let other = serve(|path, _| (path == "/server_info").then(|| "{}".to_owned()));
    for (url, expected) in [
        (closed.as_str(), "nothing listens there"),
        (&nothing, "is not the admin interface of an Envoy"),
        (&page, "is not the admin interface of an Envoy"),
        (&other, "is not the admin interface of an Envoy"),
        ("https://127.0.0.1:9901", "write http://HOST:PORT"),
        ("http://a b", "write the address as http://HOST:PORT"),
    ] {
        let run = doctor(&[url]);
        assert!(err(&run).contains(expected), "{url}: {}", err(&run));
        assert_eq!(run.status.code(), Some(2), "{url}");
        assert_eq!(out(&run), "", "{url}");
    }
    assert_eq!(
        doctor(&["http://127.0.0.1:1", "--seconds", "0"])
            .status
            .code(),
        Some(2)
    );
}

/// A kubectl that forwards a free port of this machine to `target`, says how it was called, and who it is.
const KUBECTL: &str = r#"#!/usr/bin/env python3
import os, socket, sys, threading
folder, target = os.environ["FAKE_FOLDER"], os.environ["FAKE_TARGET"]
open(folder + "/arguments", "w").write(" ".join(sys.argv[1:]))
open(folder + "/pid", "w").write(str(os.getpid()))
if target == "none":
    sys.exit('warning: an old kubectl\nError from server (NotFound): pods "cart" not found')
host, port = target.split(":")
server = socket.create_server(("127.0.0.1", 0))
print("Forwarding from 127.0.0.1:%d -> 15000" % server.getsockname()[1], flush=True)
def pump(source, sink):
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)
while True:
    client, _ = server.accept()
    print("Handling connection for 15000", flush=True)
    upstream = socket.create_connection((host, int(port)))
    for pair in [(client, upstream), (upstream, client)]:
        threading.Thread(target=pump, args=pair, daemon=True).start()
"#;

fn doctor_with_kubectl(folder: &Path, target: &str, arguments: &[&str]) -> Output {
    let kubectl = folder.join("kubectl");
    fs::write(&kubectl, KUBECTL).expect("a script");
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).expect("its mode");
    let path = std::env::var("PATH").expect("a PATH");
    Command::new(env!("CARGO_BIN_EXE_meshtrace"))
        .arg("doctor")
        .args(arguments)
        .env("PATH", format!("{}:{path}", folder.display()))
        .env("FAKE_FOLDER", folder)
        .env("FAKE_TARGET", target)
        .output()
        .expect("the command line")
}

#[test]
fn a_pod_is_reached_by_kubectl_which_ends_with_the_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let admin = admin(0);
    let target = admin.strip_prefix("http://").expect("an address");
    let arguments = ["--pod", "shop/cart-7", "--seconds", "1"];
    let run = doctor_with_kubectl(folder.path(), target, &arguments);
    assert_eq!(run.status.code(), Some(0), "{}", err(&run));
    assert!(out(&run).starts_with("Envoy 1.40.0"), "{}", out(&run));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("a file");
    assert_eq!(
        read("arguments"),
        "port-forward --address 127.0.0.1 --namespace shop pod/cart-7 :15000"
    );
    let process = Path::new("/proc").join(read("pid"));
    assert!(!process.exists(), "kubectl goes on");

    let gateway = [
        "--pod",
        "gw/deployment/edge",
        "--admin-port",
        "19000",
        "--seconds",
        "1",
    ];
    let run = doctor_with_kubectl(folder.path(), target, &gateway);
    assert_eq!(run.status.code(), Some(0), "{}", err(&run));
    assert!(read("arguments").ends_with("--namespace gw deployment/edge :19000"));
}

#[test]
fn a_pod_that_is_not_reached_ends_with_2_and_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = doctor_with_kubectl(folder.path(), "none", &["--pod", "shop/cart"]);
    assert!(
        err(&run).contains("pods \"cart\" not found"),
        "{}",
        err(&run)
    );
    assert_eq!(run.status.code(), Some(2));

    let without = Command::new(env!("CARGO_BIN_EXE_meshtrace"))
        .args(["doctor", "--pod", "shop/cart"])
        .env("PATH", folder.path().join("empty"))
        .output()
        .expect("the command line");
    assert!(
        err(&without).contains("kubectl is not on PATH"),
        "{}",
        err(&without)
    );
    assert_eq!(without.status.code(), Some(2));

    for arguments in [
        &["--pod", "cart"][..],
        &["http://127.0.0.1:1", "--pod", "shop/cart"],
        &["http://127.0.0.1:1", "--admin-port", "1"],
        &[],
    ] {
        assert_eq!(doctor(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn sampling_is_shown_by_who_decided() {
    let admin = serve(|path, count| match path {
        "/server_info" => Some(SERVER.to_owned()),
        "/config_dump" => Some(DUMP.to_owned()),
        _ => Some(format!(
            r#"{{"stats": [
                {{"name": "wasmcustom.meshtrace.config_invalid", "value": 0}},
                {{"name": "wasmcustom.meshtrace.route_sampling.rule.health.dropped", "value": {count}}},
                {{"name": "dynamicmodulescustom.meshtrace.route_sampling.default.sampled", "value": 1}},
                {{"name": "dynamicmodulescustom.meshtrace.route_sampling.default.dropped", "value": 3}}]}}"#
        )),
    });
    let run = doctor(&[&admin, "--seconds", "1"]);
    assert!(
        out(&run).contains(
            "Sampling in 1 second, and since the start:\n  \
             rule health  0 of 1 kept (0 %); 0 of 3 kept (0 %)\n  \
             default      no decision; 1 of 4 kept (25 %)\n"
        ),
        "{}",
        out(&run)
    );
}
