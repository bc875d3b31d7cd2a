//! Entries of the kernel's connection tracking, as lines of `/proc/net/nf_conntrack`.
//!
//! An entry exists from the moment that the first packet of a connection has passed all of netfilter (`nf_conntrack_confirm`,
//! in POSTROUTING or INPUT). So a complete reading without an entry says that the packet was dropped before, or never came.
//! An entry has two tuples: the addresses of the first packet as it came, and those that an answer is expected to have.

pub mod ctnetlink;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::packet::family::Family;

/// The number of TCP in IP headers.
const TCP: u8 = 6;

/// The state of a tracked TCP connection (`enum tcp_conntrack`, include/uapi/linux/netfilter/nf_conntrack_tcp.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpState {
    /// No packet has set a state.
    None,
    /// A SYN passed.
    SynSent,
    /// A SYN+ACK answered it.
    SynRecv,
    /// The handshake is complete.
    Established,
    /// One end sent a FIN.
    FinWait,
    /// The other end confirmed it.
    CloseWait,
    /// The other end sent its FIN.
    LastAck,
    /// Both ends have closed.
    TimeWait,
    /// A RST ended the connection.
    Close,
    /// Both ends sent a SYN.
    SynSent2,
}

/// The words that the kernel writes (`tcp_conntrack_names`, net/netfilter/nf_conntrack_proto_tcp.c).
const TCP_STATES: [(&str, TcpState); 10] = [
    ("NONE", TcpState::None),
    ("SYN_SENT", TcpState::SynSent),
    ("SYN_RECV", TcpState::SynRecv),
    ("ESTABLISHED", TcpState::Established),
    ("FIN_WAIT", TcpState::FinWait),
    ("CLOSE_WAIT", TcpState::CloseWait),
    ("LAST_ACK", TcpState::LastAck),
    ("TIME_WAIT", TcpState::TimeWait),
    ("CLOSE", TcpState::Close),
    ("SYN_SENT2", TcpState::SynSent2),
];

/// The addresses of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConntrackTuple {
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// The source and the destination port, of protocols that have ports.
    pub ports: Option<(u16, u16)>,
}

impl ConntrackTuple {
    /// The source and destination with their ports, of protocols that have ports.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let (source, destination) = self.ports?;
        Some((
            SocketAddr::new(self.source, source),
            SocketAddr::new(self.destination, destination),
        ))
    }
}

/// One entry. In JSON it is the line of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConntrackEntry {
    /// The line, as the kernel wrote it, with all that is not parsed (mark, zone, counters).
    pub line: String,
    /// The family of its addresses.
    pub family: Family,
    /// The number of its protocol; 6 is TCP.
    pub protocol: u8,
    /// When it ends without another packet, in seconds; `None` for one that hardware or a flow table forwards.
    pub timeout: Option<u32>,
    /// The state of a TCP connection.
    pub tcp_state: Option<TcpState>,
    /// The addresses of the first packet.
    pub original: ConntrackTuple,
    /// The addresses that an answer is expected to have.
    pub reply: ConntrackTuple,
    /// Whether an answer passed: the line has no `[UNREPLIED]`.
    pub is_replied: bool,
    /// Whether the handshake was completed: the line has `[ASSURED]`.
    pub is_assured: bool,
}

/// A line that is no conntrack entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{line}' is no entry of /proc/net/nf_conntrack: {missing} is missing or has no known form"
)]
pub struct ConntrackEntryError {
    /// The line.
    line: String,
    /// The first part that was not found.
    missing: &'static str,
}

impl ConntrackEntry {
    /// Parses one line of `/proc/net/nf_conntrack` (`ct_seq_show`, net/netfilter/nf_conntrack_standalone.c):
    ///
    /// ```text
    /// ipv4     2 tcp      6 117 SYN_SENT src=10.244.1.5 dst=10.96.0.10 sport=40000 dport=80 [UNREPLIED]
    ///     src=10.244.2.7 dst=10.244.1.5 sport=8080 dport=40000 mark=0 zone=0 use=2
    /// ```
    pub fn parse(line: &str) -> Result<Self, ConntrackEntryError> {
        let line = line.trim_end();
        read(line).map_err(|missing| ConntrackEntryError {
            line: line.to_owned(),
            missing,
        })
    }

    /// Whether it is a TCP connection.
    pub const fn is_tcp(&self) -> bool {
        self.protocol == TCP
    }

    /// Whether it is requested: one of the clients sends or receives its first packet, and one of the targets is an end of
    /// either tuple.
    pub fn is_of(&self, request: &ConntrackRequest) -> bool {
        let ConntrackRequest { clients, targets } = request;
        let has_client = [self.original.source, self.original.destination]
            .iter()
            .any(|ip| clients.contains(ip));
        let mut tuples = [self.original, self.reply]
            .into_iter()
            .filter_map(|tuple| tuple.ends());
        has_client
            && tuples.any(|(source, destination)| {
                targets.contains(&source) || targets.contains(&destination)
            })
    }
}

