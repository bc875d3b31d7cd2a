//! A capture: every packet of interest on one interface or on all, with the kernel's stamps, both ways.
//!
//! An `AF_PACKET` socket with a `TPACKET_V3` ring (packet(7), linux/Documentation/networking/packet_mmap.rst). It is opened
//! with protocol 0, given its ring and its filter, and only then bound, so that nothing unfiltered lands in it.
//! Outgoing packets are seen as well: their stamps are taken a microsecond or two before the driver's.
/// What a capture lets through, as a program for the kernel and as a predicate.
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

pub use frame::{Checksum, Frame, FrameKind, LinkType};
pub use waker::Waker;

use crate::missing_capability::MissingCapability;
use crate::packet_socket::filter::CaptureFilter;
use crate::socket_option;
use ring::Ring;

/// Frames that are looked at before the caller gets to see its timers again.
const MAX_FRAMES_PER_DRAIN: usize = 4096;

/// Where a capture listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interfaces {
    /// On all interfaces of the network namespace: right for a pod. On a node a packet passes several (a pod's veth,
    /// the bridge, the uplink) and is seen on each.
    All,
    /// On the interface with this index.
    One(u32),
}

/// What to do where the kernel refuses the filter program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRefusedFilter {
    /// Report it as an error.
    Fail,
    /// Take every packet and filter here: correct, but under load the ring fills sooner.
    FilterInUserspace,
}

/// The ring's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingShape {
    /// Bytes of a block; a multiple of the page size. A packet must fit into one.
    pub block_size: u32,
    /// How many blocks.
    pub blocks: u32,
    /// How long a packet waits at most in a block that is not full. At least a millisecond.
    pub block_timeout: Duration,
}

impl RingShape {
    /// Two MiB: for an agent of some ten probes a second, which a block's end wakes once for all packets of a
    /// handshake. Blocks are handed over in time however empty they are, so it is their number that carries a
    /// starved reader: through a second.
    pub const SMALL: Self = Self {
        block_size: 1 << 13,
        blocks: 256,
        block_timeout: Duration::from_millis(4),
    };
    /// 32 MiB: for a hundred thousand probes a second.
    pub const LARGE: Self = Self {
        block_size: 1 << 18,
        blocks: 128,
        block_timeout: Duration::from_millis(1),
    };
}

/// How to capture.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// Where.
    pub interfaces: Interfaces,
    /// What.
    pub filter: CaptureFilter,
    /// With how much memory.
    pub ring: RingShape,
    /// And without a filter, if need be?
    pub on_refused_filter: OnRefusedFilter,
}

/// A capture could not be opened or read.
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
    /// The kernel did not give the ring.
    #[error(
        "cannot get a packet ring of {blocks} blocks of {block_size} bytes: {source}; ask for a smaller one"
    )]
    Ring {
        /// How many blocks.
        blocks: u32,
        /// Bytes of each.
        block_size: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket could not be bound to its interface.
    #[error(
        "cannot capture on {interfaces:?}: {source}; does the interface exist in this network namespace?"
    )]
    Bind {
        /// Where.
        interfaces: Interfaces,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another system call failed.
    #[error("cannot {attempted}: {source}; open the capture anew")]
    Socket {
        /// What was tried.
        attempted: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What the kernel says of a capture so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CaptureCounts {
    /// Packets that passed the filter, dropped ones included; those on loopback count twice.
    pub packets: u64,
    /// Packets that passed the filter and found the ring full. If this grew, a packet that is missing from the
    /// capture may have been there.
    pub drops: u64,
}

/// Why [`PacketSocket::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// There may be frames.
    Frames,
    /// The time is over.
    Deadline,
    /// The waker was used.
    Woken,
}

/// A running capture in the network namespace that it was opened in.
#[derive(Debug)]
pub struct PacketSocket {
    // Declared before the socket: the ring is unmapped first.
    ring: Ring,
    socket: Socket,
    filter: CaptureFilter,
    filtered: FilteredBy,
    counts: CaptureCounts,
}

/// Who keeps uninteresting packets out.
#[derive(Debug)]
pub enum FilteredBy {
    /// The kernel, before they cost anything.
    Kernel,
    /// We, after they took their place in the ring: the kernel refused, and said so.
    Userspace(io::Error),
}

impl PacketSocket {
    /// Starts to capture. Wants `CAP_NET_RAW`.
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
        // Stamps are taken when the packet comes in, not when it reaches this socket's ring.
        set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
            .map_err(failed("ask for kernel timestamps"))?;
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

    /// Who keeps uninteresting packets out.
    pub fn filtered(&self) -> &FilteredBy {
        &self.filtered
    }

    /// Changes what is captured, for the packets that come from now on.
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

    /// Hands over the frames that are in the ring now, in order of arrival, and says how many: at most some
    /// thousands, so that a flood does not keep the caller from its timers. A packet on the loopback interface, which
    /// the kernel shows twice, is given once, as [`FrameKind::Loopback`].
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

    /// Sleeps until there are frames, until a point in time (on the clock that stamps frames), or until `waker` is
    /// used.
    pub fn wait(&self, until: Timestamp, waker: Option<&Waker>) -> Result<Ready, CaptureError> {
        self.sleep(PollFlags::POLLIN, until, waker)
    }

    /// As [`PacketSocket::wait`], whatever frames come meanwhile: they keep for as long as the ring has room.
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

    /// What the kernel counted since the capture was opened.
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

    /// Packets that the ring had no room for since the capture was opened.
    pub fn drops(&mut self) -> Result<u64, CaptureError> {
        Ok(self.counts()?.drops)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The time on the clock that stamps frames (`CLOCK_REALTIME`).
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
