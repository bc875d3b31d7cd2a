//! Fuzz targets: parsers of untrusted bytes, and the invariants of their results.
//!
//! Each function takes the bytes of one case and panics where an invariant does not hold. `fuzz/` calls them with generated
//! bytes; the test `corpus` calls them with the files of `corpora/`.

/// Capture files, frames and datagrams.
mod capture;
/// Compressed files.
mod compressed;
/// The evidence of a run, which is diagnosed.
mod evidence;
/// Standing plans, and banners.
mod standing;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use prober_core::diagnosis::diagnose;
use prober_core::node_facts::ConntrackEntry;
use prober_core::packet::capture::{CommentedPacket, InterfacePackets, read, write_pcapng};
use prober_core::packet::observation::{Direction, Observation};
use prober_core::packet::{
    Body, Checksum, ChecksumMode, Icmp, Ip, LinkType, Packet, Quoted, Tcp, TcpSegment, craft,
    parse_frame, rebuild,
};
use prober_core::plan::{AllowedTargets, Plan};
use prober_core::probe::event::Event;
use prober_core::time::Timestamp;
use prober_core::topology::AgentId;

pub use capture::{capture, datagram, layers};
pub use compressed::compressed;
pub use evidence::evidence;
pub use standing::{banner, standing_plan};

/// The result of one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaseResult {
    /// It parses, and all invariants hold.
    Accepted,
    /// It is rejected by a typed error.
    Rejected,
}

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct FuzzTarget {
    /// Its name, also of the file in `fuzz/fuzz_targets` and of the folder in `tests/corpora`.
    pub name: &'static str,
    /// Runs one case.
    pub run: fn(&[u8]) -> CaseResult,
}

/// All fuzz targets.
pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "wire",
        run: wire,
    },
    FuzzTarget {
        name: "replay",
        run: replay,
    },
    FuzzTarget {
        name: "capture",
        run: capture,
    },
    FuzzTarget {
        name: "layers",
        run: layers,
    },
    FuzzTarget {
        name: "datagram",
        run: datagram,
    },
    FuzzTarget {
        name: "compressed",
        run: compressed,
    },
    FuzzTarget {
        name: "plan",
        run: plan,
    },
    FuzzTarget {
        name: "agent_line",
        run: agent_line,
    },
    FuzzTarget {
        name: "conntrack",
        run: conntrack,
    },
    FuzzTarget {
        name: "evidence",
        run: evidence,
    },
    FuzzTarget {
        name: "standing_plan",
        run: standing_plan,
    },
    FuzzTarget {
        name: "banner",
        run: banner,
    },
];

/// A frame from the network: the first byte is the link type, the others are the frame. It is rejected, or parses as a
/// packet that is not larger than the frame, and is the same when it is crafted and parsed again.
///
/// # Panics
///
/// Where the packet is not the same when it is written as JSON, or crafted, and read again.
pub fn wire(data: &[u8]) -> CaseResult {
    let Some((link, frame)) = data.split_first() else {
        return CaseResult::Rejected;
    };
    let link = match link {
        0 => LinkType::Ethernet,
        1 => LinkType::LinuxSll,
        2 => LinkType::LinuxSll2,
        _ => LinkType::Raw,
    };
    let parsed = match parse_frame(link, frame, ChecksumMode::Verify) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert_eq!(
                parse_frame(link, frame, ChecksumMode::Trust),
                Err(error),
                "checksums decide what is a packet"
            );
            return CaseResult::Rejected;
        }
    };
    assert!(
        parsed.payload.len() <= frame.len(),
        "a payload longer than its frame"
    );
    let written = serde_json::to_string(&parsed.packet)
        .unwrap_or_else(|error| panic!("write {parsed:?}: {error}"));
    let again: Packet =
        serde_json::from_str(&written).unwrap_or_else(|error| panic!("read {written}: {error}"));
    assert_eq!(parsed.packet, again);
    rebuild_again(&parsed.packet);
    if let Some((ip, tcp)) = parsed.packet.tcp() {
        assert!(
            parsed.payload.len() <= tcp.payload_len as usize,
            "more payload than the headers say"
        );
        craft_again(ip, tcp, parsed.payload);
    }
    CaseResult::Accepted
}

