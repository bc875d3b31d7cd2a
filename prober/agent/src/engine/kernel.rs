//! The kernel engine: connect(), the banner and an echo, as an application would use them.
//!
//! The source port is bound first, so that the packets of the connection can be recognised before the first one is sent.
//! The result of connect() is the outcome only where packets cannot be captured (tier T0).

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::errno::Errno;
use prober_core::packet::Unreachable;
use prober_core::probe::banner::Banner;
use prober_core::probe::banner::LONGEST_LINE;
use prober_core::probe::handshake::pattern;
use prober_core::probe::outcome::{Echo, Exchange, Outcome};
use prober_core::time::nanos;
use prober_net::tcp_info;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Source ports of kernel probes: outside the default of `net.ipv4.ip_local_port_range` (32768 to 60999).
pub(crate) const CONNECT_PORTS: RangeInclusive<u16> = 61000..=62999;
/// Ports that are tried for one probe without those in TIME_WAIT, and then again with them.
const MAX_PORTS_TRIED: u32 = 64;
/// An exchange ends so much before the deadline, so that its end is known to the packet thread in time.
const EXCHANGE_MARGIN: Duration = Duration::from_millis(50);
/// The period of the bytes that are echoed (see [`pattern`]).
const PATTERN_PERIOD: usize = 251;
/// Bytes that are written at once.
const CHUNK: usize = PATTERN_PERIOD * 64;
/// The bytes that are sent to be echoed.
static PATTERN: [u8; CHUNK] = chunk();

const fn chunk() -> [u8; CHUNK] {
    let mut bytes = [0; CHUNK];
    let mut at: u32 = 0;
    while (at as usize) < CHUNK {
        bytes[at as usize] = pattern(at);
        at += 1;
    }
    bytes
}

/// What to do on an established connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterConnect {
    /// Close it: the target is any server.
    Close,
    /// Read the banner and have bytes echoed.
    Exchange {
        /// How many bytes.
        echo_bytes: u32,
    },
}

/// Makes the connections of all kernel probes of an agent.
#[derive(Debug)]
pub(crate) struct Connector {
    next: Cell<u16>,
    buffer: RefCell<Vec<u8>>,
}

/// A socket that is bound and has sent nothing.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    socket: Socket,
    /// The source that connect() is going to use.
    pub(crate) src: SocketAddr,
    /// The target.
    pub(crate) dst: SocketAddr,
}

/// The result of one connection.
#[derive(Debug)]
pub(crate) struct Connected {
    /// The result of connect().
    pub(crate) outcome: Outcome,
    /// What came of the connection afterwards.
    pub(crate) exchange: Exchange,
    /// How many SYNs the kernel sent.
    pub(crate) syns: u32,
}

/// No socket could be used; that says nothing about the network.
#[derive(Debug, thiserror::Error)]
#[error(
    "no probe was sent: cannot take a source port of {}-{} towards {dst}: {source}; is the limit of open files \
     (ulimit -n) reached, or are there more than {} connections a minute?",
    CONNECT_PORTS.start(), CONNECT_PORTS.end(), CONNECT_PORTS.len()
)]
pub(crate) struct ConnectError {
    dst: SocketAddr,
    source: io::Error,
}

impl Connector {
    /// Starts at the port that `seed` selects, so that agents of one network namespace seldom try the same ports.
    pub(crate) fn new(seed: u64) -> Self {
        let ports = u64::from(CONNECT_PORTS.end() - CONNECT_PORTS.start()) + 1;
        let offset = u16::try_from(seed % ports).unwrap_or_default();
        Self {
            next: Cell::new(CONNECT_PORTS.start() + offset),
            buffer: RefCell::new(vec![0; CHUNK]),
        }
    }

