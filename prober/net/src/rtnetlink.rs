//! A request to rtnetlink, and the objects that answer it (rtnetlink(7)).
use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// How often a dump is read that something keeps changing, before it is given up.
const DUMP_ATTEMPTS: usize = 5;

/// A request to rtnetlink failed.
#[derive(Debug, thiserror::Error)]
pub enum RtnetlinkError {
    /// A system call failed.
    #[error("the netlink socket failed: {0}")]
    Socket(#[from] io::Error),
    /// The kernel refused the request, or stopped in the middle of a list.
    #[error("the kernel refused the request: {0}")]
    Refused(io::Error),
    /// The kernel's answer is no netlink message.
    #[error("the kernel's answer cannot be decoded: {0}")]
    Decode(#[from] netlink_packet_core::DecodeError),
    /// Objects were added or removed while each of several dumps was read (`NLM_F_DUMP_INTR`), so none is known to be whole.
    #[error(
        "the list changed while it was read, {DUMP_ATTEMPTS} times; run again when the node changes less"
    )]
    Interrupted,
    /// The kernel dropped a part of the answer (`NLMSG_OVERRUN`).
    #[error("the kernel dropped a part of the answer (NLMSG_OVERRUN); run again")]
    Overrun,
}

impl RtnetlinkError {
    /// The kernel's error code, where it refused the request.
    pub(crate) fn refusal(&self) -> Option<i32> {
        match self {
            Self::Refused(error) => error.raw_os_error(),
            Self::Socket(_) | Self::Decode(_) | Self::Interrupted | Self::Overrun => None,
        }
    }
}

/// Requests a list, again if it changed meanwhile. An object that this version of the decoder does not understand, and an
/// error at the end of the list, fail it as a whole: a part of a list is never taken for all of it.
pub(crate) fn dump(
    request: &RouteNetlinkMessage,
) -> Result<Vec<RouteNetlinkMessage>, RtnetlinkError> {
    uninterrupted(|| {
        let socket = send(request.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
        read_dump(|| Ok(socket.recv_from_full()?.0))
    })
}

/// Requests one object.
pub(crate) fn get(
    request: RouteNetlinkMessage,
) -> Result<Option<RouteNetlinkMessage>, RtnetlinkError> {
    let socket = send(request, NLM_F_REQUEST)?;
    loop {
        for message in messages(&socket.recv_from_full()?.0) {
            match read(message?)? {
                Part::Object(object) => return Ok(Some(object)),
                Part::End => return Ok(None),
                Part::Nothing => {}
            }
        }
    }
}

/// Reads a dump until one is whole.
fn uninterrupted<T>(
    mut read: impl FnMut() -> Result<T, RtnetlinkError>,
) -> Result<T, RtnetlinkError> {
    for _ in 1..DUMP_ATTEMPTS {
        match read() {
            Err(RtnetlinkError::Interrupted) => {}
            other @ (Ok(_) | Err(_)) => return other,
        }
    }
    read()
}

/// Reads the datagrams of one dump.
fn read_dump(
    mut receive: impl FnMut() -> io::Result<Vec<u8>>,
) -> Result<Vec<RouteNetlinkMessage>, RtnetlinkError> {
    let mut objects = Vec::new();
    loop {
        for message in messages(&receive()?) {
            let message = message?;
            // The kernel sets the flag on the messages that follow the change, on the last one at the latest.
            if message.header.flags & NLM_F_DUMP_INTR != 0 {
                return Err(RtnetlinkError::Interrupted);
            }
            match read(message)? {
                Part::Object(object) => objects.push(object),
                Part::End => return Ok(objects),
                Part::Nothing => {}
            }
        }
    }
}

/// The content of one message.
enum Part {
    /// An object.
    Object(RouteNetlinkMessage),
    /// The end of the answer.
    End,
    /// Nothing that matters.
    Nothing,
}

fn read(message: NetlinkMessage<RouteNetlinkMessage>) -> Result<Part, RtnetlinkError> {
    if let NetlinkPayload::InnerMessage(object) = message.payload {
        Ok(Part::Object(object))
    } else if let NetlinkPayload::Done(done) = message.payload {
        // A dump that fails after its first message says so at its end (`netlink_dump`, net/netlink/af_netlink.c).
        if done.code < 0 {
            let code = done.code.saturating_neg();
            Err(RtnetlinkError::Refused(io::Error::from_raw_os_error(code)))
        } else {
            Ok(Part::End)
        }
    } else if let NetlinkPayload::Error(error) = message.payload {
        if error.code.is_some() {
            Err(RtnetlinkError::Refused(error.to_io()))
        } else {
            Ok(Part::End)
        }
    } else if let NetlinkPayload::Overrun(_) = message.payload {
        Err(RtnetlinkError::Overrun)
    } else {
        Ok(Part::Nothing)
    }
}

/// The messages of one datagram.
fn messages(
    datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkMessage<RouteNetlinkMessage>, netlink_packet_core::DecodeError>>
{
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkMessage::deserialize(rest);
        let length = message.as_ref().map_or(rest.len(), |message| {
            // Messages are aligned to four bytes (NLMSG_ALIGN); the last one may lack its padding.
            (message.header.length as usize).next_multiple_of(4).max(4)
        });
        rest = rest.get(length..).unwrap_or_default();
        Some(message)
    })
}

