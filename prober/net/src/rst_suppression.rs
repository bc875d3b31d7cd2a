//! Keeps the kernel from answering RST on ports from which crafted segments are sent.
//!
//! The kernel has no connection for a crafted SYN, so it answers the SYN+ACK with RST. A *listening* socket bound to the
//! port prevents that: the kernel finds it, and drops the segment before its state machine, because `IP_MINTTL` 255 (IPv6:
//! `IPV6_MINHOPCOUNT`) requires a higher TTL than any routed or bridged packet has (`tcp_v4_rcv`, net/ipv4/tcp_ipv4.c). A
//! listener matches every peer, so an answer from a wrong address is dropped, too. A packet socket captures all of them
//! before that. Where the option is refused, a socket filter that accepts nothing does the same, but some kernels require
//! `CAP_NET_ADMIN` for it.
use std::ffi::c_int;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;

use prober_core::packet::family::Family;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::socket_option;

/// A TTL that no packet has which another host sent with the usual 64 or 128.
const UNREACHABLE_TTL: c_int = 255;

/// How RST is suppressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuppressionMethod {
    /// By a minimum TTL or hop limit of the socket.
    MinimumTtl,
    /// By a socket filter that accepts nothing.
    Filter,
}

/// RST cannot be suppressed.
#[derive(Debug, thiserror::Error)]
pub enum SuppressionError {
    /// Both methods were refused.
    #[error(
        "cannot keep the kernel's RST away from port {port}: a minimum TTL was refused ({ttl}) and so was a socket \
         filter ({filter}); only half-open probes (SYN, SYN+ACK) are possible here with raw packets: use the kernel \
         engine for whole connections"
    )]
    HalfOpenOnly {
        /// The port.
        port: u16,
        /// Why the minimum TTL was refused.
        ttl: io::Error,
        /// Why the filter was refused.
        filter: io::Error,
    },
    /// Too few ports of the range are free.
    #[error(
        "cannot reserve {wanted} {family} ports between {first} and {last}: only {free} are free; \
         give another range or request fewer"
    )]
    TooFew {
        /// The family.
        family: Family,
        /// How many were requested.
        wanted: usize,
        /// How many are free.
        free: usize,
        /// The first port of the range.
        first: u16,
        /// The last port of the range.
        last: u16,
    },
    /// The kernel refused a socket for another reason.
    #[error(
        "cannot reserve {family} port {port}: {source}; is the limit of open files (ulimit -n) reached?"
    )]
    Socket {
        /// The family.
        family: Family,
        /// The port.
        port: u16,
        /// The error of the system call.
        source: io::Error,
    },
}

/// A reserved port on which the kernel answers nothing, as long as this value lives.
#[derive(Debug)]
pub struct SuppressedPort {
    socket: Socket,
    port: u16,
    method: SuppressionMethod,
}

impl SuppressedPort {
    /// Reserves one port on all addresses of a family, and suppresses RST on it; port 0 lets the kernel select one.
    /// `Ok(None)`: the port is in use.
    pub fn reserve(family: Family, port: u16) -> Result<Option<Self>, SuppressionError> {
        Self::reserve_by(
            family,
            port,
            &[SuppressionMethod::MinimumTtl, SuppressionMethod::Filter],
        )
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How RST is suppressed.
    pub fn method(&self) -> SuppressionMethod {
        self.method
    }

    /// As [`SuppressedPort::reserve`], by the first of these methods that is not refused.
    pub fn reserve_by(
        family: Family,
        port: u16,
        methods: &[SuppressionMethod],
    ) -> Result<Option<Self>, SuppressionError> {
        let failed = |source| SuppressionError::Socket {
            family,
            port,
            source,
        };
        let (domain, any) = match family {
            Family::Ipv4 => (Domain::IPV4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            Family::Ipv6 => (Domain::IPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        };
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map_err(failed)?;
        if family == Family::Ipv6 {
            socket.set_only_v6(true).map_err(failed)?;
        }
        // The port is free even if connections of an earlier run are in TIME_WAIT.
        socket.set_reuse_address(true).map_err(failed)?;
        match socket.bind(&SocketAddr::new(any, port).into()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        let port = socket
            .local_addr()
            .map_err(failed)?
            .as_socket()
            .map_or(port, |address| address.port());
        // RST is suppressed before the socket listens, so that no segment is answered in between.
        let method = suppress(&socket, family, methods)
            .map_err(|(ttl, filter)| SuppressionError::HalfOpenOnly { port, ttl, filter })?;
        match socket.listen(1) {
            Ok(()) => Ok(Some(Self {
                socket,
                port,
                method,
            })),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

impl AsFd for SuppressedPort {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn suppress(
    socket: &Socket,
    family: Family,
    methods: &[SuppressionMethod],
) -> Result<SuppressionMethod, (io::Error, io::Error)> {
    let untried = || io::Error::new(io::ErrorKind::Unsupported, "not tried");
    let (mut ttl, mut filter) = (untried(), untried());
    for method in methods {
        match method {
            SuppressionMethod::MinimumTtl => {
                let (level, name) = match family {
                    Family::Ipv4 => (libc::SOL_IP, libc::IP_MINTTL),
                    Family::Ipv6 => (libc::SOL_IPV6, libc::IPV6_MINHOPCOUNT),
                };
                match socket_option::set(socket.as_fd(), level, name, UNREACHABLE_TTL) {
                    Ok(()) => return Ok(*method),
                    Err(error) => ttl = error,
                }
            }
            SuppressionMethod::Filter => {
                #[expect(clippy::cast_possible_truncation, reason = "opcodes are one byte")]
                let keep_nothing = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
                match socket.attach_filter(&[keep_nothing]) {
                    Ok(()) => return Ok(*method),
                    Err(error) => filter = error,
                }
            }
        }
    }
    Err((ttl, filter))
}

/// A set of reserved ports on which RST is suppressed.
#[derive(Debug)]
pub struct SuppressedPorts {
    ports: Vec<SuppressedPort>,
}

impl SuppressedPorts {
    /// Reserves `count` free ports of a range, each for every given family.
    pub fn reserve(
        families: &[Family],
        range: RangeInclusive<u16>,
        count: usize,
    ) -> Result<Self, SuppressionError> {
        let (first, last) = (*range.start(), *range.end());
        let mut ports = Vec::with_capacity(count * families.len());
        let mut found = 0;
        for port in range {
            if found == count {
                break;
            }
            let mut reserved = Vec::with_capacity(families.len());
            for family in families {
                reserved.extend(SuppressedPort::reserve(*family, port)?);
            }
            if reserved.len() == families.len() {
                ports.append(&mut reserved);
                found += 1;
            }
        }
        if found < count {
            let family = families.first().copied().unwrap_or(Family::Ipv4);
            return Err(SuppressionError::TooFew {
                family,
                wanted: count,
                free: found,
                first,
                last,
            });
        }
        Ok(Self { ports })
    }

    /// The ports, each once.
    pub fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.ports.iter().map(SuppressedPort::port).collect();
        ports.dedup();
        ports
    }
}
