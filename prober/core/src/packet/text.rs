//! Packets as text like tcpdump's, formatted and parsed. Tests and the samples of a diagnosis use it.
//!
//! One packet per line, with milliseconds since the first; `>` is sent by the observer, `<` received, `~` overheard.
//! Sequence numbers near an initial one are relative to its name:
//!
//! ```text
//! C = 0x10000000
//! S = 0x20000000
//!      0.000 > 100.96.54.240:41000 > 100.67.30.133:80 [S] seq C win 64240 ttl 64
//!      0.041 < 100.96.54.247:80 > 100.96.54.240:41000 [S.] seq S ack C+1 win 64240 ttl 64
//!      0.052 > 100.96.54.240:41000 > 100.96.54.247:80 [R] seq C+1 win 0 ttl 64
//!      1.207 < ICMP time exceeded (11/0) from 10.0.0.1 to 10.0.0.2 ttl 64, quotes 10.0.0.2:41000 > 10.9.9.9:80 seq C ttl 1
//!      2.113 ~ ARP who-has 10.0.0.9 tell 10.0.0.1 at 02:00:00:00:00:01
//! ```
//!
//! Fields that are zero or unknown are left out, and so are the absolute time and whether a right checksum was verified.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::packet::observation::{Direction, Observation};
use crate::packet::{
    Body, Checksum, EthernetAddresses, Icmp, IcmpKind, Ip, Packet, Quoted, Resolution,
    ResolutionKind, Seq, Tcp, TcpFlags, TcpOptions, Unreachable,
};
use crate::time::nanos;

pub use parse::{PacketTextError, parse_packet_text};

/// Parsing of whole texts.
mod parse;
/// Parsing of single words.
mod token;

/// Letters of the TCP flags, from the lowest bit, as tcpdump writes them.
const FLAG_LETTERS: &str = "FSRP.UEW";

/// Maximum distance from an initial sequence number that is written relative to its name.
const NAMED_WITHIN: u32 = 100_000_000;

/// Observations that display as text.
#[derive(Clone, Copy, Debug)]
pub struct PacketText<'a>(pub &'a [Observation]);

impl fmt::Display for PacketText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = IsnNames::of(self.0);
        for (name, seq) in &names.0 {
            writeln!(f, "{name} = {:#010x}", seq.0)?;
        }
        let start = self.0.iter().map(|seen| seen.at).min().unwrap_or_default();
        for seen in self.0 {
            let at = nanos(seen.at.since(start));
            let (whole, part) = (at / 1_000_000, at % 1_000_000);
            if part % 1000 == 0 {
                write!(f, "{whole:>6}.{:03}", part / 1000)?;
            } else {
                write!(f, "{whole:>6}.{part:06}")?;
            }
            let arrow = match seen.direction {
                Direction::Sent => '>',
                Direction::Received => '<',
                Direction::Overheard => '~',
            };
            writeln!(f, " {arrow} {}", PacketLine(&seen.packet, &names))?;
        }
        Ok(())
    }
}

/// The initial sequence numbers by name: `C`, `C2`... of SYNs, `S`, `S2`... of SYN+ACKs.
struct IsnNames(Vec<(String, Seq)>);

impl IsnNames {
    fn of(observations: &[Observation]) -> Self {
        let mut names = Vec::new();
        let (mut clients, mut servers) = (0, 0);
        for (_, tcp) in observations.iter().filter_map(|seen| seen.packet.tcp()) {
            let (letter, count) = if tcp.flags.is_syn() {
                ('C', &mut clients)
            } else if tcp.flags.is_syn_ack() {
                ('S', &mut servers)
            } else {
                continue;
            };
            if names.iter().any(|(_, seq)| *seq == tcp.seq) {
                continue;
            }
            *count += 1;
            let name = match *count {
                1 => letter.to_string(),
                more => format!("{letter}{more}"),
            };
            names.push((name, tcp.seq));
        }
        Self(names)
    }

    fn show(&self, seq: Seq) -> impl fmt::Display {
        let nearest = self
            .0
            .iter()
            .map(|(name, isn)| (seq.0.wrapping_sub(isn.0), name))
            .filter(|(offset, _)| *offset <= NAMED_WITHIN)
            .min_by_key(|(offset, _)| *offset);
        match nearest {
            Some((0, name)) => name.clone(),
            Some((offset, name)) => format!("{name}+{offset}"),
            None => format!("{:#x}", seq.0),
        }
    }
}

/// One packet, without time and direction.
struct PacketLine<'a>(&'a Packet, &'a IsnNames);

impl fmt::Display for PacketLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(packet, names) = self;
        match &packet.body {
            Body::Tcp(ip, tcp) => write_tcp(f, ip, tcp, names)?,
            Body::Icmp(ip, message) => write_icmp(f, ip, message, names)?,
            Body::Resolution(resolution) => write_resolution(f, resolution)?,
        }
        if let Some(EthernetAddresses { src, dst }) = packet.link {
            write!(f, " smac {src}")?;
            if let Some(dst) = dst {
                write!(f, " dmac {dst}")?;
            }
        }
        Ok(())
    }
}

