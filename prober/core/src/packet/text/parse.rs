//! Parsing of packet texts.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::unreachable_words;
use crate::packet::observation::{Direction, Observation};
use crate::packet::text::token::{
    flags, milliseconds, number_of, options, type_code, usual_type_code,
};
use crate::packet::{
    Body, Checksum, EthernetAddresses, Icmp, IcmpKind, Ip, Packet, Quoted, Resolution,
    ResolutionKind, Seq, Tcp, TcpOptions, Unreachable,
};

/// A line of a packet text that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}: {} where {expected} is expected; a line reads as in \
     '0.041 < 10.0.0.2:80 > 10.0.0.1:41000 [S.] seq 7 ack 6 win 65160 ttl 64'",
    .found.as_ref().map_or("it ends".to_owned(), |found| format!("'{found}'"))
)]
pub struct PacketTextError {
    /// The number of the line, from 1.
    line: usize,
    /// The unexpected word; `None` at the end of the line.
    found: Option<String>,
    /// The expected word.
    expected: &'static str,
}

/// Parses a packet text. Skips blank lines and comments, which begin with `#`.
pub fn parse_packet_text(text: &str) -> Result<Vec<Observation>, PacketTextError> {
    let mut names = BTreeMap::new();
    let mut observations = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = Words {
            all: line.split_whitespace().collect(),
            next: 0,
            line: number + 1,
            names: &names,
        };
        match words.all.as_slice() {
            [] => {}
            [name, "=", value] => {
                let seq = number_of(value).ok_or_else(|| PacketTextError {
                    line: number + 1,
                    found: Some((*value).to_owned()),
                    expected: "a sequence number",
                })?;
                names.insert((*name).to_owned(), seq);
            }
            _ => observations.push(words.observation()?),
        }
    }
    Ok(observations)
}

