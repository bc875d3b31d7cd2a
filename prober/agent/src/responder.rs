//! Answers probes: says who it is and whom it sees, then echoes until the peer closes.
//!
//! Built to survive floods and slow or hostile peers: so many connections at a time, the longest idle
//! one gives way to a new one, and bytes that a peer does not take stay in the kernel: they are peeked
//! into one buffer for all connections, written, and only then consumed.

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

/// Handshakes that the kernel may complete before they are accepted; `net.core.somaxconn` bounds it too.
const BACKLOG: i32 = 4096;
/// A queue of one, which this responder fills itself: every probe then meets a full queue.
const NO_BACKLOG: i32 = 0;
/// Connections at a time.
const MAX_CONNECTIONS: usize = 1024;
/// A connection on which nothing moves for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes that one connection gets echoed.
const MAX_ECHO: u64 = 1 << 20;
/// Bytes echoed at once.
const BUFFER: usize = 64 << 10;

/// All listeners and connections of one agent.
#[derive(Debug)]
pub(crate) struct Responder {
    inner: Rc<Inner>,
    plan: Option<ResponderPlan>,
    listeners: JoinSet<()>,
    /// Listeners whose queue is full for ever, with what fills it.
    stuck: Vec<(Socket, Socket)>,
}

#[derive(Debug)]
struct Inner {
    agent: AgentId,
    nonce: Cell<u64>,
    buffer: RefCell<Vec<u8>>,
    connections: RefCell<Connections>,
}

/// The connections that are open, by number.
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
    /// A responder that listens nowhere yet.
    pub(crate) fn new(agent: AgentId) -> Self {
        Self {
            inner: Rc::new(Inner {
                agent,
                nonce: Cell::new(0),
                buffer: RefCell::new(vec![0; BUFFER]),
                connections: RefCell::default(),
            }),
            plan: None,
            listeners: JoinSet::new(),
            stuck: Vec::new(),
        }
    }

    /// Answers as planned from now on; what is open stays open. Ports that cannot be had are returned.
    ///
    /// To be called within a `LocalSet`.
    pub(crate) async fn apply(&mut self, plan: &ResponderPlan, nonce: u64) -> Vec<ListenError> {
        self.inner.nonce.set(nonce);
        if self.plan.as_ref() == Some(plan) {
            return Vec::new();
        }
        // The old listeners must be gone before the same ports can be bound again.
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
                let own = Socket::new(domain(family), Type::STREAM.nonblocking(), None)?;
                // In progress is as good as done on loopback; without loopback the first probe takes the place.
                drop(own.connect(&SocketAddr::new(loopback(family), port).into()));
                self.stuck.push((listener, own));
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
            inner.take(stream, peer);
        } else {
            // Out of descriptors or memory: give one back, and let others run before the next try.
            inner.connections.borrow_mut().evict();
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Inner {
    fn take(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let mut connections = self.connections.borrow_mut();
        if connections.open.len() >= MAX_CONNECTIONS {
            connections.evict();
        }
        let number = connections.next;
        connections.next += 1;
        let inner = Rc::clone(self);
        let task = tokio::task::spawn_local(async move {
            // A peer that breaks off is nobody's error.
            drop(inner.talk(&stream, peer, number).await);
            inner.connections.borrow_mut().open.remove(&number);
        });
        let connection = Connection {
            active: Instant::now(),
            task: task.abort_handle(),
        };
        connections.open.insert(number, connection);
    }

    async fn talk(&self, stream: &TcpStream, peer: SocketAddr, number: u64) -> io::Result<()> {
        let banner = Banner {
            nonce: self.nonce.get(),
            pod: self.agent.pod.clone(),
            node: self.agent.node.clone(),
            peer,
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

    /// Waits until there is something to echo, peeks it into the buffer, and says how much; 0 at the end.
    async fn arrived(&self, stream: &TcpStream) -> io::Result<usize> {
        std::future::poll_fn(|context| {
            let mut buffer = self.buffer.borrow_mut();
            stream.poll_peek(context, &mut ReadBuf::new(&mut buffer))
        })
        .await
    }

    /// Writes what was peeked just now, and consumes as much as the kernel took.
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

    /// Ends the connection that has been idle for longest.
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