fn write_tcp(f: &mut fmt::Formatter<'_>, ip: &Ip, tcp: &Tcp, names: &IsnNames) -> fmt::Result {
    let src = SocketAddr::new(ip.src, tcp.src_port);
    let dst = SocketAddr::new(ip.dst, tcp.dst_port);
    write!(f, "{src} > {dst} [")?;
    let set = |bit: usize| tcp.flags.0 >> bit & 1 == 1;
    for (_, letter) in FLAG_LETTERS
        .chars()
        .enumerate()
        .filter(|(bit, _)| set(*bit))
    {
        write!(f, "{letter}")?;
    }
    write!(f, "] seq {}", names.show(tcp.seq))?;
    if tcp.flags.has(TcpFlags::ACK) || tcp.ack != Seq(0) {
        write!(f, " ack {}", names.show(tcp.ack))?;
    }
    write!(f, " win {}", tcp.window)?;
    write_options(f, &tcp.options)?;
    if tcp.payload_len != 0 {
        write!(f, " length {}", tcp.payload_len)?;
    }
    write!(f, " ttl {}", ip.hop_limit)?;
    write_ident(f, ip)?;
    match tcp.checksum {
        Checksum::Valid | Checksum::Unknown => Ok(()),
        Checksum::Invalid => f.write_str(" bad-checksum"),
    }
}

fn write_ident(f: &mut fmt::Formatter<'_>, ip: &Ip) -> fmt::Result {
    match ip.ident {
        0 => Ok(()),
        ident => write!(f, " id {ident}"),
    }
}

fn write_options(f: &mut fmt::Formatter<'_>, options: &TcpOptions) -> fmt::Result {
    let stated = [
        options.mss.map(|mss| format!("mss={mss}")),
        options.sack_permitted.then(|| "sackOK".to_owned()),
        options
            .timestamps
            .map(|(value, echo)| format!("TS={value}/{echo}")),
        options.window_scale.map(|shift| format!("wscale={shift}")),
    ];
    let stated: Vec<String> = stated.into_iter().flatten().collect();
    if stated.is_empty() {
        return Ok(());
    }
    write!(f, " options {}", stated.join(","))
}

fn write_icmp(
    f: &mut fmt::Formatter<'_>,
    ip: &Ip,
    message: &Icmp,
    names: &IsnNames,
) -> fmt::Result {
    let (icmp_type, code) = message.type_code;
    f.write_str("ICMP ")?;
    match message.kind {
        IcmpKind::Unreachable { reason } => f.write_str(unreachable_words(reason))?,
        IcmpKind::TimeExceeded => f.write_str("time exceeded")?,
        IcmpKind::PacketTooBig { mtu } => write!(f, "packet too big, mtu {mtu}")?,
        IcmpKind::Redirect { gateway } => write!(f, "redirect to {gateway}")?,
        IcmpKind::Other => f.write_str("message")?,
    }
    write!(f, " ({icmp_type}/{code}) from {} to {}", ip.src, ip.dst)?;
    write!(f, " ttl {}", ip.hop_limit)?;
    write_ident(f, ip)?;
    if let Some(Quoted {
        src,
        dst,
        hop_limit,
        seq,
        checksum,
    }) = message.quoted
    {
        write!(f, ", quotes {src} > {dst} seq {}", names.show(seq))?;
        write!(f, " ttl {hop_limit}")?;
        if checksum == Checksum::Invalid {
            f.write_str(" bad-checksum")?;
        }
    }
    Ok(())
}

const fn unreachable_words(reason: Unreachable) -> &'static str {
    match reason {
        Unreachable::Network => "net unreachable",
        Unreachable::Host => "host unreachable",
        Unreachable::Port => "port unreachable",
        Unreachable::Prohibited => "prohibited",
        Unreachable::Other => "unreachable",
    }
}

