//! Conntrack entries as messages of ctnetlink, written as the kernel writes them to `/proc/net/nf_conntrack`.
//!
//! A message is a `struct nfgenmsg` and attributes (`ctnetlink_fill_info`, net/netfilter/nf_conntrack_netlink.c; numbers in
//! include/uapi/linux/netfilter/nfnetlink_conntrack.h). Numbers in attributes are big-endian, their headers are not.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{TCP, TCP_STATES};

/// The families of `struct nfgenmsg` (`AF_INET`, `AF_INET6`).
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The length of `struct nfgenmsg`: family, version, resource.
const GENERIC_HEADER: usize = 4;
/// The length of `struct nlattr`: length and type.
const ATTRIBUTE_HEADER: usize = 4;
/// The bits of an attribute's type that are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const ATTRIBUTE_FLAGS: u16 = 0xc000;

/// Attributes of an entry (`enum ctattr_type`).
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOINFO: u16 = 4;
const TIMEOUT: u16 = 7;
const MARK: u16 = 8;
const COUNTERS_ORIG: u16 = 9;
const COUNTERS_REPLY: u16 = 10;
const USE: u16 = 11;
const ZONE: u16 = 18;

/// Attributes of a tuple (`enum ctattr_tuple`).
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const TUPLE_ZONE: u16 = 3;

/// Bits of the status (`enum ip_conntrack_status`, include/uapi/linux/netfilter/nf_conntrack_common.h).
const SEEN_REPLY: u32 = 1 << 1;
const ASSURED: u32 = 1 << 2;
const OFFLOAD: u32 = 1 << 14;
const HW_OFFLOAD: u32 = 1 << 15;

/// A message that is no conntrack entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of ctnetlink is no conntrack entry: {missing} is missing or has no known form")]
pub struct CtnetlinkError {
    /// The first part that was not found.
    missing: &'static str,
}

/// The line that `/proc/net/nf_conntrack` has for the entry of this message (`ct_seq_show`,
/// net/netfilter/nf_conntrack_standalone.c); [`ConntrackEntry::parse`](super::ConntrackEntry::parse) reads it.
pub fn line(message: &[u8]) -> Result<String, CtnetlinkError> {
    write(message).map_err(|missing| CtnetlinkError { missing })
}

fn write(message: &[u8]) -> Result<String, &'static str> {
    let family = *message.first().ok_or("the family")?;
    let entry = message.get(GENERIC_HEADER..).ok_or("the family")?;
    let (family, number) = match family {
        AF_INET => ("ipv4", AF_INET),
        AF_INET6 => ("ipv6", AF_INET6),
        _ => return Err("the family"),
    };
    let original = find(entry, TUPLE_ORIG).ok_or("the original tuple")?;
    let reply = find(entry, TUPLE_REPLY).ok_or("the reply tuple")?;
    let protocol = find(original, TUPLE_PROTO).and_then(|proto| find(proto, 1));
    let protocol = *protocol.and_then(<[u8]>::first).ok_or("the protocol")?;
    let status = find(entry, STATUS).and_then(be32).ok_or("the status")?;
    let mut words = Vec::new();
    if status & OFFLOAD == 0 {
        let timeout = find(entry, TIMEOUT).and_then(be32);
        words.extend(timeout.map(|seconds| seconds.to_string()));
    }
    if protocol == TCP {
        let tcp = find(entry, PROTOINFO).and_then(|info| find(info, 1));
        let state = tcp.and_then(|tcp| find(tcp, 1)?.first());
        let state = state.and_then(|&state| TCP_STATES.get(usize::from(state)));
        let (name, _) = state.ok_or("the TCP state")?;
        words.push((*name).to_owned());
    }
    words.extend(tuple(original, "zone-orig")?);
    words.extend(counters(entry, COUNTERS_ORIG));
    words.extend((status & SEEN_REPLY == 0).then(|| "[UNREPLIED]".to_owned()));
    words.extend(tuple(reply, "zone-reply")?);
    words.extend(counters(entry, COUNTERS_REPLY));
    let flags = [
        (HW_OFFLOAD, "[HW_OFFLOAD]"),
        (OFFLOAD, "[OFFLOAD]"),
        (ASSURED, "[ASSURED]"),
    ];
    let flag = flags.iter().find(|(bit, _)| status & bit != 0);
    words.extend(flag.map(|(_, word)| (*word).to_owned()));
    // A message has no mark where it is 0 and no zone where it is the default one; a line has both.
    let mark = find(entry, MARK).and_then(be32).unwrap_or_default();
    let zone = find(entry, ZONE).and_then(be16).unwrap_or_default();
    words.push(format!("mark={mark} zone={zone}"));
    let references = find(entry, USE).and_then(be32);
    words.extend(references.map(|references| format!("use={references}")));
    let name = protocol_name(protocol);
    let words = words.join(" ");
    Ok(format!("{family:<8} {number} {name:<8} {protocol} {words}"))
}

