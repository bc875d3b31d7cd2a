//! Evidence from capture files: of one end, of both, of nodes and routers between them.
//!
//! A `Tracker` per interface follows every connection in one pass. The views of several observers are joined by the initial
//! sequence number, since their clocks may differ. Every attempt to connect has an ending. The models of the diagnosis judge
//! those that they know; the rules of this module judge the others.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnosis::{self, Diagnosis};
use crate::evidence::Matrix;
use crate::evidence::connections::Connections;
use crate::packet::capture::{self, Capture, CaptureError, CapturedFrame, Interface};
use crate::time::Timestamp;

/// What goes wrong after a handshake.
mod after;
/// Comments on packets.
mod annotate;
/// One attempt to connect at one observer.
mod attempt;
/// The causes of a failure, ranked.
mod candidates;
/// What happened to each connection.
mod connections;
/// How an attempt ended.
mod ending;
/// The host that captured.
mod host;
/// Joins attempts of several observers.
mod join;
/// Loss, apart from slow and dead servers.
mod loss;
/// Queries of DNS.
mod names;
/// ARP and neighbour discovery.
mod neighbours;
/// One interface of one file.
mod observer;
/// Traffic that is no fault.
mod ordinary;
/// The packets of an attempt.
mod parts;
/// Connections as evidence of paths.
mod paths;
/// Connections as probes.
mod probe;
/// What a replay is asked about.
mod question;
/// What the models name, as far as the capture bears it.
mod revision;
/// From endings to causes.
mod rules;
/// One packet.
mod seen;
/// The connections of one observer.
mod tracker;
/// SYNs before and after a translation.
mod translation;
/// Where a capture was taken.
mod vantage;
/// One direction of a connection.
mod way;
/// Endings in words.
mod words;

pub use annotate::{FrameComment, Vantage};
pub use question::Question;

use names::{Queries, Unresolved};
use observer::Observer;
use paths::{Group, GroupKey};
use seen::Seen;

/// The evidence of captures.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// The evidence.
    pub matrix: Matrix,
    /// What it shows, the worst first.
    pub diagnoses: Vec<Diagnosis>,
    /// What happened to each connection.
    pub connections: Connections,
    /// Lost packets, ordinary traffic that looks odd, and connections that are not judged, one sentence each.
    pub notes: Vec<String>,
    /// Comments on packets of connections that failed, in the order of files and frames.
    pub comments: Vec<FrameComment>,
    /// Where each interface was captured, as far as it has connections.
    pub vantages: Vec<Vantage>,
    /// When the first and the last packet were captured; `None` where there is no packet.
    pub span: Option<(Timestamp, Timestamp)>,
}

/// Captures that are read frame by frame. Its memory grows with the open connections, not with the size of the files.
#[derive(Debug, Default)]
pub struct Replayer {
    question: Question,
    observers: Vec<Observer>,
    /// The number of files before the present one.
    files: usize,
    /// The number of observers before the present file.
    first: usize,
    until: Timestamp,
    /// The last timestamp of the present file, of whatever frame.
    seen_until: Timestamp,
    notes: Vec<String>,
    queries: Queries,
    /// Clients of DNS without an answer.
    unresolved: Vec<Unresolved>,
}

impl Replayer {
    /// No captures yet, about all connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// No captures yet, about the connections of this question.
    pub fn about(question: Question) -> Self {
        Self {
            question,
            ..Self::default()
        }
    }

    /// Adds the next frame of the present file.
    pub fn frame(&mut self, frame: &CapturedFrame<'_>, interfaces: &[Interface]) {
        self.queries.take(frame);
        self.seen_until = self.seen_until.max(frame.at);
        if let Some(seen) = Seen::in_frame(frame) {
            self.take(frame.interface, seen, interfaces);
        }
    }

    /// Ends the present file, of which `notes` says what is lost; the next frame is of another one.
    pub fn end_file(&mut self, notes: impl IntoIterator<Item = String>) {
        self.until = self.until.max(self.seen_until);
        let queries = std::mem::take(&mut self.queries);
        self.unresolved.extend(queries.unanswered(self.until));
        self.seen_until = Timestamp::default();
        let own = self.observers.get_mut(self.first..).unwrap_or_default();
        for observer in own {
            observer.finish(self.until);
        }
        self.first = self.observers.len();
        self.files += 1;
        self.until = Timestamp::default();
        self.notes.extend(notes);
    }

