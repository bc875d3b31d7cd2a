//! The server that answers probes: it sends its identity and the peer's address, then echoes until the peer closes.
//!
//! It survives floods and slow or hostile peers. The number of connections is bounded, and a new one evicts the one that
//! was idle for longest. Bytes that a peer does not read stay in the kernel: they are peeked into one buffer for all
//! connections, written, and consumed only then.

pub(crate) mod listeners;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use prober_core::packet::family::Family;
use prober_core::plan::{AcceptMode, ResponderPlan};
use prober_core::probe::banner::Banner;
use prober_core::topology::AgentId;
use socket2::{Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::responder::listeners::{ListenError, bind, domain};

/// Connections that the kernel completes before they are accepted; `net.core.somaxconn` is another bound.
const BACKLOG: i32 = 4096;
/// A queue of one, which the responder fills itself, so that every probe meets a full queue.
const NO_BACKLOG: i32 = 0;
/// Connections at the same time.
const MAX_CONNECTIONS: usize = 1024;
/// A connection without traffic for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes that are echoed on one connection.
const MAX_ECHO: u64 = 1 << 20;
/// Bytes that are echoed at once.
const BUFFER: usize = 64 << 10;

/// All listeners and connections of one agent.
#[derive(Debug)]
pub(crate) struct Responder {
    inner: Rc<Inner>,
    plan: Option<ResponderPlan>,
    listeners: JoinSet<()>,
    /// Listeners with a full accept queue, each with the connection that fills it.
    stuck: Vec<(Socket, Socket)>,
}

#[derive(Debug)]
struct Inner {
    agent: AgentId,
    /// The addresses of this pod that banners carry.
    addresses: Vec<IpAddr>,
    nonce: Cell<u64>,
    buffer: RefCell<Vec<u8>>,
    connections: RefCell<Connections>,
}

/// The open connections, by number.
#[derive(Debug, Default)]
struct Connections {
    next: u64,
    open: BTreeMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    active: Instant,
    task: AbortHandle,
}

impl Responder {
    /// A responder without listeners, whose banners carry these addresses.
    pub(crate) fn new(agent: AgentId, addresses: Vec<IpAddr>) -> Self {
        Self {
            inner: Rc::new(Inner {
                agent,
                addresses,
                nonce: Cell::new(0),
                buffer: RefCell::new(vec![0; BUFFER]),
                connections: RefCell::default(),
            }),
            plan: None,
            listeners: JoinSet::new(),
            stuck: Vec::new(),
        }
    }

    /// Listens as the plan says; open connections stay open. Returns the ports that cannot be bound.
    ///
    /// Must be called within a `LocalSet`.
    pub(crate) async fn apply(&mut self, plan: &ResponderPlan, nonce: u64) -> Vec<ListenError> {
        self.inner.nonce.set(nonce);
        if self.plan.as_ref() == Some(plan) {
            return Vec::new();
        }
        // The same ports can be bound again only when the old listeners are gone.
        self.listeners.shutdown().await;
        self.stuck.clear();
        self.plan = Some(plan.clone());
        let mut failed = Vec::new();
        for port in plan.ports.iter().copied() {
            for family in [Family::Ipv4, Family::Ipv6] {
                if let Err(source) = self.listen(plan.accept, family, port) {
                    failed.push(ListenError {
                        family,
                        port,
                        source,
                    });
                }
            }
        }
        failed
    }

    fn listen(&mut self, accept: AcceptMode, family: Family, port: u16) -> io::Result<()> {
        let backlog = match accept {
            AcceptMode::Running => BACKLOG,
            AcceptMode::Paused => NO_BACKLOG,
            AcceptMode::Closed => return Ok(()),
        };
        let Some(listener) = bind(family, port, backlog)? else {
            return Ok(());
        };
        match accept {
            AcceptMode::Running => {
                let listener = TcpListener::from_std(listener.into())?;
                let inner = Rc::clone(&self.inner);
                self.listeners.spawn_local(accept_all(inner, listener));
            }
            AcceptMode::Paused => {
                let client = Socket::new(domain(family), Type::STREAM.nonblocking(), None)?;
                // A connection in progress completes on loopback; without loopback the first probe fills the queue.
                drop(client.connect(&SocketAddr::new(loopback(family), port).into()));
                self.stuck.push((listener, client));
            }
            AcceptMode::Closed => {}
        }
        Ok(())
    }
}

const fn loopback(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

async fn accept_all(inner: Rc<Inner>, listener: TcpListener) {
    loop {
        if let Ok((stream, peer)) = listener.accept().await {
            inner.accept(stream, peer);
        } else {
            // Out of descriptors or memory: free one, and let other tasks run before the next attempt.
            inner.connections.borrow_mut().evict();
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Inner {
    fn accept(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let mut connections = self.connections.borrow_mut();
        if connections.open.len() >= MAX_CONNECTIONS {
            connections.evict();
        }
        let number = connections.next;
        connections.next += 1;
        let inner = Rc::clone(self);
        let task = tokio::task::spawn_local(async move {
            // A peer may end its connection at any time.
            drop(inner.serve(&stream, peer, number).await);
            inner.connections.borrow_mut().open.remove(&number);
        });
        let connection = Connection {
            active: Instant::now(),
            task: task.abort_handle(),
        };
        connections.open.insert(number, connection);
    }

    async fn serve(&self, stream: &TcpStream, peer: SocketAddr, number: u64) -> io::Result<()> {
        let banner = Banner {
            nonce: self.nonce.get(),
            pod: self.agent.pod.clone(),
            node: self.agent.node.clone(),
            peer,
            addresses: self.addresses.clone(),
        };
        let line = banner.to_line();
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            timeout(IDLE, stream.writable()).await??;
            match stream.try_write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let mut echoed = 0;
        while echoed < MAX_ECHO {
            let moved = match timeout(IDLE, self.arrived(stream)).await?? {
                0 => return Ok(()),
                waiting => self.echo(stream, waiting)?,
            };
            if moved == 0 {
                timeout(IDLE, stream.writable()).await??;
            } else {
                echoed += moved as u64;
                self.connections.borrow_mut().touch(number);
            }
        }
        Ok(())
    }

    /// Waits until there are bytes to echo, peeks them into the buffer, and returns how many; 0 at the end.
    async fn arrived(&self, stream: &TcpStream) -> io::Result<usize> {
        std::future::poll_fn(|context| {
            let mut buffer = self.buffer.borrow_mut();
            stream.poll_peek(context, &mut ReadBuf::new(&mut buffer))
        })
        .await
    }

    /// Writes the bytes that were peeked, and consumes as many as the kernel took.
    fn echo(&self, stream: &TcpStream, peeked: usize) -> io::Result<usize> {
        let mut buffer = self.buffer.borrow_mut();
        let written = match stream.try_write(buffer.get(..peeked).unwrap_or_default()) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        stream.try_read(buffer.get_mut(..written).unwrap_or_default())
    }
}

impl Connections {
    fn touch(&mut self, number: u64) {
        if let Some(connection) = self.open.get_mut(&number) {
            connection.active = Instant::now();
        }
    }

    /// Closes the connection that has been idle for longest.
    fn evict(&mut self) {
        let oldest = self
            .open
            .iter()
            .min_by_key(|(number, connection)| (connection.active, **number))
            .map(|(number, _)| *number);
        if let Some(connection) = oldest.and_then(|number| self.open.remove(&number)) {
            connection.task.abort();
        }
    }
}