/// Writes the packet as a capture does, and parses it: all but the checksums of what is not kept, a payload and the rest of
/// a quoted packet, must be the same.
fn rebuild_again(packet: &Packet) {
    let link = LinkType::of(packet);
    // A capture of raw IP has no place for ARP.
    let Ok(frame) = rebuild(packet, link) else {
        return;
    };
    let again = parse_frame(link, &frame.bytes, ChecksumMode::Trust)
        .unwrap_or_else(|error| panic!("{packet:?}: {error}"));
    assert_eq!(unsummed(packet), unsummed(&again.packet));
}

/// The packet without what is known of its checksum, and of that of the packet that it quotes.
fn unsummed(packet: &Packet) -> Packet {
    let body = match packet.body {
        Body::Tcp(ip, tcp) => Body::Tcp(
            ip,
            Tcp {
                checksum: Checksum::Unknown,
                ..tcp
            },
        ),
        Body::Icmp(ip, icmp) => Body::Icmp(
            ip,
            Icmp {
                quoted: icmp.quoted.map(|quoted| Quoted {
                    checksum: Checksum::Unknown,
                    ..quoted
                }),
                ..icmp
            },
        ),
        body @ Body::Resolution(_) => body,
    };
    Packet { body, ..*packet }
}

/// Crafts the segment that was parsed, and parses it: all fields but those that a cut frame does not have must be the same.
fn craft_again(ip: &Ip, tcp: &Tcp, payload: &[u8]) {
    let segment = TcpSegment {
        src: SocketAddr::new(ip.src, tcp.src_port),
        dst: SocketAddr::new(ip.dst, tcp.dst_port),
        hop_limit: ip.hop_limit,
        ident: ip.ident,
        seq: tcp.seq,
        ack: tcp.ack,
        flags: tcp.flags,
        window: tcp.window,
        options: tcp.options,
        payload: payload.to_vec(),
    };
    let mut bytes = Vec::new();
    // Only its length can make a parsed segment one that cannot be crafted.
    if craft(&segment, &mut bytes).is_err() {
        assert!(
            payload.len() > 60_000,
            "{segment:?} was parsed and cannot be crafted"
        );
        return;
    }
    let again = parse_frame(LinkType::Raw, &bytes, ChecksumMode::Verify)
        .unwrap_or_else(|error| panic!("{segment:?}: {error}"));
    let payload_len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let tcp = Tcp {
        checksum: Checksum::Valid,
        payload_len,
        ..*tcp
    };
    assert_eq!(
        again.packet,
        Packet {
            link: None,
            body: Body::Tcp(*ip, tcp)
        }
    );
    assert_eq!(again.payload, payload);
}

/// An arbitrary capture file. It is rejected, or its packets are the same when they are written to a capture and read
/// again, and a diagnosis of them succeeds.
///
/// # Panics
///
/// Where a packet has no interface, or is lost or changed by writing and reading it, or where a diagnosis names a path that
/// does not exist.
pub fn replay(data: &[u8]) -> CaseResult {
    let Ok(capture) = read(data) else {
        return CaseResult::Rejected;
    };
    let matrix = prober_core::replay::replay(std::slice::from_ref(&capture)).matrix;
    for diagnosis in diagnose(&matrix) {
        assert!(
            diagnosis
                .paths
                .iter()
                .all(|path| matrix.paths.contains_key(path)),
            "{diagnosis:?} is about a path that was not replayed"
        );
    }
    let mut seen: Vec<Vec<Observation>> = vec![Vec::new(); capture.interfaces.len()];
    for captured in &capture.packets {
        let Some(interface) = seen.get_mut(captured.interface) else {
            panic!(
                "a packet of interface {} of {}",
                captured.interface,
                capture.interfaces.len()
            );
        };
        interface.push(Observation {
            at: captured.at,
            direction: captured.direction.unwrap_or(Direction::Received),
            packet: captured.packet,
        });
    }
    let commented = |observation| CommentedPacket {
        observation,
        comment: "fuzzed".into(),
    };
    let views: Vec<InterfacePackets<'_>> = seen
        .iter()
        .map(|packets| InterfacePackets {
            interface: "eth0".to_owned(),
            packets: packets.iter().map(commented).collect(),
        })
        .collect();
    let Ok(written) = write_pcapng(&views) else {
        return CaseResult::Accepted;
    };
    let again = read(&written).unwrap_or_else(|error| panic!("read what was written: {error}"));
    let summary = |at: Timestamp, packet: &Packet| format!("{at:?} {:?}", unsummed(packet));
    let mut before: Vec<String> = seen
        .iter()
        .flatten()
        .map(|seen| summary(seen.at, &seen.packet))
        .collect();
    let mut after: Vec<String> = again
        .packets
        .iter()
        .map(|read| summary(read.at, &read.packet))
        .collect();
    before.sort();
    after.sort();
    assert_eq!(before, after);
    CaseResult::Accepted
}