    /// Binds a free source port; one in TIME_WAIT only if many others are in use.
    pub(crate) fn bind(&self, dst: SocketAddr) -> Result<BoundSocket, ConnectError> {
        let failed = |source| ConnectError { dst, source };
        let any = unspecified(dst);
        let socket = Socket::new(
            Domain::for_address(dst),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )
        .map_err(failed)?;
        let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
        for tried in 0..2 * MAX_PORTS_TRIED {
            if tried == MAX_PORTS_TRIED {
                // With SO_REUSEADDR a port in TIME_WAIT can be bound; a connection to another target succeeds from it.
                socket.set_reuse_address(true).map_err(failed)?;
            }
            let port = self.next_port();
            match socket.bind(&SocketAddr::new(any, port).into()) {
                Ok(()) => {
                    let src = SocketAddr::new(source_towards(dst).unwrap_or(any), port);
                    return Ok(BoundSocket { socket, src, dst });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused = error,
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(refused))
    }

    fn next_port(&self) -> u16 {
        let port = self.next.get();
        self.next.set(if port >= *CONNECT_PORTS.end() {
            *CONNECT_PORTS.start()
        } else {
            port + 1
        });
        port
    }

    /// Connects, exchanges and closes. The handshake may take `timeout`, and so may the exchange.
    pub(crate) async fn connect(
        &self,
        bound: BoundSocket,
        after: AfterConnect,
        timeout: Duration,
    ) -> Result<Connected, ConnectError> {
        let dst = bound.dst;
        let failed = |source| ConnectError { dst, source };
        let started = Instant::now();
        match bound.socket.connect(&dst.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                return Err(failed(error));
            }
            Err(error) => {
                let errno = refusal_of(&error);
                return Ok(Connected::failed(Outcome::RefusedLocally { errno }, 0));
            }
        }
        let stream = TcpStream::from_std(bound.socket.into()).map_err(failed)?;
        let connected = match timeout_at(started + timeout, stream.writable()).await {
            Err(_) => Some(Outcome::Timeout),
            Ok(Err(error)) => Some(outcome_of(&error, dst.ip())),
            Ok(Ok(())) => stream
                .take_error()
                .map_err(failed)?
                .map(|error| outcome_of(&error, dst.ip())),
        };
        let syns = 1 + tcp_info::retransmits(stream.as_fd()).unwrap_or_default();
        if let Some(outcome) = connected {
            return Ok(Connected::failed(outcome, syns));
        }
        let took = nanos(started.elapsed());
        let deadline = Instant::now() + timeout.saturating_sub(EXCHANGE_MARGIN);
        let exchange = match after {
            AfterConnect::Close => Exchange::NotTried,
            AfterConnect::Exchange { echo_bytes } => {
                self.exchange(&stream, echo_bytes, deadline).await
            }
        };
        let outcome = Outcome::Established {
            rtt_ns: took,
            connect_ns: took,
        };
        Ok(Connected {
            outcome,
            exchange,
            syns,
        })
    }

    async fn exchange(&self, stream: &TcpStream, echo_bytes: u32, deadline: Instant) -> Exchange {
        let line = match timeout_at(deadline, read_line(stream)).await {
            Err(_) => return Exchange::NoBanner,
            Ok(Err(_)) => return Exchange::Reset,
            Ok(Ok(line)) => line,
        };
        let Ok(banner) = Banner::parse_line(&line) else {
            return Exchange::InvalidBanner;
        };
        let echo = if echo_bytes == 0 {
            Echo::NotTried
        } else {
            self.echo(stream, echo_bytes, deadline).await
        };
        Exchange::BannerReceived { banner, echo }
    }

    /// Sends and receives at the same time, since neither end holds more than its buffers.
    async fn echo(&self, stream: &TcpStream, bytes: u32, deadline: Instant) -> Echo {
        let (sent, received) = (Cell::new(0), Cell::new(0));
        let send = async {
            while sent.get() < bytes {
                stream.writable().await?;
                match stream.try_write(piece(sent.get(), bytes)) {
                    Ok(more) => sent.set(sent.get().saturating_add(count(more))),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let receive = async {
            while received.get() < bytes {
                stream.readable().await?;
                let mut buffer = self.buffer.borrow_mut();
                let expected = piece(received.get(), bytes);
                match stream.try_read(buffer.get_mut(..expected.len()).unwrap_or_default()) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(more) if buffer.get(..more) == expected.get(..more) => {
                        received.set(received.get().saturating_add(count(more)));
                    }
                    Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let both = async { tokio::try_join!(send, receive) };
        match timeout_at(deadline, both).await {
            Ok(Ok(((), ()))) => Echo::Complete { bytes },
            Ok(Err(_)) | Err(_) => Echo::Stalled {
                sent: sent.get(),
                received: received.get(),
            },
        }
    }
}

impl Connected {
    /// Whether closing the connection sent a FIN or a RST, by which the packet thread wakes up.
    pub(crate) const fn is_closed_by_a_segment(&self) -> bool {
        match self.outcome {
            Outcome::Established { .. } => match self.exchange {
                Exchange::NotTried
                | Exchange::NoBanner
                | Exchange::InvalidBanner
                | Exchange::BannerReceived { .. } => true,
                Exchange::Reset => false,
            },
            Outcome::Reset { .. }
            | Outcome::Unreachable { .. }
            | Outcome::RefusedLocally { .. }
            | Outcome::Mismatched { .. }
            | Outcome::Timeout => false,
        }
    }

    const fn failed(outcome: Outcome, syns: u32) -> Self {
        Self {
            outcome,
            exchange: Exchange::NotTried,
            syns,
        }
    }
}

/// The bytes of the pattern from byte `at` of `total` on.
fn piece(at: u32, total: u32) -> &'static [u8] {
    let start = at as usize % PATTERN_PERIOD;
    let end = CHUNK.min(start + (total - at) as usize);
    PATTERN.get(start..end).unwrap_or_default()
}

fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The first line, or the bytes that came before the other end closed.
async fn read_line(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0; 128];
    while !line.ends_with(b"\n") && line.len() < LONGEST_LINE {
        stream.readable().await?;
        match stream.try_read(&mut byte) {
            Ok(0) => break,
            Ok(read) => line.extend_from_slice(byte.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(line)
}

const fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// The source address that the kernel uses for packets to `dst`; connecting a UDP socket sends nothing.
fn source_towards(dst: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(unspecified(dst), 0))?;
    socket.connect(dst)?;
    Ok(socket.local_addr()?.ip())
}

/// The errno of a connect() that failed at once. The kernel has sent nothing then: it looks up a route, and runs programs
/// on connect(2) and security modules, before it sends a SYN; after that, a non-blocking connect() returns `EINPROGRESS`
/// (`tcp_v4_connect`, net/ipv4/tcp_ipv4.c).
fn refusal_of(error: &io::Error) -> prober_core::probe::outcome::Errno {
    use prober_core::probe::outcome::Errno as Refusal;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EHOSTUNREACH) => Refusal::Ehostunreach,
        Some(Errno::ENETUNREACH) => Refusal::Enetunreach,
        Some(Errno::EACCES) => Refusal::Eacces,
        Some(Errno::EPERM) => Refusal::Eperm,
        Some(Errno::ECONNREFUSED) => Refusal::Econnrefused,
        Some(Errno::EINVAL) => Refusal::Einval,
        Some(_) | None => Refusal::Other,
    }
}

/// The outcome by the errno of a connect() that has sent a SYN. It distinguishes little: a RST and an ICMP port-unreachable
/// are the same, and so are an ICMP host-unreachable and a neighbour that does not answer.
fn outcome_of(error: &io::Error, target: IpAddr) -> Outcome {
    let unreachable = |reason| Outcome::Unreachable { by: None, reason };
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED | Errno::ECONNRESET) => Outcome::Reset {
            by: target,
            hop_limit: 0,
        },
        Some(Errno::EHOSTUNREACH) => unreachable(Unreachable::Host),
        Some(Errno::ENETUNREACH) => unreachable(Unreachable::Network),
        Some(Errno::EACCES | Errno::EPERM) => unreachable(Unreachable::Prohibited),
        Some(_) | None => Outcome::Timeout,
    }
}

#[cfg(test)]
mod tests {
    use prober_core::probe::outcome::Errno as Refusal;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_connect_that_the_kernel_refuses_at_once_has_sent_nothing() {
        let connector = Connector::new(7);
        // TCP cannot connect to a multicast address (tcp_v4_connect, net/ipv4/tcp_ipv4.c).
        let bound = connector.bind("224.0.0.1:80".parse().unwrap()).unwrap();
        let timeout = Duration::from_secs(1);
        let connected = connector
            .connect(bound, AfterConnect::Close, timeout)
            .await
            .unwrap();
        let errno = Refusal::Enetunreach;
        assert_eq!(connected.outcome, Outcome::RefusedLocally { errno });
        assert_eq!(connected.syns, 0);
    }

    #[test]
    fn an_errno_after_a_syn_has_no_source_without_packets() {
        let error = io::Error::from_raw_os_error(Errno::EHOSTUNREACH as i32);
        let outcome = outcome_of(&error, "192.0.2.1".parse().unwrap());
        let reason = Unreachable::Host;
        assert_eq!(outcome, Outcome::Unreachable { by: None, reason });
    }
}
