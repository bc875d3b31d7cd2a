//! A capture that somebody took, or one of each end, as evidence.
//!
//! Every handshake whose SYN is in a capture is shown, packet by packet, to a [`Handshake`] in the
//! role of a witness; what both ends saw of one is joined by its initial sequence number, since
//! no two clocks need agree. What a capture cannot decide is left out and told in
//! `Replay::notes`: connections that began before it, SYNs whose deadline lies behind its end.
//!
//! [`Handshake`]: crate::probe::handshake::Handshake

use crate::evidence::Matrix;
use crate::packet::capture::{Capture, CaptureError, CapturedPacket};
use crate::time::Timestamp;

/// Packets of one observer into flows.
mod flow;
/// Flows of several observers into handshakes.
mod join;
/// Handshakes into evidence of paths.
mod paths;
/// Where an observer stands.
mod position;

/// What captures tell.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// The evidence, to be diagnosed.
    pub matrix: Matrix,
    /// What was lost, left out or could not be decided, one sentence each.
    pub notes: Vec<String>,
}

/// Reads capture files, given as their bytes: of one end, or of both.
pub fn replay_files(files: &[&[u8]]) -> Result<Replay, CaptureError> {
    let captures = files
        .iter()
        .map(|bytes| crate::packet::capture::read(bytes))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(replay(&captures))
}

/// Makes evidence of captures.
pub fn replay(captures: &[Capture<'_>]) -> Replay {
    let mut notes: Vec<String> = captures
        .iter()
        .flat_map(|capture| capture.notes.iter().cloned())
        .collect();
    let observers: Vec<Observer<'_>> = captures.iter().flat_map(observers).collect();
    let mut flows = Vec::new();
    let mut unstarted = 0;
    for (number, observer) in observers.iter().enumerate() {
        let found = flow::flows(&observer.packets);
        unstarted += found.unstarted;
        flows.extend(found.flows.into_iter().map(|flow| (number, flow)));
    }
    let joined = join::join(flows);
    if unstarted > 0 {
        notes.push(format!(
            "connections that began before the capture: {unstarted}, not judged"
        ));
    }
    if joined.server_only > 0 {
        notes.push(format!(
            "connections that only their server's end shows: {}, not judged: capture at the client's end, too",
            joined.server_only
        ));
    }
    let matrix = paths::matrix(&observers, joined.handshakes, &mut notes);
    Replay { matrix, notes }
}

/// One interface of one file: where packets were seen.
struct Observer<'a> {
    /// Its packets, in the order of their stamps.
    packets: Vec<&'a CapturedPacket<'a>>,
    /// The last stamp of its file: how long it is known to have watched.
    until: Timestamp,
}

fn observers<'a>(capture: &'a Capture<'a>) -> Vec<Observer<'a>> {
    let until = capture.packets.iter().map(|packet| packet.at).max();
    let mut observers: Vec<Observer<'a>> = capture
        .interfaces
        .iter()
        .map(|_| Observer {
            packets: Vec::new(),
            until: until.unwrap_or_default(),
        })
        .collect();
    for packet in &capture.packets {
        if let Some(observer) = observers.get_mut(packet.interface) {
            observer.packets.push(packet);
        }
    }
    for observer in &mut observers {
        observer.packets.sort_by_key(|packet| packet.at);
    }
    observers
}

#[cfg(test)]
mod tests;
