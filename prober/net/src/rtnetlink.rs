//! A request to rtnetlink, and the objects that answer it (rtnetlink(7)).
use std::io;
use std::ops::ControlFlow;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// A request to rtnetlink failed.
#[derive(Debug, thiserror::Error)]
pub enum RtnetlinkError {
    /// A system call failed.
    #[error("the netlink socket failed: {0}")]
    Socket(#[from] io::Error),
    /// The kernel refused the request.
    #[error("the kernel refused the request: {0}")]
    Refused(io::Error),
    /// The kernel's answer is no netlink message.
    #[error("the kernel's answer cannot be decoded: {0}")]
    Decode(#[from] netlink_packet_core::DecodeError),
}

/// Requests a list and hands each object of it to `each`. An object that this version of the decoder does not
/// understand is an error, so that half a list is never taken for a whole one.
pub(crate) fn dump(
    request: RouteNetlinkMessage,
    mut each: impl FnMut(RouteNetlinkMessage),
) -> Result<(), RtnetlinkError> {
    exchange(request, NLM_F_REQUEST | NLM_F_DUMP, |object| {
        each(object);
        ControlFlow::Continue(())
    })
}

/// Requests one object.
pub(crate) fn get(
    request: RouteNetlinkMessage,
) -> Result<Option<RouteNetlinkMessage>, RtnetlinkError> {
    let mut answer = None;
    exchange(request, NLM_F_REQUEST, |object| {
        answer = Some(object);
        ControlFlow::Break(())
    })?;
    Ok(answer)
}

fn exchange(
    request: RouteNetlinkMessage,
    flags: u16,
    mut each: impl FnMut(RouteNetlinkMessage) -> ControlFlow<()>,
) -> Result<(), RtnetlinkError> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
    message.header.flags = flags;
    message.header.sequence_number = 1;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)?;
            // Messages are aligned to four bytes (NLMSG_ALIGN); the last one may lack its padding.
            let length = (message.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(length..).unwrap_or_default();
            if let NetlinkPayload::InnerMessage(object) = message.payload {
                if each(object).is_break() {
                    return Ok(());
                }
            } else if let NetlinkPayload::Done(_) = message.payload {
                return Ok(());
            } else if let NetlinkPayload::Error(error) = message.payload {
                return Err(RtnetlinkError::Refused(error.to_io()));
            }
        }
    }
}
