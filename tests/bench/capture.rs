//! Captures of many connections, made for the measurement, and what a program costs that reads one.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use prober_core::packet::{Seq, TcpFlags, TcpOptions, TcpSegment, craft};

/// How long to wait between two readings of a program's memory.
const POLLED_EVERY: Duration = Duration::from_millis(5);

/// The connections whose packets are mixed with each other.
const AT_ONCE: u32 = 1_000;

/// What the connections of a capture are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connections {
    /// A handshake, five requests with answers, and FINs: sixteen packets.
    Answered,
    /// Three SYNs without an answer.
    Silent,
    /// A handshake alone: all of them stay open.
    Open,
}

impl Connections {
    /// Parses the name of a kind.
    pub(crate) fn named(name: &str) -> anyhow::Result<Self> {
        match name {
            "answered" => Ok(Self::Answered),
            "silent" => Ok(Self::Silent),
            "open" => Ok(Self::Open),
            other => bail!("'{other}' is no kind of connections: answered, silent or open"),
        }
    }

    /// The packets of one connection: whether the client sends it, its flags, its payload's length, and the milliseconds since
    /// the packet before.
    fn packets(self) -> Vec<(bool, TcpFlags, usize, u32)> {
        let handshake = [
            (true, TcpFlags::SYN, 0, 0),
            (false, TcpFlags::SYN_ACK, 0, 1),
            (true, TcpFlags::ACK, 0, 1),
        ];
        let data = TcpFlags::PSH.with(TcpFlags::ACK);
        let fin = TcpFlags::FIN.with(TcpFlags::ACK);
        match self {
            Self::Answered => {
                let requests = [(true, data, 100, 1), (false, data, 500, 1)].repeat(5);
                let closed = [
                    (true, fin, 0, 1),
                    (false, fin, 0, 1),
                    (true, TcpFlags::ACK, 0, 1),
                ];
                [&handshake[..], &requests, &closed].concat()
            }
            Self::Silent => [0, 1_000, 2_000]
                .map(|wait| (true, TcpFlags::SYN, 0, wait))
                .to_vec(),
            Self::Open => handshake.to_vec(),
        }
    }
}

/// Writes a pcap file of raw IP with this many connections.
pub(crate) fn write(path: &Path, kind: Connections, connections: u32) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(cannot)?);
    for word in [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65_535, 101] {
        file.write_all(&word.to_be_bytes()).with_context(cannot)?;
    }
    let packets = kind.packets();
    let mut millis = 0_u32;
    let mut bytes = Vec::new();
    let mut first = 0;
    while first < connections {
        let batch = first..connections.min(first + AT_ONCE);
        let mut sent = [0, 0];
        for (place, (by_client, flags, len, wait)) in (1_u16..).zip(&packets) {
            millis += wait;
            for number in batch.clone() {
                bytes.clear();
                craft(
                    &segment(number, place, *by_client, *flags, *len, sent),
                    &mut bytes,
                )?;
                let micros = millis % 1_000 * 1_000 + (number - batch.start) / 2;
                let len = u32::try_from(bytes.len())?;
                for word in [1_767_225_600 + millis / 1_000, micros, len, len] {
                    file.write_all(&word.to_be_bytes()).with_context(cannot)?;
                }
                file.write_all(&bytes).with_context(cannot)?;
            }
            let is_counted = flags.has(TcpFlags::SYN) || flags.has(TcpFlags::FIN);
            let more = u32::try_from(*len)? + u32::from(is_counted && kind != Connections::Silent);
            sent[usize::from(!by_client)] += more;
        }
        first += AT_ONCE;
    }
    file.flush().with_context(cannot)
}

/// A packet of a connection, after both ends have `sent` so many numbers.
fn segment(
    number: u32,
    place: u16,
    by_client: bool,
    flags: TcpFlags,
    len: usize,
    sent: [u32; 2],
) -> TcpSegment {
    let port = |number: u32| u16::try_from(number % 50_000).unwrap_or_default() + 1_024;
    let client = Ipv4Addr::from(0x0a00_0005 + number / 50_000 * 256);
    let server = Ipv4Addr::from(0x0a60_0001 + number % 200);
    let client = SocketAddr::from((client, port(number)));
    let server = SocketAddr::from((server, 443));
    let scattered = number.wrapping_mul(0x9e37_79b1);
    let seq = [
        scattered.wrapping_add(sent[0]),
        (!scattered).wrapping_add(sent[1]),
    ];
    let (own, other) = if by_client { (0, 1) } else { (1, 0) };
    TcpSegment {
        src: if by_client { client } else { server },
        dst: if by_client { server } else { client },
        hop_limit: if by_client { 64 } else { 62 },
        ident: place,
        seq: Seq(seq[own]),
        ack: Seq(if flags.has(TcpFlags::ACK) {
            seq[other]
        } else {
            0
        }),
        flags,
        window: 64_240,
        options: TcpOptions::default(),
        payload: vec![b'x'; len],
    }
}

/// What a program costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    took: Duration,
    /// The most memory, KiB.
    kib: u64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} {}", self.took.as_secs_f64(), self.kib)
    }
}

/// Runs a program to its end without its output.
pub(crate) fn cost(program: &str, arguments: &[&str]) -> anyhow::Result<Cost> {
    let start = Instant::now();
    let mut process = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let status = format!("/proc/{}/status", process.id());
    let mut kib = 0;
    while process.try_wait()?.is_none() {
        // Its memory is gone before it has ended.
        let found = fs::read_to_string(&status).unwrap_or_default();
        let peak = found.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib = kib.max(peak.unwrap_or(0));
        std::thread::sleep(POLLED_EVERY);
    }
    Ok(Cost {
        took: start.elapsed(),
        kib,
    })
}
