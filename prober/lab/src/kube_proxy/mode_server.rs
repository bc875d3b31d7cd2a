//! The answer of a node's kube-proxy to `GET /proxyMode` at its metrics address, by which its mode is known without privileges.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use super::ProxyMode;
use crate::namespace::{CommandError, spawn_in};

/// The port of kube-proxy's metrics address.
const PORT: u16 = 10249;

/// How long a client may take for its request.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Answers in the namespace of a node until the process ends. A node on which the port cannot be opened does not answer.
pub(crate) fn serve(node: &str, mode: ProxyMode) -> Result<(), CommandError> {
    let (bound, is_bound) = mpsc::channel();
    spawn_in(node, move || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT));
        // The receiver is gone if the lab could not be created.
        bound.send(()).ok();
        for client in listener.iter().flat_map(TcpListener::incoming).flatten() {
            // A client that hangs up has no use for the answer.
            answer(client, mode).ok();
        }
    })?;
    // The sender is gone without a message if the thread could not enter the namespace.
    is_bound.recv().ok();
    Ok(())
}

fn answer(mut client: TcpStream, mode: ProxyMode) -> std::io::Result<()> {
    client.set_read_timeout(Some(TIMEOUT))?;
    // The request ends with an empty line; what it requests is known.
    let head = BufReader::new(&client).lines();
    head.map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .for_each(drop);
    write!(
        client,
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{mode}"
    )
}
