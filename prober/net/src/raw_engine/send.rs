//! Sends complete IPv4 and IPv6 packets in batches by sendmmsg(2).
//!
//! The sockets have protocol `IPPROTO_RAW`: they take the IP header from this program (raw(7)) and receive nothing. A raw
//! TCP socket used only for sending would receive a copy of all TCP of the namespace until its buffer is full.
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use prober_core::packet::family::Family;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::missing_capability::MissingCapability;
use crate::socket_option;

/// Packets of one system call at most.
const BATCH: usize = 64;
/// The bound of a socket's send queue, bytes; a batch of full-size packets fits.
const SEND_BUFFER: c_int = 1 << 20;

/// Why the kernel did not take a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SendFailure {
    /// The bytes are no IPv4 or IPv6 packet with a whole header.
    NotIp,
    /// This host has no sockets of the packet's family.
    NoFamily(Family),
    /// A local firewall rule dropped it on its way out (EPERM).
    Forbidden,
    /// The send queue or the device's queue is full (ENOBUFS, EAGAIN): try again a little later.
    QueueFull,
    /// The routing table has the host as unreachable (EHOSTUNREACH).
    HostUnreachable,
    /// No route (ENETUNREACH).
    NetworkUnreachable,
    /// Larger than the interface's MTU (EMSGSIZE).
    TooLong,
    /// Another errno.
    Errno(i32),
}

impl SendFailure {
    fn from_errno(errno: i32) -> Self {
        match errno {
            libc::EPERM | libc::EACCES => Self::Forbidden,
            libc::ENOBUFS | libc::EAGAIN => Self::QueueFull,
            libc::EHOSTUNREACH => Self::HostUnreachable,
            libc::ENETUNREACH => Self::NetworkUnreachable,
            libc::EMSGSIZE => Self::TooLong,
            other => Self::Errno(other),
        }
    }
}

/// A packet that was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsent {
    /// Its index in the batch.
    pub index: usize,
    /// The reason.
    pub why: SendFailure,
}

/// Counts of all packets since the sender was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendCounts {
    /// Packets that the kernel took.
    pub sent: u64,
    /// Packets that it did not take, by reason. A packet that found a full queue counts at each attempt.
    pub unsent: BTreeMap<SendFailure, u64>,
}

/// A sender cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A capability is missing.
    #[error(transparent)]
    Refused(#[from] MissingCapability),
    /// The kernel refused for another reason.
    #[error(
        "cannot open a raw socket for {family} packets: {source}; is the limit of open files (ulimit -n) reached?"
    )]
    Open {
        /// The family.
        family: Family,
        /// The error of the system call.
        source: io::Error,
    },
}

/// Sends complete IP packets of both families from the network namespace that it was opened in.
#[derive(Debug)]
pub struct RawSender {
    ipv4: Option<Socket>,
    ipv6: Option<Socket>,
    counts: SendCounts,
}

impl RawSender {
    /// Opens a socket for each family that this kernel has. Needs `CAP_NET_RAW`.
    pub fn open() -> Result<Self, SendError> {
        Ok(Self {
            ipv4: open(Family::Ipv4)?,
            ipv6: open(Family::Ipv6)?,
            counts: SendCounts::default(),
        })
    }

    /// Counts of all packets so far.
    pub fn counts(&self) -> &SendCounts {
        &self.counts
    }

    /// Sends packets in order, each with its IP header. Returns those that the kernel did not take.
    pub fn send<P: AsRef<[u8]>>(&mut self, packets: &[P]) -> Vec<Unsent> {
        let mut unsent = Vec::new();
        let mut start = 0;
        while let Some(first) = packets.get(start) {
            let family = family_of(first.as_ref());
            let run = packets
                .iter()
                .skip(start)
                .take(BATCH)
                .take_while(|packet| family_of(packet.as_ref()) == family);
            let end = start + run.count();
            let taken = match family {
                None => Err(SendFailure::NotIp),
                Some(family) => {
                    let socket = match family {
                        Family::Ipv4 => self.ipv4.as_ref(),
                        Family::Ipv6 => self.ipv6.as_ref(),
                    };
                    let packets = packets.get(start..end).unwrap_or_default();
                    match socket {
                        None => Err(SendFailure::NoFamily(family)),
                        Some(socket) => send_batch(socket.as_fd(), packets).map_err(|error| {
                            SendFailure::from_errno(error.raw_os_error().unwrap_or_default())
                        }),
                    }
                }
            };
            match taken {
                // sendmmsg stops before the first packet that it cannot send; the next call returns its errno.
                Ok(taken) => {
                    self.counts.sent += taken as u64;
                    start += taken.max(1);
                }
                Err(why) => {
                    *self.counts.unsent.entry(why).or_default() += 1;
                    unsent.push(Unsent { index: start, why });
                    start += 1;
                }
            }
        }
        unsent
    }
}

/// The family of a packet with a whole header.
fn family_of(packet: &[u8]) -> Option<Family> {
    match packet.first()? >> 4 {
        4 if packet.len() >= 20 => Some(Family::Ipv4),
        6 if packet.len() >= 40 => Some(Family::Ipv6),
        _ => None,
    }
}

fn destination(packet: &[u8]) -> Option<SockAddr> {
    let address = match family_of(packet)? {
        Family::Ipv4 => {
            let bytes: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(bytes), 0))
        }
        Family::Ipv6 => {
            let bytes: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(bytes), 0, 0, 0))
        }
    };
    Some(SockAddr::from(address))
}

fn open(family: Family) -> Result<Option<Socket>, SendError> {
    let domain = match family {
        Family::Ipv4 => Domain::IPV4,
        Family::Ipv6 => Domain::IPV6,
    };
    let failed = |source: io::Error| match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            MissingCapability::net_raw("open a raw IP socket", source).into()
        }
        _ => SendError::Open { family, source },
    };
    let socket = match Socket::new(
        domain,
        Type::RAW.nonblocking(),
        Some(Protocol::from(libc::IPPROTO_RAW)),
    ) {
        Ok(socket) => socket,
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    socket_option::set(
        socket.as_fd(),
        libc::SOL_SOCKET,
        libc::SO_SNDBUF,
        SEND_BUFFER,
    )
    .map_err(failed)?;
    Ok(Some(socket))
}

/// Sends one batch, and returns how many packets the kernel took; at least one, or the errno of the first.
#[expect(
    unsafe_code,
    reason = "sendmmsg reads headers, addresses and packets through pointers"
)]
fn send_batch<P: AsRef<[u8]>>(socket: BorrowedFd<'_>, packets: &[P]) -> io::Result<usize> {
    let addresses: [Option<SockAddr>; BATCH] = std::array::from_fn(|at| {
        packets
            .get(at)
            .and_then(|packet| destination(packet.as_ref()))
    });
    let mut pieces = [libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }; BATCH];
    // SAFETY: `mmsghdr` is plain integers and pointers, for which all zeroes is a value.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    let mut count = 0;
    for (((packet, address), piece), message) in packets
        .iter()
        .zip(&addresses)
        .zip(&mut pieces)
        .zip(&mut messages)
    {
        let Some(address) = address else { break };
        let bytes = packet.as_ref();
        *piece = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        message.msg_hdr.msg_name = address.as_ptr().cast_mut().cast();
        message.msg_hdr.msg_namelen = address.len();
        message.msg_hdr.msg_iov = piece;
        message.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    loop {
        // SAFETY: the first `count` headers point to live addresses and packets, which the kernel only reads.
        let taken = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT as _,
            )
        };
        if let Ok(taken) = usize::try_from(taken) {
            return Ok(taken);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
