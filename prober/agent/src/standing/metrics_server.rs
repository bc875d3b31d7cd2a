//! `GET /metrics` of a standing agent: a small part of HTTP/1.1 (RFC 9112), one request a connection.
//!
//! Every pod may connect, so everything is bounded: the connections at the same time, the length of a request, and the time
//! of each step.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use prober_core::packet::family::Family;
use prober_core::standing::agent::StandingAgent;
use prober_core::standing::metrics::CONTENT_TYPE;
use prober_net::packet_socket::now;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::clock::SteadyClock;
use crate::engine::events::{EngineEvent, EngineEventSender};
use crate::responder::listeners::{ListenError, bind};

/// Connections of a family at the same time; further ones wait in the kernel.
const MAX_CONNECTIONS: usize = 4;
/// Connections that wait in the kernel.
const BACKLOG: i32 = 16;
/// The longest head of a request, bytes.
const MAX_REQUEST: usize = 8 << 10;
/// The time that a client has to send its request, and to take the response.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers on this port in both families until it is dropped. A port that cannot be bound is reported by a notice.
///
/// Must be run within a `LocalSet`.
pub(super) async fn serve(
    port: u16,
    agent: Rc<RefCell<StandingAgent>>,
    clock: SteadyClock,
    events: EngineEventSender,
) {
    let mut acceptors = JoinSet::new();
    for family in Family::ALL {
        let listener = bind(family, port, BACKLOG).and_then(|listener| {
            let listener = listener.map(|listener| TcpListener::from_std(listener.into()));
            listener.transpose()
        });
        match listener {
            Ok(Some(listener)) => {
                acceptors.spawn_local(accept_all(listener, Rc::clone(&agent), clock));
            }
            Ok(None) => {}
            Err(source) => {
                let refused = ListenError {
                    family,
                    port,
                    source,
                };
                events.send(EngineEvent::Notice(refused.to_string()));
            }
        }
    }
    while acceptors.join_next().await.is_some() {}
}

async fn accept_all(listener: TcpListener, agent: Rc<RefCell<StandingAgent>>, clock: SteadyClock) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut under_way = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors or memory: other tasks run before the next attempt.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let agent = Rc::clone(&agent);
        under_way.spawn_local(async move {
            // A client may end its connection at any time.
            drop(answer(stream, &agent, clock).await);
            drop(place);
        });
        while under_way.try_join_next().is_some() {}
    }
}

async fn answer(
    mut stream: TcpStream,
    agent: &RefCell<StandingAgent>,
    clock: SteadyClock,
) -> io::Result<()> {
    let head = timeout(PATIENCE, read_head(&mut stream)).await??;
    let response = respond(&head, |body| {
        agent.borrow().render_metrics(clock.now(), now(), body)
    });
    timeout(PATIENCE, stream.write_all(response.as_bytes())).await??;
    stream.shutdown().await
}

/// Reads up to the empty line that ends the head of a request.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut buffer).await?;
        if read == 0 || head.len() + read > MAX_REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
    Ok(head)
}

/// The response to a request with this head; `render` writes the metrics.
fn respond(head: &[u8], render: impl FnOnce(&mut String) -> std::fmt::Result) -> String {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let path = target
        .split(|byte| *byte == b'?')
        .next()
        .unwrap_or_default();
    let mut body = String::new();
    let status = match (method, path) {
        (b"GET", b"/metrics") => {
            // Writing to a string does not fail.
            render(&mut body).ok();
            "200 OK"
        }
        (b"GET", _) => {
            body.push_str("only /metrics is here\n");
            "404 Not Found"
        }
        _ => {
            body.push_str("only GET is answered\n");
            "405 Method Not Allowed"
        }
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(head: &str) -> String {
        respond(head.as_bytes(), |body| {
            body.push_str("a 1\n");
            Ok(())
        })
    }

    #[test]
    fn metrics_are_at_one_path_and_read_only() {
        let fine = response("GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(fine.starts_with("HTTP/1.1 200 OK\r\n"), "{fine}");
        assert!(
            fine.contains("\r\nContent-Length: 4\r\n") && fine.ends_with("\r\n\r\na 1\n"),
            "{fine}"
        );
        assert!(response("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(response("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(response("\r\n\r\n").starts_with("HTTP/1.1 405 "));
    }
}