fn write_resolution(f: &mut fmt::Formatter<'_>, resolution: &Resolution) -> fmt::Result {
    let Resolution {
        kind,
        sender,
        sender_mac,
        target,
    } = resolution;
    let protocol = match target {
        IpAddr::V4(_) => "ARP",
        IpAddr::V6(_) => "ND",
    };
    match kind {
        ResolutionKind::Request => write!(f, "{protocol} who-has {target} tell {sender}")?,
        ResolutionKind::Reply => write!(f, "{protocol} reply {target} says {sender}")?,
    }
    match sender_mac {
        Some(mac) => write!(f, " at {mac}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::arbitrary::packet;
    use crate::time::Timestamp;

    fn observation() -> impl Strategy<Value = Observation> {
        let direction = prop_oneof![
            Just(Direction::Sent),
            Just(Direction::Received),
            Just(Direction::Overheard),
        ];
        (0..10_000_000_000_u64, direction, packet()).prop_map(|(at, direction, packet)| {
            Observation {
                at: Timestamp::from_nanos(at),
                direction,
                packet,
            }
        })
    }

    /// The observation as its text keeps it.
    fn stated(mut seen: Observation, start: Timestamp) -> Observation {
        seen.at = Timestamp::from_nanos(nanos(seen.at.since(start)));
        if let Body::Tcp(_, tcp) = &mut seen.packet.body
            && tcp.checksum == Checksum::Valid
        {
            tcp.checksum = Checksum::Unknown;
        }
        seen
    }

    proptest! {
        #[test]
        fn formatted_packets_parse_back(
            observations in prop::collection::vec(observation(), 0..8),
        ) {
            let text = PacketText(&observations).to_string();
            let start = observations.iter().map(|seen| seen.at).min().unwrap_or_default();
            let expected: Vec<_> = observations.iter().map(|seen| stated(*seen, start)).collect();
            prop_assert_eq!(parse_packet_text(&text).unwrap(), expected, "{}", text);
        }

        #[test]
        fn any_text_parses_or_fails(text in "[ -~\n]{0,120}") {
            if let Ok(observations) = parse_packet_text(&text) {
                prop_assert!(observations.len() <= text.lines().count());
            }
        }
    }

    const INCIDENT: &str = "\
C = 0x10000000
S = 0x20000000
S2 = 0x20f00000
     0.000 > 100.96.54.240:41000 > 100.67.30.133:80 [S] seq C win 64240 options mss=1460,sackOK,TS=1/0,wscale=7 ttl 64 id 7 smac 0a:58:64:60:36:f0 dmac 0a:58:64:60:36:01
     0.041 < 100.96.54.247:80 > 100.96.54.240:41000 [S.] seq S ack C+1 win 65160 ttl 64 smac 0a:58:64:60:36:f7 dmac 0a:58:64:60:36:f0
     0.052 > 100.96.54.240:41000 > 100.96.54.247:80 [R] seq C+1 win 0 ttl 64
  1018.250 > 100.96.54.240:41000 > 100.67.30.133:80 [S] seq C win 64240 ttl 64
  1018.300123 < 100.96.54.247:80 > 100.96.54.240:41000 [S.] seq S2 ack C+1 win 65160 ttl 64 bad-checksum
  1019.000 < ICMP time exceeded (11/0) from 100.96.54.1 to 100.96.54.240 ttl 64, quotes 100.96.54.240:41000 > 100.67.30.133:80 seq C ttl 1
  1019.500 < ICMP packet too big, mtu 1450 (3/4) from 100.96.54.1 to 100.96.54.240 ttl 64
  1020.000 ~ ARP who-has 100.96.54.247 tell 100.96.54.240 at 0a:58:64:60:36:f0
  1020.010 < ARP reply 100.96.54.247 says 100.96.54.247 at 0a:58:64:60:36:f7
  1020.020 < [fd00::2]:80 > [fd00::1]:4000 [] seq 0x7 win 1 length 20 ttl 63
";

    #[test]
    fn the_text_is_stable() {
        let observations = parse_packet_text(INCIDENT).unwrap();
        assert_eq!(PacketText(&observations).to_string(), INCIDENT);
    }

    #[test]
    fn a_text_by_hand_may_leave_out_fields() {
        let text = "
            # a comment
            0 > 10.0.0.1:1 > 10.0.0.2:2 [S] seq 5
            1.5 < ICMP port unreachable from 10.0.0.2 to 10.0.0.1
        ";
        let observations = parse_packet_text(text).unwrap();
        let (ip, tcp) = observations[0].packet.tcp().unwrap();
        assert_eq!((ip.hop_limit, tcp.window, tcp.seq), (64, 0, Seq(5)));
        let (_, icmp) = observations[1].packet.icmp().unwrap();
        assert_eq!(icmp.type_code, (3, 3));
        assert_eq!(observations[1].at, Timestamp::from_nanos(1_500_000));
    }

    #[test]
    fn an_error_names_line_and_word() {
        for (text, problem) in [
            (
                "\nnonsense",
                "line 2: 'nonsense' where milliseconds is expected",
            ),
            ("0 ! a", "line 1: '!' where one of > < ~ is expected"),
            (
                "0 > 10.0.0.1:1 > 10.0.0.2:2 [SX] seq 1",
                "line 1: '[SX]' where TCP flags such as [S.] is expected",
            ),
            (
                "0 > 10.0.0.1:1 > 10.0.0.2:2 [S] seq Q+1",
                "line 1: 'Q+1' where a sequence number or a name that was defined before is expected",
            ),
            (
                "0 > 10.0.0.1:1 > 10.0.0.2:2 [S] seq",
                "line 1: it ends where a sequence number or a name that was defined before is expected",
            ),
            (
                "0 > 10.0.0.1:1 > [fd00::1]:2 [S] seq 1",
                "line 1: '[fd00::1]:2' where an address of the same family is expected",
            ),
        ] {
            let error = parse_packet_text(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