/// The entry without its network protocol, as `conntrack -L` writes it: single blanks instead of columns.
impl fmt::Display for ConntrackEntry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in self.line.split_whitespace().skip(2).enumerate() {
            let separator = if at == 0 { "" } else { " " };
            write!(out, "{separator}{word}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for ConntrackEntry {
    type Error = ConntrackEntryError;

    fn try_from(line: String) -> Result<Self, Self::Error> {
        Self::parse(&line)
    }
}

impl From<ConntrackEntry> for String {
    fn from(entry: ConntrackEntry) -> Self {
        entry.line
    }
}

/// Parses a line, or returns what it lacks.
fn read(line: &str) -> Result<ConntrackEntry, &'static str> {
    let mut words = line.split_whitespace().peekable();
    let family = match words.next() {
        Some("ipv4") => Family::Ipv4,
        Some("ipv6") => Family::Ipv6,
        Some(_) | None => return Err("the family"),
    };
    // The number of the family, and the name of the protocol.
    words.nth(1).ok_or("the protocol")?;
    let protocol = words.next().and_then(|word| word.parse().ok());
    let protocol = protocol.ok_or("the protocol's number")?;
    let timeout = words.peek().and_then(|word| word.parse().ok());
    if timeout.is_some() {
        words.next();
    }
    let state = |word: &&str| TCP_STATES.iter().find(|(name, _)| name == word);
    let tcp_state = if protocol == TCP {
        let word = words.next_if(|word| !word.contains('='));
        let (_, state) = word.as_ref().and_then(state).ok_or("the TCP state")?;
        Some(*state)
    } else {
        None
    };
    let mut original = PartialTuple::default();
    let mut reply = PartialTuple::default();
    let (mut is_replied, mut is_assured) = (true, false);
    for word in words {
        match word.split_once('=') {
            // A part that the original tuple has already is one of the reply's.
            Some((name, value)) if !original.has(name) => original.set(name, value),
            Some((name, value)) => reply.set(name, value),
            None if word == "[UNREPLIED]" => is_replied = false,
            None if word == "[ASSURED]" => is_assured = true,
            None => {}
        }
    }
    Ok(ConntrackEntry {
        line: line.to_owned(),
        family,
        protocol,
        timeout,
        tcp_state,
        original: original.complete(family).ok_or("the original tuple")?,
        reply: reply.complete(family).ok_or("the reply tuple")?,
        is_replied,
        is_assured,
    })
}

/// The parts of a tuple that were read so far.
#[derive(Default)]
struct PartialTuple {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
}

impl PartialTuple {
    /// Whether this part was read.
    fn has(&self, name: &str) -> bool {
        match name {
            "src" => self.source.is_some(),
            "dst" => self.destination.is_some(),
            "sport" => self.source_port.is_some(),
            "dport" => self.destination_port.is_some(),
            _ => false,
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        match name {
            "src" => self.source = value.parse().ok(),
            "dst" => self.destination = value.parse().ok(),
            "sport" => self.source_port = value.parse().ok(),
            "dport" => self.destination_port = value.parse().ok(),
            _ => {}
        }
    }

    /// The tuple, if it has its addresses and they are of this family.
    fn complete(&self, family: Family) -> Option<ConntrackTuple> {
        let (source, destination) = self.source.zip(self.destination)?;
        let is_of = |ip| Family::of(ip) == family;
        (is_of(source) && is_of(destination)).then(|| ConntrackTuple {
            source,
            destination,
            ports: self.source_port.zip(self.destination_port),
        })
    }
}

/// The connections of which a plan requests the conntrack entries: only those of the run, which no others have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackRequest {
    /// The addresses of clients, and of their nodes, which may replace them on the way.
    pub clients: BTreeSet<IpAddr>,
    /// The addresses and ports of Services and servers.
    pub targets: BTreeSet<SocketAddr>,
}

/// The entries of one reading that a plan requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackReading {
    /// The entries: first those without an answer, then those without a complete handshake, then the others.
    pub entries: Vec<ConntrackEntry>,
    /// Whether all of them are listed, except those with a complete handshake. Where it is false, the absence of an entry says
    /// nothing.
    pub is_complete: bool,
}

/// Selects the requested entries from the lines of a whole table.
#[derive(Debug)]
pub struct ConntrackSelection<'a> {
    request: &'a ConntrackRequest,
    entries: Vec<ConntrackEntry>,
    is_complete: bool,
}

impl<'a> ConntrackSelection<'a> {
    /// Maximum number of entries of a reading.
    pub const MAX_ENTRIES: usize = 1024;