/// The names of protocols in lines (`l4proto_name`, net/netfilter/nf_conntrack_standalone.c).
const fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        1 => "icmp",
        TCP => "tcp",
        17 => "udp",
        33 => "dccp",
        47 => "gre",
        58 => "icmpv6",
        132 => "sctp",
        136 => "udplite",
        _ => "unknown",
    }
}

/// The words of a tuple; `zone` is the word for a zone of this direction alone.
fn tuple(tuple: &[u8], zone: &str) -> Result<Vec<String>, &'static str> {
    let addresses = find(tuple, TUPLE_IP).ok_or("an address")?;
    let v4 = |kind| find(addresses, kind).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let v6 = |kind| find(addresses, kind).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    let v4_text = |kind| v4(kind).map(|address| Ipv4Addr::from(address).to_string());
    let v6_text = |kind| v6(kind).map(full);
    let (source, destination) = (v4_text(1).zip(v4_text(2)))
        .or_else(|| v6_text(3).zip(v6_text(4)))
        .ok_or("an address")?;
    let mut words = vec![format!("src={source}"), format!("dst={destination}")];
    let port = |kind| find(find(tuple, TUPLE_PROTO)?, kind).and_then(be16);
    if let Some((source, destination)) = port(2).zip(port(3)) {
        words.push(format!("sport={source}"));
        words.push(format!("dport={destination}"));
    }
    let id = find(tuple, TUPLE_ZONE).and_then(be16);
    words.extend(id.map(|id| format!("{zone}={id}")));
    Ok(words)
}

/// An IPv6 address as the kernel writes it in lines: every digit (`%pI6`).
fn full(address: [u8; 16]) -> String {
    let segments = Ipv6Addr::from(address).segments();
    segments.map(|segment| format!("{segment:04x}")).join(":")
}

/// The packets and bytes of a direction, where the kernel counts them.
fn counters(entry: &[u8], direction: u16) -> Option<String> {
    let counted = |kind| {
        let bytes = find(find(entry, direction)?, kind)?;
        bytes.try_into().ok().map(u64::from_be_bytes)
    };
    let (packets, bytes) = counted(1).zip(counted(2))?;
    Some(format!("packets={packets} bytes={bytes}"))
}