/// An arbitrary plan file of an agent: it is rejected, or accepted without change.
///
/// # Panics
///
/// Where an accepted plan has a target that is not allowed, or is not the same when it is written and read again.
pub fn plan(data: &[u8]) -> CaseResult {
    let agent = AgentId::new("node-1", "client");
    let allowed = AllowedTargets::new(vec![prefix("100.64.0.0/10"), prefix("fd00::/8")]);
    let Ok(plan) = Plan::parse(data, &agent, &allowed) else {
        return CaseResult::Rejected;
    };
    for probe in &plan.probes {
        let is_allowed = match probe.target.ip() {
            IpAddr::V4(ip) => ip & Ipv4Addr::new(255, 192, 0, 0) == Ipv4Addr::new(100, 64, 0, 0),
            IpAddr::V6(ip) => {
                ip & Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)
                    == Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0)
            }
        };
        assert!(
            is_allowed,
            "a plan that probes {} was accepted",
            probe.target
        );
    }
    let written =
        serde_json::to_vec(&plan).unwrap_or_else(|error| panic!("write {plan:?}: {error}"));
    let again = Plan::parse(&written, &agent, &allowed)
        .unwrap_or_else(|error| panic!("read {plan:?} again: {error}"));
    assert_eq!(plan, again);
    CaseResult::Accepted
}

/// A line of an agent's log: it is rejected, or is the same when it is written and read again.
///
/// # Panics
///
/// Where an accepted line differs when it is written and read again.
pub fn agent_line(data: &[u8]) -> CaseResult {
    let Ok(text) = std::str::from_utf8(data) else {
        return CaseResult::Rejected;
    };
    let event = match Event::parse(text) {
        Ok(event) => event,
        Err(error) => {
            assert!(
                error.to_string().len() < 2_000,
                "a message repeats the whole line"
            );
            return CaseResult::Rejected;
        }
    };
    if let Event::Tally(tally) = &event {
        let mut twice = tally.outcomes;
        twice.add(&tally.outcomes);
        assert!(twice.total() >= tally.outcomes.total());
        let quantile = |q: f64| tally.rtt.quantile(q);
        assert!(
            quantile(0.5) <= quantile(0.99),
            "the median is above the 99th percentile"
        );
    }
    let line = event.to_line();
    assert!(!line.contains('\n'), "an event takes more than one line");
    let again = Event::parse(&line).unwrap_or_else(|error| panic!("read {line} again: {error}"));
    assert_eq!(line, again.to_line());
    CaseResult::Accepted
}

/// A line of `/proc/net/nf_conntrack`: it is rejected, or an entry that keeps the line and has a TCP state if it is of TCP.
///
/// # Panics
///
/// Where an entry differs when it is written and read again.
pub fn conntrack(data: &[u8]) -> CaseResult {
    let line = String::from_utf8_lossy(data);
    let Ok(entry) = ConntrackEntry::parse(&line) else {
        return CaseResult::Rejected;
    };
    assert!(
        line.starts_with(&entry.line),
        "{line} became {}",
        entry.line
    );
    assert_eq!(ConntrackEntry::parse(&entry.line), Ok(entry.clone()));
    assert_eq!(entry.is_tcp(), entry.tcp_state.is_some());
    CaseResult::Accepted
}

fn prefix(text: &str) -> IpNet {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}
