//! A port with RST suppression keeps the kernel's RST away; an ordinary one does not.
use std::net::{SocketAddr, TcpListener};

use prober_core::packet::family::Family;
use prober_net::packet_socket::FrameKind;
use prober_net::raw_engine::send::RawSender;
use prober_net::rst_suppression::{SuppressedPort, SuppressedPorts, SuppressionMethod};

use crate::capture::{await_frame, capture};
use crate::namespace::{Namespace, Pair, address};
use crate::packets::{RST, SYN, SYN_ACK, Tcp, tcp};

/// Sends a crafted SYN to a listening server and returns whether the client's kernel answers the SYN+ACK with RST. Either the
/// RST comes, or, since the server received neither ACK nor RST, its SYN+ACK again after a second.
fn kernel_resets(pair: &Pair, client: &str, server: &str, port: u16) -> bool {
    let (from, to) = (
        SocketAddr::new(address(client), port),
        SocketAddr::new(address(server), 8080),
    );
    let mut at_client = capture(&pair.client, port);
    let _listener = pair.server.run(move || TcpListener::bind(to).unwrap());
    let mut sender = pair.client.run(|| RawSender::open().unwrap());
    assert_eq!(sender.send(&[tcp(from, to, SYN, 1)]), []);
    let mut answers = 0;
    let reset = await_frame(&mut at_client, |frame| {
        let tcp = Tcp::read(frame.packet())?;
        if tcp.flags == SYN_ACK {
            assert_eq!((frame.kind, tcp.acknowledged), (FrameKind::ToHost, 2));
            answers += 1;
        }
        let reset = frame.kind == FrameKind::Outgoing && tcp.flags & RST != 0;
        (reset || answers == 2).then_some(reset)
    });
    reset.expect("a RST or a second answer comes")
}

#[test]
fn without_suppression_the_kernel_resets_a_crafted_handshake() {
    let Some(pair) = Pair::new() else { return };
    assert!(kernel_resets(&pair, Pair::CLIENT, Pair::SERVER, 41001));
    assert!(kernel_resets(&pair, Pair::CLIENT6, Pair::SERVER6, 41002));
}

#[test]
fn with_suppression_it_does_not_by_either_method_in_either_family() {
    let Some(pair) = Pair::new() else { return };
    for method in [SuppressionMethod::MinimumTtl, SuppressionMethod::Filter] {
        for (family, client, server) in [
            (Family::Ipv4, Pair::CLIENT, Pair::SERVER),
            (Family::Ipv6, Pair::CLIENT6, Pair::SERVER6),
        ] {
            let suppressed = pair.client.run(move || {
                SuppressedPort::reserve_by(family, 0, &[method])
                    .unwrap()
                    .unwrap()
            });
            assert_eq!(suppressed.method(), method);
            assert!(
                !kernel_resets(&pair, client, server, suppressed.port()),
                "{method:?} {family}"
            );
        }
    }
}

#[test]
fn ports_in_use_are_left_out_and_too_few_are_an_error() {
    let Some(alone) = Namespace::new() else {
        return;
    };
    let (ports, error) = alone.run(|| {
        let _taken = TcpListener::bind("0.0.0.0:42001").unwrap();
        let both = [Family::Ipv4, Family::Ipv6];
        let suppressed = SuppressedPorts::reserve(&both, 42000..=42003, 3).unwrap();
        let error = SuppressedPorts::reserve(&both, 42000..=42003, 1)
            .unwrap_err()
            .to_string();
        (suppressed.ports(), error)
    });
    assert_eq!(ports, [42000, 42002, 42003]);
    assert!(
        error.contains("1 ipv4 ports between 42000 and 42003: only 0 are free"),
        "{error}"
    );
}

#[test]
fn without_any_method_the_error_says_that_only_half_open_probes_are_possible() {
    let Some(alone) = Namespace::new() else {
        return;
    };
    let error = alone.run(|| {
        SuppressedPort::reserve_by(Family::Ipv4, 0, &[])
            .unwrap_err()
            .to_string()
    });
    assert!(error.contains("only half-open probes"), "{error}");
}
