//! The mode of kube-proxy, read without privileges.
//!
//! A link `kube-ipvs0` means IPVS. Otherwise kube-proxy reports its mode at its metrics address, which is `127.0.0.1:10249`
//! unless configured otherwise (`GET /proxyMode`). The request is sent only if there is a listener: a refused connection
//! would count as a RST (`TcpOutRsts`) in the counters that are read here. Only root can list the chains themselves.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use prober_core::node_facts::{KubeProxyMode, Link};

const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);
/// For all of it: connection, request and response.
const TIMEOUT: Duration = Duration::from_millis(200);
/// In bytes; kube-proxy's response has about 150.
const MAX_RESPONSE: usize = 4096;

/// The mode, where the link or the metrics address reveals it.
pub(super) fn mode(links: Option<&[Link]>) -> Option<KubeProxyMode> {
    if links.is_some_and(|links| links.iter().any(|link| link.name == "kube-ipvs0")) {
        return Some(KubeProxyMode::Ipvs);
    }
    let listens = ["tcp", "tcp6"].iter().any(|file| {
        File::open(format!("/proc/thread-self/net/{file}")).is_ok_and(|sockets| {
            BufReader::new(sockets)
                .lines()
                .map_while(Result::ok)
                .any(|line| is_listener(&line))
        })
    });
    if listens {
        parse(&get_proxy_mode(METRICS)?)
    } else {
        None
    }
}

/// A line of `/proc/net/tcp`: `sl local_address rem_address st ...`, numbers in hexadecimal.
fn is_listener(line: &str) -> bool {
    let mut fields = line.split_whitespace();
    let port = fields
        .nth(1)
        .and_then(|local| local.rsplit_once(':'))
        .map(|(_, port)| port);
    port == Some("2809") && fields.nth(1) == Some("0A")
}

/// The response to `GET /proxyMode`; `None` if it has not ended within the timeout and the maximum length.
fn get_proxy_mode(address: SocketAddr) -> Option<String> {
    let deadline = Instant::now() + TIMEOUT;
    // A timeout of zero is an error for both calls, as wanted.
    let remaining = || deadline.saturating_duration_since(Instant::now());
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    stream.set_write_timeout(Some(remaining())).ok()?;
    stream
        .write_all(b"GET /proxyMode HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .ok()?;
    let mut answer = [0; MAX_RESPONSE];
    let mut length = 0;
    loop {
        stream.set_read_timeout(Some(remaining())).ok()?;
        let free = answer.get_mut(length..).filter(|free| !free.is_empty())?;
        match stream.read(free).ok()? {
            0 => break,
            read => length += read,
        }
    }
    String::from_utf8(answer.get(..length)?.to_vec()).ok()
}

/// Parses the response. The body must be exactly one of the modes, since another program may listen at that address.
fn parse(answer: &str) -> Option<KubeProxyMode> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.lines().next()?.split(' ').nth(1)?;
    match (status, body.trim()) {
        ("200", "iptables") => Some(KubeProxyMode::Iptables),
        ("200", "ipvs") => Some(KubeProxyMode::Ipvs),
        ("200", "nftables") => Some(KubeProxyMode::Nftables),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_recognized_by_its_port_and_state() {
        let line = |local: &str, state: &str| {
            format!("   0: {local} 00000000:0000 {state} 00000000:00000000 00:0")
        };
        assert!(is_listener(&line("0100007F:2809", "0A")));
        assert!(!is_listener(&line("0100007F:2809", "01")));
        assert!(!is_listener(&line("0100007F:280A", "0A")));
        assert!(!is_listener(
            "  sl  local_address rem_address   st tx_queue rx_queue"
        ));
    }

    /// The response of a server that sends these bytes, one part each 50 ms, and then closes; and how long it took.
    fn response(parts: Vec<Vec<u8>>) -> (Option<String>, Duration) {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            assert!(stream.read(&mut request).unwrap() > 0);
            for part in parts {
                if stream.write_all(&part).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let start = Instant::now();
        let answer = get_proxy_mode(address);
        let took = start.elapsed();
        server.join().unwrap();
        (answer, took)
    }

    #[test]
    fn a_response_in_parts_is_read_to_its_end() {
        let (answer, _) = response(vec![b"HTTP/1.0 200 OK\r\n".to_vec(), b"\r\nipvs".to_vec()]);
        assert_eq!(parse(&answer.unwrap()), Some(KubeProxyMode::Ipvs));
    }

    #[test]
    fn a_response_without_an_end_is_given_up_by_time_and_by_length() {
        let (answer, took) = response(vec![b"x".to_vec(); 40]);
        assert_eq!(answer, None);
        assert!(took >= TIMEOUT && took < 5 * TIMEOUT, "took {took:?}");
        let (answer, _) = response(vec![vec![b'x'; 2 * MAX_RESPONSE]]);
        assert_eq!(answer, None);
    }

    #[test]
    fn only_a_plain_answer_of_kube_proxy_is_accepted() {
        let answer = |status: &str, body: &str| {
            format!("HTTP/1.0 {status} X\r\nContent-Type: text/plain\r\n\r\n{body}")
        };
        assert_eq!(
            parse(&answer("200", "iptables")),
            Some(KubeProxyMode::Iptables)
        );
        assert_eq!(
            parse(&answer("200", "nftables\n")),
            Some(KubeProxyMode::Nftables)
        );
        assert_eq!(parse(&answer("404", "iptables")), None);
        assert_eq!(parse(&answer("200", "<html>iptables</html>")), None);
        assert_eq!(parse("SSH-2.0-OpenSSH"), None);
    }
}
