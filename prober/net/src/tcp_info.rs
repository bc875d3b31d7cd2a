//! What the kernel knows of one of its TCP connections (`TCP_INFO`, tcp(7)), for tier T0, which captures no packets.
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many segments the kernel has sent again on this connection, including SYNs. Also available before the connection is
/// established and after it has failed.
#[expect(unsafe_code, reason = "the kernel writes the value through a pointer")]
pub fn retransmits(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: `tcp_info` is plain integers, for which all zeroes is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    #[expect(clippy::cast_possible_truncation, reason = "some hundred bytes")]
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    let pointer = (&raw mut info).cast();
    // SAFETY: the pointer and the length describe one live value of plain integers, of which the kernel fills a prefix.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_TCP,
            libc::TCP_INFO,
            pointer,
            &raw mut length,
        )
    };
    if done == 0 {
        Ok(info.tcpi_total_retrans)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_connection_on_loopback_has_no_retransmits_and_no_connection_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(retransmits(stream.as_fd()).unwrap(), 0);
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(retransmits(udp.as_fd()).is_err());
    }
}
