//! A packet socket: captures the packets of one interface or of all, in both directions, with the kernel's timestamps.
//!
//! It is an `AF_PACKET` socket with a `TPACKET_V3` ring (packet(7), linux/Documentation/networking/packet_mmap.rst). It is
//! opened with protocol 0, given its ring and its filter, and bound only then, so that it never captures an unfiltered
//! packet. Outgoing packets are captured, too: their timestamps are taken a microsecond or two before the driver's.

/// Which packets are captured, as a program for the kernel and as a predicate.
pub mod filter;
mod frame;
mod ring;
mod waker;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;
use prober_core::time::Timestamp;
use socket2::{Domain, Socket, Type};

pub use frame::{ChecksumStatus, Frame, FrameKind, LinkHeader};
pub use waker::Waker;

use crate::missing_capability::MissingCapability;
use crate::packet_socket::filter::CaptureFilter;
use crate::socket_option;
use ring::Ring;

/// Frames that one call of [`PacketSocket::drain`] hands over at most, so that the caller can serve its timers.
const MAX_FRAMES_PER_DRAIN: usize = 4096;

/// The interfaces of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interfaces {
    /// All interfaces of the network namespace: right for a pod. On a node a packet passes several (a pod's veth, the
    /// bridge, the uplink) and is captured on each.
    All,
    /// The interface with this index.
    One(u32),
}

/// What to do where the kernel refuses the filter program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRefusedFilter {
    /// Report it as an error.
    Fail,
    /// Capture every packet and filter it in this program: correct, but under load the ring fills sooner.
    FilterInUserspace,
}

/// The shape of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingShape {
    /// The size of a block, bytes; a multiple of the page size. A packet must fit into one.
    pub block_size: u32,
    /// The number of blocks.
    pub blocks: u32,
    /// The longest time that a packet waits in a block that is not full; at least a millisecond.
    pub block_timeout: Duration,
}

impl RingShape {
    /// Two MiB, for an agent of some ten probes a second: the end of a block wakes it once for all packets of a
    /// handshake. The kernel hands a block over after its timeout even if it is nearly empty, so the number of blocks
    /// decides how long a reader without a processor loses nothing: a second.
    pub const SMALL: Self = Self {
        block_size: 1 << 13,
        blocks: 256,
        block_timeout: Duration::from_millis(4),
    };
    /// 32 MiB, for a hundred thousand probes a second.
    pub const LARGE: Self = Self {
        block_size: 1 << 18,
        blocks: 128,
        block_timeout: Duration::from_millis(1),
    };
}

/// Options of a capture.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// The interfaces.
    pub interfaces: Interfaces,
    /// The packets.
    pub filter: CaptureFilter,
    /// The memory.
    pub ring: RingShape,
    /// What to do without a filter.
    pub on_refused_filter: OnRefusedFilter,
}

/// Packets cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A capability is missing.
    #[error(transparent)]
    Refused(#[from] MissingCapability),
    /// The kernel refused the filter program.
    #[error(
        "cannot attach a filter to the packet socket: {0}; \
         capture without it (filtering in userspace) if the traffic here is light"
    )]
    Filter(#[source] io::Error),
    /// The kernel refused the ring.
    #[error(
        "cannot get a packet ring of {blocks} blocks of {block_size} bytes: {source}; request a smaller one"
    )]
    Ring {
        /// The number of blocks.
        blocks: u32,
        /// The size of a block, bytes.
        block_size: u32,
        /// The error of the system call.
        source: io::Error,
    },
    /// The socket cannot be bound to its interface.
    #[error(
        "cannot capture on {interfaces:?}: {source}; does the interface exist in this network namespace?"
    )]
    Bind {
        /// The interfaces.
        interfaces: Interfaces,
        /// The error of the system call.
        source: io::Error,
    },
    /// Another system call failed.
    #[error("cannot {attempted}: {source}; open the capture anew")]
    Socket {
        /// What was tried, after "cannot".
        attempted: &'static str,
        /// The error of the system call.
        source: io::Error,
    },
}

