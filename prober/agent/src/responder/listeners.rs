//! Listening sockets of an agent.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use prober_core::packet::family::Family;
use socket2::{Domain, Protocol, Socket, Type};

/// A port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {family} port {port}: {source}; does another process of this pod use it (ss -ltnp)?"
)]
pub(crate) struct ListenError {
    pub(crate) family: Family,
    pub(crate) port: u16,
    pub(crate) source: io::Error,
}

/// A listening socket on all addresses of a family; `None` where this host does not have the family.
pub(crate) fn bind(family: Family, port: u16, backlog: i32) -> io::Result<Option<Socket>> {
    let any = match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = Socket::new(
        domain(family),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    );
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) if is_no_family(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    if family == Family::Ipv6 {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    match socket.bind(&SocketAddr::new(any, port).into()) {
        Ok(()) => {}
        Err(error) if is_no_family(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    socket.listen(backlog)?;
    Ok(Some(socket))
}

fn is_no_family(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(nix::errno::Errno::from_raw);
    matches!(
        errno,
        Some(nix::errno::Errno::EAFNOSUPPORT | nix::errno::Errno::EADDRNOTAVAIL)
    )
}

pub(crate) const fn domain(family: Family) -> Domain {
    match family {
        Family::Ipv4 => Domain::IPV4,
        Family::Ipv6 => Domain::IPV6,
    }
}
