//! Requests to a server on loopback, byte by byte.

use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::*;
use crate::page::state::{ControllerView, NodeView, PageState};

/// A server of a state with this many nodes.
async fn served(nodes: usize) -> (SocketAddr, watch::Sender<Reading>) {
    let state = PageState {
        controller: ControllerView {
            leads: true,
            ..ControllerView::default()
        },
        nodes: (0..nodes)
            .map(|node| NodeView {
                name: format!("node-{node}"),
                ..NodeView::default()
            })
            .collect(),
        ..PageState::default()
    };
    let reading = Reading {
        at: wall(),
        version: 7,
        state: Arc::new(state),
    };
    let (sender, receiver) = watch::channel(reading);
    let server = PageServer::bind((Ipv4Addr::LOCALHOST, 0).into()).await;
    let server = server.expect("listen on loopback");
    let address = server.address().expect("it listens");
    tokio::spawn(server.serve(receiver));
    (address, sender)
}

/// The whole response to a request with these lines.
async fn response(address: SocketAddr, lines: &[&str]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let request = format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n"));
    let sent = stream.write_all(request.as_bytes()).await;
    sent.expect("send a request");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("read");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.expect("a response has headers");
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    (head, bytes[end + 4..].to_vec())
}

/// An open stream of updates.
async fn stream(address: SocketAddr) -> (String, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let request = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await.expect("send a request");
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status).await.expect("read");
    (status, reader)
}

/// Reads until a line has `text`.
async fn read_until(reader: &mut BufReader<TcpStream>, text: &str) {
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        let read = reader.read_line(&mut line).await.expect("read");
        assert!(read > 0, "the stream has ended before {text}");
    }
}

#[tokio::test]
async fn only_get_and_head_are_answered() {
    let (address, _sender) = served(3).await;
    for (method, status) in [
        ("GET", "http/1.1 200"),
        ("HEAD", "http/1.1 200"),
        ("POST", "http/1.1 405"),
        ("PUT", "http/1.1 405"),
        ("DELETE", "http/1.1 405"),
        ("OPTIONS", "http/1.1 405"),
    ] {
        let line = format!("{method} / HTTP/1.1");
        let (head, body) = response(address, &[&line, "Host: localhost:1"]).await;
        assert!(head.starts_with(status), "{method}: {head}");
        assert_eq!(body.is_empty(), method != "GET", "{method}");
    }
}

#[tokio::test]
async fn every_answer_has_the_policy() {
    let (address, _sender) = served(3).await;
    for (path, host) in [
        ("/", "127.0.0.1"),
        ("/style.css", "[::1]:8080"),
        ("/script.js", "localhost"),
        ("/api/v1/nodes.json", "localhost"),
        ("/nothing", "localhost"),
        ("/", "evil.example"),
    ] {
        let (line, host) = (format!("GET {path} HTTP/1.1"), format!("Host: {host}"));
        let (head, _) = response(address, &[&line, &host]).await;
        for header in [
            &format!("content-security-policy: {POLICY}"),
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            assert!(head.contains(header), "{path} {host}: {head}");
        }
    }
}

#[tokio::test]
async fn a_page_of_another_name_reads_nothing() {
    let (address, _sender) = served(3).await;
    for host in [
        "Host: evil.example",
        "Host: localhost.evil.example",
        "Host: 127.0.0.1.evil.example:80",
        "Host: 10.0.0.1",
        "X-Forwarded-Host: localhost",
    ] {
        let lines = ["GET /api/v1/nodes.json HTTP/1.1", host];
        let (head, body) = response(address, &lines).await;
        let is_refused = head.starts_with("http/1.1 421") || head.starts_with("http/1.1 400");
        assert!(is_refused, "{host}: {head}");
        assert!(!String::from_utf8_lossy(&body).contains("node-1"), "{host}");
    }
}

#[tokio::test]
async fn a_known_page_is_not_sent_again_and_others_are_compressed() {
    let (address, sender) = served(3).await;
    let get = ["GET / HTTP/1.1", "Host: localhost"];
    let (head, plain) = response(address, &get).await;
    // Headers are read in lower case.
    let tag = (head.lines()).find_map(|line| line.strip_prefix("etag: w/"));
    let tag = format!("If-None-Match: W/{}", tag.expect("it has a tag"));
    let (head, body) = response(address, &[get[0], get[1], &tag]).await;
    assert!(head.starts_with("http/1.1 304"), "{head}");
    assert!(body.is_empty());
    let (head, body) = response(address, &[get[0], get[1], "Accept-Encoding: br, gzip"]).await;
    assert!(
        head.contains("content-encoding: gzip") && body.len() < plain.len() / 2,
        "{head}"
    );
    let (head, _) = response(address, &[get[0], get[1], "Accept-Encoding: gzip;q=0"]).await;
    assert!(!head.contains("content-encoding"), "{head}");
    // Another state is another page.
    sender.send_modify(|reading| {
        reading.version = 8;
        reading.state = Arc::default();
    });
    let (head, _) = response(address, &[get[0], get[1], &tag]).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
}

#[tokio::test]
async fn a_stream_says_at_once_which_version_there_is_and_then_each_new_one() {
    let (address, sender) = served(3).await;
    let (status, mut reader) = stream(address).await;
    assert!(status.contains("200"), "{status}");
    read_until(&mut reader, "data: 7").await;
    sender.send_modify(|reading| reading.version = 8);
    read_until(&mut reader, "data: 8").await;
}

#[tokio::test]
async fn streams_are_bounded_and_a_closed_one_makes_room() {
    let (address, sender) = served(3).await;
    let mut open = Vec::new();
    for _ in 0..STREAMS {
        let (status, reader) = stream(address).await;
        assert!(status.contains("200"), "{status}");
        open.push(reader);
    }
    let (status, _) = stream(address).await;
    assert!(status.contains("503"), "{status}");
    open.pop();
    loop {
        // The server notices a closed stream when it writes to it.
        sender.send_modify(|reading| reading.version += 1);
        let (status, _) = stream(address).await;
        if status.contains("200") {
            break;
        }
    }
}

#[tokio::test]
async fn a_slow_reader_delays_no_other() {
    let (address, sender) = served(5_000).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        let request = b"GET /api/v1/nodes.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.expect("send a request");
        slow.push(stream);
    }
    // This one opens a stream and never reads it.
    slow.push(stream(address).await.1.into_inner());
    for version in 8..12 {
        sender.send_modify(|reading| reading.version = version);
        let (head, _) = response(address, &["GET / HTTP/1.1", "Host: localhost"]).await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
    }
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let address: SocketAddr = address.parse().expect("an address");
        let refused = PageServer::bind(address).await;
        let is_refused = matches!(refused, Err(PageServerError::NotLoopback(_)));
        assert!(is_refused, "{address}");
    }
    let bound = PageServer::bind((Ipv6Addr::LOCALHOST, 0).into()).await;
    drop(bound);
}

#[test]
fn the_script_is_small() {
    assert!(include_str!("../page.js").len() < 3_000);
}