    /// Selects the entries of these connections.
    pub const fn new(request: &'a ConntrackRequest) -> Self {
        Self {
            request,
            entries: Vec::new(),
            is_complete: true,
        }
    }

    /// Takes the next line of the table.
    pub fn add(&mut self, line: &str) {
        match ConntrackEntry::parse(line) {
            Ok(entry) if entry.is_of(self.request) => self.entries.push(entry),
            Ok(_) => {}
            Err(_) => self.add_unknown(),
        }
        if self.entries.len() >= 2 * Self::MAX_ENTRIES {
            self.drop_excess();
        }
    }

    /// Takes an entry that cannot be read: it may be a requested one.
    pub const fn add_unknown(&mut self) {
        self.is_complete = false;
    }

    /// The selected entries; `is_read_to_its_end` is whether the table was.
    pub fn finish(mut self, is_read_to_its_end: bool) -> ConntrackReading {
        self.drop_excess();
        ConntrackReading {
            entries: self.entries,
            is_complete: self.is_complete && is_read_to_its_end,
        }
    }

    /// Sorts the entries and drops those beyond the maximum.
    fn drop_excess(&mut self) {
        self.entries
            .sort_by_key(|entry| (entry.is_assured, entry.is_replied));
        if self.entries.len() > Self::MAX_ENTRIES {
            let mut dropped = self.entries.drain(Self::MAX_ENTRIES..);
            self.is_complete &= dropped.all(|entry| entry.is_assured);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A SYN to a ClusterIP whose answer bypassed netfilter.
    const UNREPLIED: &str = "ipv4     2 tcp      6 117 SYN_SENT src=100.96.1.10 dst=100.67.30.133 sport=61000 dport=80 [UNREPLIED] src=100.96.2.20 dst=100.96.1.10 sport=8080 dport=61000 mark=0 zone=0 use=2";
    const ASSURED: &str = "ipv4     2 tcp      6 119 TIME_WAIT src=127.0.0.1 dst=127.0.0.1 sport=33420 dport=8099 src=127.0.0.1 dst=127.0.0.1 sport=8099 dport=33420 [ASSURED] mark=0 zone=0 use=2";
    const COUNTED: &str = "ipv6     10 tcp      6 58 SYN_RECV src=fd00:0010:0244:0001:0000:0000:0000:0005 dst=fd00:0010:0096:0000:0000:0000:0000:000a sport=40000 dport=80 packets=1 bytes=80 src=fd00:0010:0244:0002:0000:0000:0000:0007 dst=fd00:0010:0244:0001:0000:0000:0000:0005 sport=8080 dport=40000 packets=3 bytes=240 mark=16384 secctx=null zone=5 use=2";

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_entry_without_an_answer_has_its_tuples_and_its_state() {
        let entry = ConntrackEntry::parse(UNREPLIED).unwrap();
        assert_eq!((entry.family, entry.protocol), (Family::Ipv4, 6));
        assert_eq!(
            (entry.timeout, entry.tcp_state),
            (Some(117), Some(TcpState::SynSent))
        );
        assert_eq!((entry.is_replied, entry.is_assured), (false, false));
        let original = (end("100.96.1.10:61000"), end("100.67.30.133:80"));
        let reply = (end("100.96.2.20:8080"), end("100.96.1.10:61000"));
        assert_eq!(
            (entry.original.ends(), entry.reply.ends()),
            (Some(original), Some(reply))
        );
        assert_eq!(entry.line, UNREPLIED);
        assert_eq!(
            entry.to_string(),
            "tcp 6 117 SYN_SENT src=100.96.1.10 dst=100.67.30.133 sport=61000 dport=80 [UNREPLIED] src=100.96.2.20 dst=100.96.1.10 sport=8080 dport=61000 mark=0 zone=0 use=2"
        );
    }

    #[test]
    fn other_forms_of_the_kernel_are_read() {
        let assured = ConntrackEntry::parse(ASSURED).unwrap();
        assert_eq!((assured.is_replied, assured.is_assured), (true, true));
        assert_eq!(assured.tcp_state, Some(TcpState::TimeWait));

        let counted = ConntrackEntry::parse(COUNTED).unwrap();
        assert_eq!((counted.is_replied, counted.is_assured), (true, false));
        assert_eq!(counted.tcp_state, Some(TcpState::SynRecv));
        assert_eq!(
            counted.reply.ends().unwrap().0,
            end("[fd00:10:244:2::7]:8080")
        );

        let offloaded = "ipv4     2 tcp      6 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 [OFFLOAD] mark=0 zone=0 use=3";
        let offloaded = ConntrackEntry::parse(offloaded).unwrap();
        assert_eq!(
            (offloaded.timeout, offloaded.tcp_state),
            (None, Some(TcpState::Established))
        );

        let udp = "ipv4     2 udp      17 29 src=10.0.0.1 dst=10.0.0.2 sport=5353 dport=53 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=53 dport=5353 mark=0 zone=0 use=2";
        assert_eq!(ConntrackEntry::parse(udp).unwrap().tcp_state, None);
        let icmp = "ipv4     2 icmp     1 29 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=7 src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=7 mark=0 zone=0 use=2";
        assert_eq!(ConntrackEntry::parse(icmp).unwrap().original.ports, None);
    }

    #[test]
    fn what_is_no_entry_is_an_error_that_says_what_is_missing() {
        let missing = |line: &str| ConntrackEntry::parse(line).unwrap_err().missing;
        assert_eq!(missing(""), "the family");
        assert_eq!(missing("ipv4 2"), "the protocol");
        assert_eq!(missing("ipv4 2 tcp x"), "the protocol's number");
        assert_eq!(
            missing("ipv4 2 tcp 6 117 ODD src=10.0.0.1"),
            "the TCP state"
        );
        let cut = UNREPLIED.split(" [UNREPLIED]").next().unwrap();
        assert_eq!(missing(cut), "the reply tuple");
        assert_eq!(
            missing(&UNREPLIED.replace("100.96.1.10", "fd00::1")),
            "the original tuple"
        );
    }

    #[test]
    fn an_entry_is_its_line_in_json() {
        let reading = ConntrackReading {
            entries: vec![ConntrackEntry::parse(UNREPLIED).unwrap()],
            is_complete: true,
        };
        let json = serde_json::to_string(&reading).unwrap();
        assert_eq!(
            json,
            format!(r#"{{"entries":["{UNREPLIED}"],"is_complete":true}}"#)
        );
        assert_eq!(
            serde_json::from_str::<ConntrackReading>(&json).unwrap(),
            reading
        );
    }

    #[test]
    fn only_entries_of_the_run_are_selected_those_without_an_answer_first() {
        let request = ConntrackRequest {
            clients: ["100.96.1.10", "127.0.0.1", "fd00:10:244:1::5"]
                .map(|ip| ip.parse().unwrap())
                .into(),
            targets: [
                end("100.96.2.20:8080"),
                end("127.0.0.1:8099"),
                end("[fd00:10:96::a]:80"),
            ]
            .into(),
        };
        let other_port = UNREPLIED.replace("8080", "8081");
        let other_client = UNREPLIED.replace("100.96.1.10", "100.96.1.11");
        let mut selection = ConntrackSelection::new(&request);
        for line in [ASSURED, &other_port, &other_client, COUNTED, UNREPLIED] {
            selection.add(line);
        }
        let reading = selection.finish(true);
        let lines: Vec<_> = reading
            .entries
            .iter()
            .map(|entry| entry.line.as_str())
            .collect();
        assert_eq!(lines, [UNREPLIED, COUNTED, ASSURED]);
        assert!(reading.is_complete);
    }

    #[test]
    fn a_reading_with_a_gap_is_not_complete() {
        let request = ConntrackRequest {
            clients: ["100.96.1.10".parse().unwrap()].into(),
            targets: [end("100.67.30.133:80")].into(),
        };
        let cut_short = ConntrackSelection::new(&request).finish(false);
        assert!(!cut_short.is_complete);
        let mut odd = ConntrackSelection::new(&request);
        odd.add("ipv4 2 tcp 6 117 SYN_");
        assert!(!odd.finish(true).is_complete);

        let many = |flag: &str| {
            let mut many = ConntrackSelection::new(&request);
            let line = UNREPLIED.replace("[UNREPLIED]", flag);
            for _ in 0..3 * ConntrackSelection::MAX_ENTRIES {
                many.add(&line);
            }
            many.add(UNREPLIED);
            let many = many.finish(true);
            assert_eq!(many.entries.len(), ConntrackSelection::MAX_ENTRIES);
            assert_eq!(many.entries[0].line, UNREPLIED);
            many.is_complete
        };
        assert!(
            many("[ASSURED]"),
            "a connection with a complete handshake is not missed"
        );
        assert!(!many(""));
    }

    proptest! {
        #[test]
        fn any_text_is_an_entry_or_an_error(words in prop::collection::vec(
            prop_oneof![
                prop::sample::select(UNREPLIED.split_whitespace().collect::<Vec<_>>()).prop_map(str::to_owned),
                prop::sample::select(vec!["ipv6", "10", "udp", "17", "CLOSE", "src=::1", "dst=x", "sport=99999", "="]).prop_map(str::to_owned),
                any::<String>(),
            ],
            0..30,
        )) {
            let line = words.join(" ");
            if let Ok(entry) = ConntrackEntry::parse(&line) {
                prop_assert_eq!(ConntrackEntry::parse(&entry.line), Ok(entry.clone()));
                prop_assert_eq!(entry.tcp_state.is_some(), entry.is_tcp());
            }
        }
    }
}