/// The content of the first attribute of this type.
fn find(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    loop {
        let (header, _) = rest.split_first_chunk::<ATTRIBUTE_HEADER>()?;
        let [low, high, kind_low, kind_high] = *header;
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let kind = u16::from_ne_bytes([kind_low, kind_high]) & !ATTRIBUTE_FLAGS;
        // A length that includes no header, or more than there is, ends the list.
        let content = rest.get(ATTRIBUTE_HEADER..length)?;
        if kind == wanted {
            return Some(content);
        }
        // Attributes are aligned to four bytes; the last one may lack its padding.
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn be16(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_be_bytes)
}

fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{ConntrackEntry, TcpState};
    use super::*;

    /// An attribute, with its padding.
    fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(ATTRIBUTE_HEADER + content.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn tuple_of(addresses: [&[u8]; 2], ports: (u16, u16), more: &[u8]) -> Vec<u8> {
        let first = if addresses[0].len() == 4 { 1 } else { 3 };
        let ip = [
            attribute(first, addresses[0]),
            attribute(first + 1, addresses[1]),
        ]
        .concat();
        let proto = [
            attribute(1, &[TCP]),
            attribute(2, &ports.0.to_be_bytes()),
            attribute(3, &ports.1.to_be_bytes()),
        ]
        .concat();
        let nested = 0x8000;
        [
            attribute(TUPLE_IP | nested, &ip),
            attribute(TUPLE_PROTO | nested, &proto),
            more.to_vec(),
        ]
        .concat()
    }

    /// An entry of TCP in this state, with more attributes behind.
    fn message(family: u8, tuples: &[Vec<u8>; 2], status: u32, state: u8, more: &[u8]) -> Vec<u8> {
        let tcp = attribute(1, &attribute(1, &[state]));
        [
            vec![family, 0, 0, 0],
            attribute(TUPLE_ORIG, &tuples[0]),
            attribute(TUPLE_REPLY, &tuples[1]),
            attribute(STATUS, &status.to_be_bytes()),
            attribute(PROTOINFO, &tcp),
            attribute(TIMEOUT, &117_u32.to_be_bytes()),
            attribute(USE, &1_u32.to_be_bytes()),
            more.to_vec(),
        ]
        .concat()
    }

    const CLIENT: &[u8] = &[100, 96, 1, 10];
    const SERVICE: &[u8] = &[100, 67, 30, 133];
    const SERVER: &[u8] = &[100, 96, 2, 20];

    fn unreplied(status: u32, more: &[u8]) -> Vec<u8> {
        let original = tuple_of([CLIENT, SERVICE], (61_000, 80), &[]);
        let reply = tuple_of([SERVER, CLIENT], (8080, 61_000), &[]);
        message(2, &[original, reply], status, 1, more)
    }

    #[test]
    fn an_entry_without_an_answer_is_the_line_of_the_file() {
        let line = line(&unreplied(8, &[])).unwrap();
        assert_eq!(
            line,
            "ipv4     2 tcp      6 117 SYN_SENT src=100.96.1.10 dst=100.67.30.133 sport=61000 dport=80 [UNREPLIED] src=100.96.2.20 dst=100.96.1.10 sport=8080 dport=61000 mark=0 zone=0 use=1"
        );
        let entry = ConntrackEntry::parse(&line).unwrap();
        assert_eq!(entry.tcp_state, Some(TcpState::SynSent));
        assert_eq!((entry.is_replied, entry.is_assured), (false, false));
    }

    #[test]
    fn marks_zones_counters_and_flags_are_written() {
        let counted = [
            attribute(1, &3_u64.to_be_bytes()),
            attribute(2, &180_u64.to_be_bytes()),
        ]
        .concat();
        let more = [
            attribute(MARK, &0x4000_u32.to_be_bytes()),
            attribute(ZONE, &7_u16.to_be_bytes()),
            attribute(COUNTERS_ORIG, &counted),
        ]
        .concat();
        let replied = line(&unreplied(SEEN_REPLY | ASSURED, &more)).unwrap();
        assert!(
            replied.contains("dport=80 packets=3 bytes=180 src="),
            "{replied}"
        );
        assert!(
            replied.ends_with("dport=61000 [ASSURED] mark=16384 zone=7 use=1"),
            "{replied}"
        );
        let offloaded = line(&unreplied(SEEN_REPLY | ASSURED | OFFLOAD, &[])).unwrap();
        assert!(offloaded.contains("6 SYN_SENT src="), "{offloaded}");
        assert!(offloaded.contains(" [OFFLOAD] mark"), "{offloaded}");
    }

    #[test]
    fn an_address_of_ipv6_has_every_digit() {
        let one = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 1).octets();
        let two = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 2).octets();
        let zone = attribute(TUPLE_ZONE, &5_u16.to_be_bytes());
        let tuples = [
            tuple_of([&one, &two], (1, 2), &zone),
            tuple_of([&two, &one], (2, 1), &[]),
        ];
        let line = line(&message(10, &tuples, SEEN_REPLY, 2, &[])).unwrap();
        let address = "src=fd00:0010:0000:0000:0000:0000:0000:0001";
        assert!(
            line.starts_with("ipv6     10 tcp      6 117 SYN_RECV "),
            "{line}"
        );
        assert!(line.contains(address), "{line}");
        assert!(line.contains("dport=2 zone-orig=5 src="), "{line}");
        let entry = ConntrackEntry::parse(&line).unwrap();
        assert_eq!(entry.original.source, std::net::IpAddr::from(one));
    }

    #[test]
    fn what_is_no_entry_is_an_error_that_says_what_is_missing() {
        let missing = |bytes: &[u8]| line(bytes).unwrap_err().missing;
        assert_eq!(missing(&[]), "the family");
        assert_eq!(missing(&[7, 0, 0, 0]), "the family");
        assert_eq!(missing(&[2, 0, 0, 0]), "the original tuple");
        let whole = unreplied(8, &[]);
        assert_eq!(missing(&whole[..60]), "the reply tuple");
        let original = tuple_of([CLIENT, SERVICE], (1, 2), &[]);
        let state = message(2, &[original.clone(), original], 8, 10, &[]);
        assert_eq!(missing(&state), "the TCP state");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_entry_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(line(&bytes));
        }

        #[test]
        fn an_entry_with_changed_bytes_is_one_that_parses_or_an_error(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            length in any::<prop::sample::Index>(),
            is_cut: bool,
        ) {
            let mut bytes = unreplied(8, &attribute(MARK, &[0, 0, 0, 1]));
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if is_cut {
                bytes.truncate(length.index(bytes.len()));
            }
            if let Ok(line) = line(&bytes) {
                // A protocol with a family or state of its own may be one that lines have no words for.
                drop(ConntrackEntry::parse(&line));
            }
        }
    }
}
