//! Comments on the packets of connections that failed, and names of the places where captures were taken.

use std::collections::BTreeMap;

use super::host::Position;
use super::join::{Connection, View};
use super::observer::Observer;
use super::paths::{Group, GroupKey};
use super::words;
use crate::packet::{Body, TcpFlags};

/// The most failed connections whose packets are commented.
const MAX_CONNECTIONS: usize = 1_000;

/// A comment on a frame of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameComment {
    /// The index of the file.
    pub file: usize,
    /// The number of the frame in it, from 1.
    pub frame: u64,
    /// The comment.
    pub comment: String,
}

/// The place where an interface of a file was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vantage {
    /// The index of the file.
    pub file: usize,
    /// The index of the interface in it.
    pub interface: usize,
    /// The place in words, such as `client's end`.
    pub place: &'static str,
}

/// The comments on failed connections, in the order of files and frames.
pub(super) fn comments(
    observers: &[Observer],
    groups: &BTreeMap<GroupKey, Group>,
) -> Vec<FrameComment> {
    let failed = (groups.values().flat_map(|group| &group.connections))
        .filter(|connection| !connection.ending.is_healthy());
    let mut comments = Vec::new();
    for connection in failed.take(MAX_CONNECTIONS) {
        for view in connection.views() {
            if let Some(observer) = observers.get(view.observer) {
                comments.extend(of_view(observer, connection, view));
            }
        }
    }
    comments.sort_by_key(|comment| (comment.file, comment.frame));
    comments
}

fn of_view(observer: &Observer, connection: &Connection, view: &View) -> Vec<FrameComment> {
    let attempt = &view.attempt;
    let mut syns = 0;
    let mut comments = Vec::new();
    for (place, seen) in attempt.packets.iter().enumerate() {
        let mut said = Vec::new();
        if place == 0 {
            said.push(format!(
                "prober: this connection {}",
                words::predicate(&connection.ending, 1)
            ));
        }
        match &seen.packet.body {
            Body::Tcp(_, tcp) if tcp.flags.is_syn() => {
                syns += 1;
                if syns > 1 && place > 0 {
                    said.push("the SYN again".to_owned());
                }
            }
            Body::Tcp(..)
                if (attempt.answers.iter()).any(|answer| {
                    attempt.is_wrong(answer) && seen.packet.tcp_src() == Some(answer.from)
                }) =>
            {
                said.push("an answer from an address that was not asked".to_owned());
            }
            Body::Tcp(_, tcp) if tcp.flags.has(TcpFlags::RST) => {
                said.push("a RST".to_owned());
            }
            Body::Icmp(..) => said.push("an ICMP message about this connection".to_owned()),
            Body::Tcp(..) | Body::Resolution(_) => {}
        }
        if !said.is_empty() && seen.number > 0 {
            comments.push(FrameComment {
                file: observer.file,
                frame: seen.number,
                comment: said.join("\n"),
            });
        }
    }
    comments
}

/// Where each interface was captured, as most of its connections show.
pub(super) fn vantages(observers: &[Observer], groups: &BTreeMap<GroupKey, Group>) -> Vec<Vantage> {
    let mut counts: BTreeMap<usize, BTreeMap<Position, usize>> = BTreeMap::new();
    for connection in groups.values().flat_map(|group| &group.connections) {
        for view in connection.views() {
            let own = counts.entry(view.observer).or_default();
            *own.entry(view.position).or_default() += 1;
        }
    }
    let mut vantages: Vec<Vantage> = (counts.into_iter())
        .filter_map(|(number, counts)| {
            let observer = observers.get(number)?;
            let (position, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
            Some(Vantage {
                file: observer.file,
                interface: observer.interface,
                place: match position {
                    Position::Client => "client's end",
                    Position::InTransit => "between client and server",
                    Position::Server => "server's end",
                },
            })
        })
        .collect();
    vantages.sort_by_key(|vantage| (vantage.file, vantage.interface));
    vantages
}