    /// Joins what all files show, and judges it.
    pub fn finish(self) -> Replay {
        let mut replay = conclude(self.question, self.observers, self.notes);
        if self.question.is_everything() {
            replay.diagnoses.extend(names::diagnosis(&self.unresolved));
        }
        replay
    }

    fn take(&mut self, interface: usize, seen: Seen, interfaces: &[Interface]) {
        while self.observers.len() <= self.first.saturating_add(interface) {
            let number = self.observers.len() - self.first;
            if number >= interfaces.len() {
                return;
            }
            self.observers.push(Observer::new(self.files, number));
        }
        self.until = self.until.max(seen.at);
        if let Some(observer) = self.observers.get_mut(self.first.saturating_add(interface)) {
            observer.take(seen);
        }
    }
}

/// Reads capture files from their bytes: of one end, or of several.
pub fn replay_files(files: &[&[u8]]) -> Result<Replay, CaptureError> {
    let mut replayer = Replayer::new();
    for bytes in files {
        let reader = capture::read_frames(bytes, |frame, interfaces| {
            replayer.frame(frame, interfaces);
        })?;
        replayer.end_file(reader.summary().notes());
    }
    Ok(replayer.finish())
}

/// Turns captures into evidence.
pub fn replay(captures: &[Capture<'_>]) -> Replay {
    let mut replayer = Replayer::new();
    for capture in captures {
        for packet in &capture.packets {
            replayer.take(packet.interface, Seen::of(packet), &capture.interfaces);
        }
        replayer.end_file(capture.notes.iter().cloned());
    }
    replayer.finish()
}

/// Joins what the observers saw, and judges it.
fn conclude(question: Question, mut observers: Vec<Observer>, mut notes: Vec<String>) -> Replay {
    observers.sort_by_key(|observer| observer.from);
    let span = (observers.iter().filter_map(|observer| observer.from).min())
        .zip(observers.iter().map(|observer| observer.until).max());
    let mut groups: BTreeMap<GroupKey, Group> = BTreeMap::new();
    for connection in join::join(&mut observers) {
        let leg = connection.leg();
        let group = groups.entry((leg.client.ip(), leg.target)).or_default();
        group.connections.push(connection);
    }
    for observer in &observers {
        for (key, count) in &observer.tracker.healthy {
            if let Some(group) = groups.get_mut(key) {
                group.more = group.more.saturating_add(*count);
            }
        }
    }
    let is_empty = groups.is_empty();
    if question.is_everything() {
        notes.extend(ordinary::leave_out_scans(&mut groups));
    } else {
        for group in groups.values_mut() {
            group
                .connections
                .retain(|connection| question.wants(connection));
        }
        groups.retain(|_, group| !group.connections.is_empty());
        if groups.is_empty() {
            notes.push("no connection of the captures is one that was asked about".to_owned());
        }
    }
    let mut connections = connections::of(&groups);
    if is_empty {
        notes.extend(ordinary::without_connections(&observers));
    }
    notes.extend(ordinary::leave_out(&mut groups));
    notes.extend(ordinary::left_out(&observers));
    let (matrix, ids) = paths::matrix(&observers, &groups);
    connections::place(&mut connections, &ids);
    let evidence = rules::Evidence::new(&observers, &groups, &ids, &matrix);
    let named = diagnosis::diagnose(&paths::for_models(&matrix, &groups, &ids));
    let mut diagnoses = revision::revise(&evidence, named);
    let explained: BTreeSet<_> = (diagnoses.iter())
        .flat_map(|diagnosis| diagnosis.paths.iter().copied())
        .collect();
    diagnoses.extend(rules::diagnose(&evidence, &explained));
    let comments = annotate::comments(&observers, &groups);
    let vantages = annotate::vantages(&observers, &groups);
    Replay {
        matrix,
        diagnoses,
        connections,
        notes,
        comments,
        vantages,
        span,
    }
}

#[cfg(test)]
mod tests;
