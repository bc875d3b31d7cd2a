//! A request to the kernel by netlink, and the objects that answer it (netlink(7), rtnetlink(7)).
use std::io;
use std::ops::ControlFlow;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// How often a dump is read that something keeps changing, before it is given up.
const DUMP_ATTEMPTS: usize = 5;

/// A request by netlink failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
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

impl NetlinkError {
    /// The kernel's error code, where it refused the request.
    pub(crate) fn refusal(&self) -> Option<i32> {
        match self {
            Self::Refused(error) => error.raw_os_error(),
            Self::Socket(_) | Self::Decode(_) | Self::Interrupted | Self::Overrun => None,
        }
    }
}

/// A message of one netlink protocol.
pub(crate) trait Message: NetlinkSerializable + NetlinkDeserializable + Clone {
    /// The number of the protocol (`NETLINK_*`).
    const PROTOCOL: isize;
}

impl Message for RouteNetlinkMessage {
    const PROTOCOL: isize = NETLINK_ROUTE;
}

/// Requests a list, again if it changed meanwhile. An object that this version of the decoder does not understand, and an
/// error at the end of the list, fail it as a whole: a part of a list is never taken for all of it.
pub(crate) fn dump<T: Message>(request: &T) -> Result<Vec<T>, NetlinkError> {
    let push = |objects: &mut Vec<T>, object| {
        objects.push(object);
        ControlFlow::Continue(())
    };
    dump_into(request, Vec::new, push).map(|(objects, _)| objects)
}

/// Requests a list as [`dump`] does, and takes each object into a sum, which begins anew whenever the list is read again.
/// Returns the sum, and whether the list was read to its end: `take` may break it off.
pub(crate) fn dump_into<T: Message, S>(
    request: &T,
    begin: impl Fn() -> S,
    mut take: impl FnMut(&mut S, T) -> ControlFlow<()>,
) -> Result<(S, bool), NetlinkError> {
    uninterrupted(|| {
        let socket = send(request.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut sum = begin();
        let is_whole = read_dump(
            || Ok(socket.recv_from_full()?.0),
            |object| take(&mut sum, object),
        )?;
        Ok((sum, is_whole))
    })
}

/// Requests one object.
pub(crate) fn get<T: Message>(request: T) -> Result<Option<T>, NetlinkError> {
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
fn uninterrupted<T>(mut read: impl FnMut() -> Result<T, NetlinkError>) -> Result<T, NetlinkError> {
    for _ in 1..DUMP_ATTEMPTS {
        match read() {
            Err(NetlinkError::Interrupted) => {}
            other @ (Ok(_) | Err(_)) => return other,
        }
    }
    read()
}

/// Reads the datagrams of one dump; returns whether it was read to its end.
fn read_dump<T: Message>(
    mut receive: impl FnMut() -> io::Result<Vec<u8>>,
    mut take: impl FnMut(T) -> ControlFlow<()>,
) -> Result<bool, NetlinkError> {
    loop {
        for message in messages(&receive()?) {
            let message = message?;
            // The kernel sets the flag on the messages that follow the change, on the last one at the latest.
            if message.header.flags & NLM_F_DUMP_INTR != 0 {
                return Err(NetlinkError::Interrupted);
            }
            match read(message)? {
                Part::Object(object) => {
                    if take(object).is_break() {
                        return Ok(false);
                    }
                }
                Part::End => return Ok(true),
                Part::Nothing => {}
            }
        }
    }
}

/// The content of one message.
enum Part<T> {
    /// An object.
    Object(T),
    /// The end of the answer.
    End,
    /// Nothing that matters.
    Nothing,
}

fn read<T>(message: NetlinkMessage<T>) -> Result<Part<T>, NetlinkError> {
    if let NetlinkPayload::InnerMessage(object) = message.payload {
        Ok(Part::Object(object))
    } else if let NetlinkPayload::Done(done) = message.payload {
        // A dump that fails after its first message says so at its end (`netlink_dump`, net/netlink/af_netlink.c).
        if done.code < 0 {
            let code = done.code.saturating_neg();
            Err(NetlinkError::Refused(io::Error::from_raw_os_error(code)))
        } else {
            Ok(Part::End)
        }
    } else if let NetlinkPayload::Error(error) = message.payload {
        if error.code.is_some() {
            Err(NetlinkError::Refused(error.to_io()))
        } else {
            Ok(Part::End)
        }
    } else if let NetlinkPayload::Overrun(_) = message.payload {
        Err(NetlinkError::Overrun)
    } else {
        Ok(Part::Nothing)
    }
}

/// The messages of one datagram.
fn messages<T: Message>(
    datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkMessage<T>, netlink_packet_core::DecodeError>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkMessage::<T>::deserialize(rest);
        let length = message.as_ref().map_or(rest.len(), |message| {
            // Messages are aligned to four bytes (NLMSG_ALIGN); the last one may lack its padding.
            (message.header.length as usize).next_multiple_of(4).max(4)
        });
        rest = rest.get(length..).unwrap_or_default();
        Some(message)
    })
}

fn send<T: Message>(request: T, flags: u16) -> io::Result<Socket> {
    let mut socket = Socket::new(T::PROTOCOL)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::InnerMessage(request),
    );
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
    fn count<const N: usize>(datagrams: [Vec<Vec<u8>>; N]) -> Result<usize, NetlinkError> {
        let mut datagrams = datagrams.into_iter();
        let receive = || {
            let next = datagrams.next().map(|messages| messages.concat());
            next.ok_or_else(|| io::Error::other("no more datagrams"))
        };
        let mut objects = 0;
        let take = |_: RouteNetlinkMessage| {
            objects += 1;
            ControlFlow::Continue(())
        };
        assert!(read_dump(receive, take)?, "nothing breaks it off");
        Ok(objects)
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
        assert!(matches!(count(cut), Err(NetlinkError::Socket(_))));
    }

    #[test]
    fn a_dump_that_is_broken_off_is_not_whole() {
        let mut datagrams = vec![done(0, NONE), [link(1, NONE), link(2, NONE)].concat()];
        let receive = || {
            datagrams
                .pop()
                .ok_or_else(|| io::Error::other("no more datagrams"))
        };
        let stop = |_: RouteNetlinkMessage| ControlFlow::Break(());
        assert!(!read_dump(receive, stop).unwrap());
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
            assert!(matches!(count(dump), Err(NetlinkError::Interrupted)));
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
        assert!(matches!(count([vec![overrun]]), Err(NetlinkError::Overrun)));
    }

    #[test]
    fn half_a_message_is_an_error() {
        let mut half = link(1, NONE);
        half.truncate(20);
        assert!(matches!(count([vec![half]]), Err(NetlinkError::Decode(_))));
    }

    #[test]
    fn an_interrupted_dump_is_read_again_a_few_times() {
        let attempts = |whole: usize| {
            let mut read = 0;
            let result = uninterrupted(|| {
                read += 1;
                if read < whole {
                    Err(NetlinkError::Interrupted)
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