/// The kernel's counts of a capture since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CaptureCounts {
    /// Packets that passed the filter, including dropped ones; on loopback each packet counts twice.
    pub packets: u64,
    /// Packets that passed the filter and found the ring full. If this grew, the capture may lack a packet that was on the
    /// interface.
    pub drops: u64,
}

/// Why [`PacketSocket::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// There may be frames.
    Frames,
    /// The point in time is reached.
    Deadline,
    /// The waker was used.
    Woken,
}

/// A running capture in the network namespace that it was opened in.
#[derive(Debug)]
pub struct PacketSocket {
    // Declared before the socket, so that the ring is unmapped first.
    ring: Ring,
    socket: Socket,
    filter: CaptureFilter,
    filtered: FilteredBy,
    counts: CaptureCounts,
}

/// What filters the packets.
#[derive(Debug)]
pub enum FilteredBy {
    /// The kernel, before they cost anything.
    Kernel,
    /// This program, since the kernel refused the filter for this reason; each packet takes its place in the ring.
    Userspace(io::Error),
}

impl PacketSocket {
    /// Opens a capture. Needs `CAP_NET_RAW`.
    pub fn open(options: CaptureOptions) -> Result<Self, CaptureError> {
        let CaptureOptions {
            interfaces,
            filter,
            ring: shape,
            on_refused_filter,
        } = options;
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None).map_err(refused)?;
        let failed = |attempted| move |source| CaptureError::Socket { attempted, source };
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        let set = |level, name, value| socket_option::set(socket.as_fd(), level, name, value);
        set(libc::SOL_PACKET, libc::PACKET_VERSION, version).map_err(failed("use TPACKET_V3"))?;
        // Timestamps are taken when the packet arrives, not when it reaches the ring of this socket.
        set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
            .map_err(failed("request kernel timestamps"))?;
        let ring_failed = |source| {
            let RingShape {
                blocks, block_size, ..
            } = shape;
            CaptureError::Ring {
                blocks,
                block_size,
                source,
            }
        };
        let ring = Ring::open(socket.as_fd(), shape).map_err(ring_failed)?;
        let filtered = attach(&socket, &filter, on_refused_filter)?;
        bind(&socket, interfaces).map_err(|source| CaptureError::Bind { interfaces, source })?;
        Ok(Self {
            ring,
            socket,
            filter,
            filtered,
            counts: CaptureCounts::default(),
        })
    }

    /// What filters the packets.
    pub fn filtered(&self) -> &FilteredBy {
        &self.filtered
    }

    /// Replaces the filter, for packets that arrive from now on.
    pub fn set_filter(&mut self, filter: CaptureFilter) -> Result<(), CaptureError> {
        match &self.filtered {
            FilteredBy::Kernel => {
                self.socket
                    .attach_filter(&filter.program())
                    .map_err(CaptureError::Filter)?;
            }
            FilteredBy::Userspace(_) => {}
        }
        self.filter = filter;
        Ok(())
    }

    /// Hands over the frames that are in the ring, in order of arrival, and returns how many: some thousands at most, so
    /// that a flood does not keep the caller from its timers. The kernel captures a packet on the loopback interface
    /// twice; it is handed over once, as [`FrameKind::Loopback`].
    pub fn drain(&mut self, mut sink: impl FnMut(&Frame<'_>)) -> usize {
        let mut frames = 0;
        for _ in 0..MAX_FRAMES_PER_DRAIN {
            let Some(frame) = self.ring.next_frame() else {
                break;
            };
            if frame.is_loopback_duplicate() {
                continue;
            }
            let wanted = match &self.filtered {
                FilteredBy::Kernel => true,
                FilteredBy::Userspace(_) => self.filter.accepts(frame.ethertype, frame.packet()),
            };
            if wanted {
                frames += 1;
                sink(&frame);
            }
        }
        frames
    }

    /// Sleeps until there are frames, until a point in time (on the clock of the timestamps), or until `waker` is used.
    pub fn wait(&self, until: Timestamp, waker: Option<&Waker>) -> Result<Ready, CaptureError> {
        self.sleep(PollFlags::POLLIN, until, waker)
    }

    /// As [`PacketSocket::wait`], but frames do not end the wait; they are kept while the ring has room.
    pub fn wait_for_deadline(
        &self,
        until: Timestamp,
        waker: Option<&Waker>,
    ) -> Result<Ready, CaptureError> {
        self.sleep(PollFlags::empty(), until, waker)
    }

    fn sleep(
        &self,
        awaited: PollFlags,
        until: Timestamp,
        waker: Option<&Waker>,
    ) -> Result<Ready, CaptureError> {
        loop {
            let left = TimeSpec::from_duration(until.since(now()));
            let mut polled = vec![PollFd::new(self.socket.as_fd(), awaited)];
            polled.extend(waker.map(|waker| PollFd::new(waker.as_fd(), PollFlags::POLLIN)));
            match nix::poll::ppoll(&mut polled, Some(left), None) {
                Err(Errno::EINTR) => continue,
                Err(errno) => {
                    return Err(CaptureError::Socket {
                        attempted: "wait for packets",
                        source: errno.into(),
                    });
                }
                Ok(_) => {}
            }
            let fired = |at: usize| polled.get(at).and_then(PollFd::any).unwrap_or(false);
            if let Some(waker) = waker.filter(|_| fired(1)) {
                waker.clear();
                return Ok(Ready::Woken);
            }
            if fired(0) {
                return Ok(Ready::Frames);
            }
            if now() >= until {
                return Ok(Ready::Deadline);
            }
        }
    }

    /// The counts since the capture was opened.
    pub fn counts(&mut self) -> Result<CaptureCounts, CaptureError> {
        let since_last =
            socket_option::packet_statistics(self.socket.as_fd()).map_err(|source| {
                CaptureError::Socket {
                    attempted: "read the ring's drop count",
                    source,
                }
            })?;
        self.counts.packets += u64::from(since_last.tp_packets);
        self.counts.drops += u64::from(since_last.tp_drops);
        Ok(self.counts)
    }

    /// Packets that found the ring full since the capture was opened.
    pub fn drops(&mut self) -> Result<u64, CaptureError> {
        Ok(self.counts()?.drops)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The time on the clock of the timestamps (`CLOCK_REALTIME`).
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_nanos(prober_core::time::nanos(since))
}

fn refused(source: io::Error) -> CaptureError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            MissingCapability::net_raw("open a packet socket", source).into()
        }
        _ => CaptureError::Socket {
            attempted: "open a packet socket",
            source,
        },
    }
}

fn attach(
    socket: &Socket,
    filter: &CaptureFilter,
    otherwise: OnRefusedFilter,
) -> Result<FilteredBy, CaptureError> {
    match (socket.attach_filter(&filter.program()), otherwise) {
        (Ok(()), _) => Ok(FilteredBy::Kernel),
        (Err(source), OnRefusedFilter::Fail) => Err(CaptureError::Filter(source)),
        (Err(source), OnRefusedFilter::FilterInUserspace) => Ok(FilteredBy::Userspace(source)),
    }
}

#[expect(
    unsafe_code,
    reason = "bind(2) reads an address that neither std nor socket2 can write"
)]
fn bind(socket: &Socket, interfaces: Interfaces) -> io::Result<()> {
    let index = match interfaces {
        Interfaces::All => 0,
        Interfaces::One(index) => index.cast_signed(),
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "small constants of the kernel"
    )]
    let (family, protocol) = (libc::AF_PACKET as u16, (libc::ETH_P_ALL as u16).to_be());
    let address = libc::sockaddr_ll {
        sll_family: family,
        sll_protocol: protocol,
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    #[expect(clippy::cast_possible_truncation, reason = "twenty bytes")]
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe one live `sockaddr_ll`, which the kernel only reads.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
