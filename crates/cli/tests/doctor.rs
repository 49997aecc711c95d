//! `meshtrace doctor` as it is run, beside an admin interface that says what a test wants. Real Envoys are in
//! test-envoy/tests/all_filters/doctor.rs.

#![allow(clippy::expect_used, reason = "a test may fail")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
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
