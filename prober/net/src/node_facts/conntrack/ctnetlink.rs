//! The connection tracking table, as ctnetlink lists it (net/netfilter/nf_conntrack_netlink.c).
use std::ops::ControlFlow;

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_sys::protocols::NETLINK_NETFILTER;
use prober_core::node_facts::conntrack::{
    ConntrackReading, ConntrackRequest, ConntrackSelection, ctnetlink,
};

use crate::netlink::{Message, NetlinkError, dump_into};

/// A request for the whole table: `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_GET`.
const GET: u16 = 1 << 8 | 1;

/// A message: its type, and what follows its netlink header.
#[derive(Clone, Debug)]
struct ConntrackMessage {
    kind: u16,
    content: Vec<u8>,
}

impl Message for ConntrackMessage {
    const PROTOCOL: isize = NETLINK_NETFILTER;
}

impl NetlinkSerializable for ConntrackMessage {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.content.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.content);
    }
}

impl NetlinkDeserializable for ConntrackMessage {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, content: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self {
            kind: header.message_type,
            content: content.to_vec(),
        })
    }
}

/// Selects entries of the table of the calling thread's network namespace, until its end or the deadline. Needs
/// `CAP_NET_ADMIN`; the kernel loads its module `nf_conntrack_netlink`.
pub(super) fn read(
    is_overdue: impl Fn() -> bool,
    request: &ConntrackRequest,
) -> Result<ConntrackReading, NetlinkError> {
    // A `struct nfgenmsg` for all families.
    let all = ConntrackMessage {
        kind: GET,
        content: vec![0; 4],
    };
    let take = |selection: &mut ConntrackSelection<'_>, message: ConntrackMessage| {
        match ctnetlink::line(&message.content) {
            Ok(line) => selection.add(&line),
            // It may be a requested one.
            Err(_) => selection.add_unknown(),
        }
        if is_overdue() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let begin = || ConntrackSelection::new(request);
    let (selection, is_whole) = dump_into(&all, begin, take)?;
    Ok(selection.finish(is_whole))
}
