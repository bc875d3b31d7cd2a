//! The ring of blocks that the kernel writes frames into and this program reads them from (`TPACKET_V3`).
//!
//! A status word hands each block over: the kernel sets `TP_STATUS_USER` when the block is full or its timeout is over, and
//! this program sets `TP_STATUS_KERNEL` when it has read the block. A block holds frames one after the other, each with its
//! header, its address (`sockaddr_ll`) and its bytes.
use std::io;
use std::mem::{align_of, offset_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{sockaddr_ll, tpacket_block_desc, tpacket_hdr_v1, tpacket3_hdr};
use prober_core::time::Timestamp;

use super::RingShape;
use super::frame::{ChecksumStatus, Frame, FrameKind, LinkHeader};
use crate::socket_option;

/// The frame size that the kernel requires. In version 3 frames have any size; this one only has to divide the block.
const FRAME_SIZE: u32 = 2048;
/// The offset of the address behind the header (`TPACKET_ALIGN(sizeof(struct tpacket3_hdr))`).
const ADDRESS: usize = size_of::<tpacket3_hdr>().next_multiple_of(libc::TPACKET_ALIGNMENT);
const HEAD: usize = ADDRESS + size_of::<sockaddr_ll>();

/// The mapped ring, and the block that is read next.
#[derive(Debug)]
pub(super) struct Ring {
    base: NonNull<u8>,
    block_size: usize,
    blocks: usize,
    current: usize,
    open: Option<OpenBlock>,
}

/// How far the current block has been read.
#[derive(Debug, Clone, Copy)]
struct OpenBlock {
    /// Frames that are not yet read.
    frames: u32,
    /// The offset of the next one in the block.
    next: usize,
}

#[expect(unsafe_code, reason = "the mapping belongs to this value alone")]
// SAFETY: the mapping is reached only through this value, and any thread may read it.
unsafe impl Send for Ring {}

impl Ring {
    /// Requests the ring and maps it.
    #[expect(unsafe_code, reason = "mmap(2)")]
    pub(super) fn open(socket: BorrowedFd<'_>, shape: RingShape) -> io::Result<Self> {
        let RingShape {
            block_size,
            blocks,
            block_timeout,
        } = shape;
        let milliseconds = u32::try_from(block_timeout.as_millis())
            .unwrap_or(u32::MAX)
            .max(1);
        let request = libc::tpacket_req3 {
            tp_block_size: block_size,
            tp_block_nr: blocks,
            tp_frame_size: FRAME_SIZE,
            tp_frame_nr: (block_size / FRAME_SIZE).saturating_mul(blocks),
            tp_retire_blk_tov: milliseconds,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        socket_option::set_ring(socket, &request)?;
        let (block_size, blocks) = (block_size as usize, blocks as usize);
        let length = block_size
            .checked_mul(blocks)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address that the kernel selects overlaps no memory of this program.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                flags,
                socket.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self {
            base,
            block_size,
            blocks,
            current: 0,
            open: None,
        })
    }

    /// The next frame, if the kernel has handed one over. The frame before it is returned to the kernel with its block, so
    /// it cannot be kept.
    pub(super) fn next_frame(&mut self) -> Option<Frame<'_>> {
        loop {
            match self.open {
                None => self.open = Some(self.take_block()?),
                Some(OpenBlock { frames: 0, .. }) => self.give_block_back(),
                Some(OpenBlock { frames, next }) => match self.frame_at(next) {
                    Some((frame, length)) => {
                        // An offset of 0 marks the last frame of a block.
                        let frames = if length == 0 { 0 } else { frames - 1 };
                        self.open = Some(OpenBlock {
                            frames,
                            next: next + length,
                        });
                        return Some(frame);
                    }
                    // What does not lie in the block is not read.
                    None => self.open = Some(OpenBlock { frames: 0, next }),
                },
            }
        }
    }

    /// The first byte of the current block.
    #[expect(unsafe_code, reason = "pointer arithmetic within the mapping")]
    fn block(&self) -> NonNull<u8> {
        // SAFETY: `current` is less than `blocks`, so the block lies in the mapping.
        unsafe { self.base.add(self.current * self.block_size) }
    }

    /// The word by which the block changes hands.
    #[expect(unsafe_code, reason = "shared with the kernel")]
    fn status(&self) -> &AtomicU32 {
        const AT: usize =
            offset_of!(tpacket_block_desc, hdr) + offset_of!(tpacket_hdr_v1, block_status);
        const { assert!(AT.is_multiple_of(align_of::<AtomicU32>())) };
        // SAFETY: the word lies in the block, is aligned since blocks begin on pages, and kernel and program both
        // treat it as atomic.
        unsafe { self.block().add(AT).cast().as_ref() }
    }

    /// Takes the current block if the kernel has handed it over. The acquiring load orders it before all reads of the block.
    #[expect(unsafe_code, reason = "reads the mapping")]
    fn take_block(&self) -> Option<OpenBlock> {
        if self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the descriptor begins the block, which the kernel has handed over; all of it is plain integers.
        let header = unsafe { self.block().cast::<tpacket_block_desc>().read().hdr.bh1 };
        Some(OpenBlock {
            frames: header.num_pkts,
            next: header.offset_to_first_pkt as usize,
        })
    }

    /// Returns the current block to the kernel. The releasing store orders all reads of the block before it.
    fn give_block_back(&mut self) {
        self.status()
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.current = (self.current + 1) % self.blocks;
        self.open = None;
    }

    /// The frame at an offset of the current block, and the distance to the next one.
    #[expect(unsafe_code, reason = "reads the mapping")]
    fn frame_at(&self, at: usize) -> Option<(Frame<'static>, usize)> {
        if at.checked_add(HEAD)? > self.block_size {
            return None;
        }
        // SAFETY: header and address lie in the block, which the kernel has handed over; both are plain integers, read
        // without regard to alignment.
        let (header, address) = unsafe {
            let start = self.block().add(at);
            (
                start.cast::<tpacket3_hdr>().read_unaligned(),
                start.add(ADDRESS).cast::<sockaddr_ll>().read_unaligned(),
            )
        };
        let (link, length) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
        if at.checked_add(link)?.checked_add(length)? > self.block_size {
            return None;
        }
        // SAFETY: the bytes lie in the block, which the kernel does not write until `give_block_back`; that needs `&mut
        // self`, and `next_frame` ties the frame's lifetime to its own `&mut self`.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.block().add(at + link).as_ptr(), length) };
        let network = usize::from(header.tp_net).saturating_sub(link);
        let nanos = u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec);
        let partial = header.tp_status & libc::TP_STATUS_CSUMNOTREADY != 0;
        let frame = Frame {
            at: Timestamp::from_nanos(nanos),
            kind: FrameKind::of(address.sll_pkttype, address.sll_hatype),
            interface: address.sll_ifindex.cast_unsigned(),
            link_header: LinkHeader::of(address.sll_hatype, network),
            ethertype: u16::from_be(address.sll_protocol),
            checksum: if partial {
                ChecksumStatus::Partial
            } else {
                ChecksumStatus::Complete
            },
            wire_length: header.tp_len,
            bytes,
            network,
            hardware: address.sll_hatype,
        };
        Some((frame, header.tp_next_offset as usize))
    }
}

impl Drop for Ring {
    #[expect(unsafe_code, reason = "munmap(2)")]
    fn drop(&mut self) {
        // SAFETY: exactly what `open` mapped; no frame outlives the ring.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.block_size * self.blocks) };
    }
}
