//! The answer of a node's kube-proxy to `GET /proxyMode` at its metrics address, by which its mode is known without privileges.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};

use super::ProxyMode;
use crate::namespace::{CommandError, spawn_in};

/// The port of kube-proxy's metrics address.
const PORT: u16 = 10249;

/// How long a client may take for its request.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The metrics address of a kube-proxy that runs; dropped with it.
#[derive(Debug)]
pub(crate) struct ModeServer(Option<TcpListener>);

impl Drop for ModeServer {
    fn drop(&mut self) {
        if let Some(listener) = &self.0 {
            // The thread's accept(2) fails from now on, which ends it.
            shutdown(listener.as_raw_fd(), Shutdown::Both).ok();
        }
    }
}

/// Answers in the namespace of a node. A node on which the port cannot be opened does not answer.
pub(crate) fn serve(node: &str, mode: ProxyMode) -> Result<ModeServer, CommandError> {
    let (bound, is_bound) = mpsc::channel();
    spawn_in(node, move || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).ok();
        let handle = listener
            .as_ref()
            .and_then(|listener| listener.try_clone().ok());
        // The receiver is gone if the lab could not be created.
        bound.send(handle).ok();
        let clients = listener.iter().flat_map(TcpListener::incoming);
        for client in clients.map_while(Result::ok) {
            // A client that hangs up has no use for the answer.
            answer(client, mode).ok();
        }
    })?;
    // The sender is gone without a message if the thread could not enter the namespace.
    Ok(ModeServer(is_bound.recv().ok().flatten()))
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