/// The words of one line, from left to right, without commas at their ends.
struct Words<'a> {
    all: Vec<&'a str>,
    next: usize,
    line: usize,
    names: &'a BTreeMap<String, u32>,
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.all
            .get(self.next)
            .map(|word| word.strip_suffix(',').unwrap_or(word))
    }

    fn refuse(&self, expected: &'static str) -> PacketTextError {
        PacketTextError {
            line: self.line,
            found: self.peek().map(str::to_owned),
            expected,
        }
    }

    /// Consumes the next word if it parses.
    fn take<T>(
        &mut self,
        expected: &'static str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, PacketTextError> {
        let value = self
            .peek()
            .and_then(read)
            .ok_or_else(|| self.refuse(expected))?;
        self.next += 1;
        Ok(value)
    }

    fn parse<T: FromStr>(&mut self, expected: &'static str) -> Result<T, PacketTextError> {
        self.take(expected, |word| word.parse().ok())
    }

    fn word(&mut self, wanted: &'static str) -> Result<(), PacketTextError> {
        self.take(wanted, |word| (word == wanted).then_some(()))
    }

    /// Consumes these words if they are next.
    fn follows(&mut self, wanted: &str) -> Option<()> {
        let count = wanted.split(' ').count();
        let next = self.all.get(self.next..self.next + count)?;
        let same = next
            .iter()
            .zip(wanted.split(' '))
            .all(|(word, wanted)| word.strip_suffix(',').unwrap_or(word) == wanted);
        same.then(|| self.next += count)
    }

    fn observation(&mut self) -> Result<Observation, PacketTextError> {
        let at = self.take("milliseconds", milliseconds)?;
        let direction = self.take("one of > < ~", |word| match word {
            ">" => Some(Direction::Sent),
            "<" => Some(Direction::Received),
            "~" => Some(Direction::Overheard),
            _ => None,
        })?;
        let body = if self.follows("ICMP").is_some() {
            self.icmp()?
        } else if self.follows("ARP").is_some() || self.follows("ND").is_some() {
            self.resolution()?
        } else {
            self.tcp()?
        };
        let mut packet = Packet { link: None, body };
        while self.peek().is_some() {
            self.attribute(&mut packet)?;
        }
        Ok(Observation {
            at,
            direction,
            packet,
        })
    }

    /// Two addresses of one family.
    fn pair(&mut self, between: &'static str) -> Result<(IpAddr, IpAddr), PacketTextError> {
        let src: IpAddr = self.parse("an IP address")?;
        self.word(between)?;
        let dst = self.same_family(src)?;
        Ok((src, dst))
    }

    fn same_family(&mut self, as_this: IpAddr) -> Result<IpAddr, PacketTextError> {
        self.take("an address of the same family", |word| {
            let address: IpAddr = word.parse().ok()?;
            (address.is_ipv4() == as_this.is_ipv4()).then_some(address)
        })
    }

    /// `10.0.0.1:41000 > 10.0.0.2:80`.
    fn ends(&mut self) -> Result<(SocketAddr, SocketAddr), PacketTextError> {
        let src: SocketAddr = self.parse("an address with a port, ICMP, ARP or ND")?;
        self.word(">")?;
        let dst = self.take("an address of the same family", |word| {
            let address: SocketAddr = word.parse().ok()?;
            (address.is_ipv4() == src.is_ipv4()).then_some(address)
        })?;
        Ok((src, dst))
    }

    fn seq(&mut self) -> Result<Seq, PacketTextError> {
        let names = self.names;
        self.take(
            "a sequence number or a name that was defined before",
            |word| {
                let (name, offset) = word.split_once('+').unwrap_or((word, "0"));
                let base = names.get(name).copied().or_else(|| number_of(name))?;
                Some(Seq(base).add(number_of(offset)?))
            },
        )
    }

    fn tcp(&mut self) -> Result<Body, PacketTextError> {
        let (src, dst) = self.ends()?;
        let flags = self.take("TCP flags such as [S.]", flags)?;
        let ip = Ip {
            src: src.ip(),
            dst: dst.ip(),
            hop_limit: 64,
            ident: 0,
        };
        let tcp = Tcp {
            src_port: src.port(),
            dst_port: dst.port(),
            seq: Seq(0),
            ack: Seq(0),
            flags,
            window: 0,
            options: TcpOptions::default(),
            payload_len: 0,
            checksum: Checksum::Unknown,
        };
        Ok(Body::Tcp(ip, tcp))
    }

    fn icmp(&mut self) -> Result<Body, PacketTextError> {
        let kind = self.icmp_kind()?;
        let stated = self.peek().and_then(type_code).inspect(|_| self.next += 1);
        self.word("from")?;
        let (src, dst) = self.pair("to")?;
        let ip = Ip {
            src,
            dst,
            hop_limit: 64,
            ident: 0,
        };
        let icmp = Icmp {
            kind,
            type_code: stated.unwrap_or_else(|| usual_type_code(kind, src)),
            quoted: None,
        };
        Ok(Body::Icmp(ip, icmp))
    }

    fn icmp_kind(&mut self) -> Result<IcmpKind, PacketTextError> {
        for reason in [
            Unreachable::Network,
            Unreachable::Host,
            Unreachable::Port,
            Unreachable::Prohibited,
            Unreachable::Other,
        ] {
            if self.follows(unreachable_words(reason)).is_some() {
                return Ok(IcmpKind::Unreachable { reason });
            }
        }
        if self.follows("time exceeded").is_some() {
            Ok(IcmpKind::TimeExceeded)
        } else if self.follows("packet too big mtu").is_some() {
            let mtu = self.parse("an MTU in bytes")?;
            Ok(IcmpKind::PacketTooBig { mtu })
        } else if self.follows("redirect to").is_some() {
            let gateway = self.parse("an IP address")?;
            Ok(IcmpKind::Redirect { gateway })
        } else if self.follows("message").is_some() {
            Ok(IcmpKind::Other)
        } else {
            Err(self.refuse("what an ICMP message says, such as 'time exceeded',"))
        }
    }

    fn resolution(&mut self) -> Result<Body, PacketTextError> {
        let (kind, (target, sender)) = if self.follows("who-has").is_some() {
            (ResolutionKind::Request, self.pair("tell")?)
        } else {
            self.word("reply")?;
            (ResolutionKind::Reply, self.pair("says")?)
        };
        let sender_mac = match self.follows("at") {
            Some(()) => Some(self.parse("an Ethernet address")?),
            None => None,
        };
        Ok(Body::Resolution(Resolution {
            kind,
            sender,
            sender_mac,
            target,
        }))
    }

    fn attribute(&mut self, packet: &mut Packet) -> Result<(), PacketTextError> {
        if self.follows("smac").is_some() {
            let src = self.parse("an Ethernet address")?;
            packet.link = Some(EthernetAddresses { src, dst: None });
            return Ok(());
        }
        if let (Some(link), Some(())) = (&mut packet.link, self.follows("dmac")) {
            link.dst = Some(self.parse("an Ethernet address")?);
            return Ok(());
        }
        match &mut packet.body {
            Body::Tcp(ip, tcp) => match self.peek() {
                Some("seq") => self.after().seq().map(|seq| tcp.seq = seq),
                Some("ack") => self.after().seq().map(|ack| tcp.ack = ack),
                Some("win") => {
                    (self.after().parse("a window in bytes")).map(|window| tcp.window = window)
                }
                Some("length") => {
                    (self.after().parse("a length in bytes")).map(|length| tcp.payload_len = length)
                }
                Some("options") => (self
                    .after()
                    .take("options such as mss=1460,sackOK", options))
                .map(|options| tcp.options = options),
                Some("bad-checksum") => {
                    tcp.checksum = Checksum::Invalid;
                    self.next += 1;
                    Ok(())
                }
                _ => self.ip_attribute(ip),
            },
            Body::Icmp(ip, message) => {
                if self.follows("quotes").is_some() {
                    message.quoted = Some(self.quoted()?);
                    Ok(())
                } else {
                    self.ip_attribute(ip)
                }
            }
            Body::Resolution(_) => Err(self.refuse("smac or dmac")),
        }
    }

    /// Skips the peeked word.
    fn after(&mut self) -> &mut Self {
        self.next += 1;
        self
    }

    fn ip_attribute(&mut self, ip: &mut Ip) -> Result<(), PacketTextError> {
        if self.follows("ttl").is_some() {
            ip.hop_limit = self.parse("a TTL of at most 255")?;
        } else if self.follows("id").is_some() {
            ip.ident = self.parse("an identification of at most 65535")?;
        } else {
            return Err(self.refuse("seq, ack, win, options, length, ttl, id, smac or dmac"));
        }
        Ok(())
    }

    fn quoted(&mut self) -> Result<Quoted, PacketTextError> {
        let (src, dst) = self.ends()?;
        let seq = match self.follows("seq") {
            Some(()) => self.seq()?,
            None => Seq(0),
        };
        let hop_limit = match self.follows("ttl") {
            Some(()) => self.parse("a TTL of at most 255")?,
            None => 64,
        };
        let checksum = match self.follows("bad-checksum") {
            Some(()) => Checksum::Invalid,
            None => Checksum::Unknown,
        };
        Ok(Quoted {
            src,
            dst,
            hop_limit,
            seq,
            checksum,
        })
    }
}