fn send(request: RouteNetlinkMessage, flags: u16) -> io::Result<Socket> {
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
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{DoneMessage, ErrorMessage};
    use netlink_packet_route::link::LinkMessage;

    use super::*;

    const NONE: u16 = 0;

    fn bytes(payload: NetlinkPayload<RouteNetlinkMessage>, flags: u16) -> Vec<u8> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.header.flags = flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn link(index: u32, flags: u16) -> Vec<u8> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        bytes(
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)),
            flags,
        )
    }

    fn done(code: i32, flags: u16) -> Vec<u8> {
        let mut done = DoneMessage::default();
        done.code = code;
        bytes(NetlinkPayload::Done(done), flags)
    }

    /// The number of objects of a dump of these datagrams, each of several messages.
    fn count<const N: usize>(datagrams: [Vec<Vec<u8>>; N]) -> Result<usize, RtnetlinkError> {
        let mut datagrams = datagrams.into_iter();
        let receive = || {
            let next = datagrams.next().map(|messages| messages.concat());
            next.ok_or_else(|| io::Error::other("no more datagrams"))
        };
        read_dump(receive).map(|objects| objects.len())
    }

    #[test]
    fn a_dump_ends_with_its_last_message() {
        let dump = [
            vec![link(1, NONE), link(2, NONE)],
            vec![link(3, NONE)],
            vec![done(0, NONE)],
        ];
        assert_eq!(count(dump).unwrap(), 3);
        let cut = [vec![link(1, NONE)]];
        assert!(matches!(count(cut), Err(RtnetlinkError::Socket(_))));
    }

    #[test]
    fn a_dump_that_changed_meanwhile_is_not_believed_wherever_the_flag_is() {
        for dump in [
            [
                vec![link(1, NONE), link(2, NLM_F_DUMP_INTR)],
                vec![done(0, NONE)],
            ],
            [vec![link(1, NONE)], vec![done(0, NLM_F_DUMP_INTR)]],
        ] {
            assert!(matches!(count(dump), Err(RtnetlinkError::Interrupted)));
        }
    }

    #[test]
    fn a_dump_that_ends_in_an_error_is_an_error() {
        let failed = count([vec![link(1, NONE)], vec![done(-libc::ENOBUFS, NONE)]]).unwrap_err();
        assert_eq!(failed.refusal(), Some(libc::ENOBUFS));
        let mut error = ErrorMessage::default();
        error.code = std::num::NonZeroI32::new(-libc::EPERM);
        let refused = count([vec![bytes(NetlinkPayload::Error(error), NONE)]]).unwrap_err();
        assert_eq!(refused.refusal(), Some(libc::EPERM));
        let overrun = bytes(NetlinkPayload::Overrun(Vec::new()), NONE);
        assert!(matches!(
            count([vec![overrun]]),
            Err(RtnetlinkError::Overrun)
        ));
    }

    #[test]
    fn half_a_message_is_an_error() {
        let mut half = link(1, NONE);
        half.truncate(20);
        assert!(matches!(
            count([vec![half]]),
            Err(RtnetlinkError::Decode(_))
        ));
    }

    #[test]
    fn an_interrupted_dump_is_read_again_a_few_times() {
        let attempts = |whole: usize| {
            let mut read = 0;
            let result = uninterrupted(|| {
                read += 1;
                if read < whole {
                    Err(RtnetlinkError::Interrupted)
                } else {
                    Ok(read)
                }
            });
            (result.ok(), read)
        };
        assert_eq!(attempts(1), (Some(1), 1));
        assert_eq!(attempts(DUMP_ATTEMPTS), (Some(5), 5));
        assert_eq!(attempts(DUMP_ATTEMPTS + 1), (None, 5));
    }
}
