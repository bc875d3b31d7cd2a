//! Evidence from capture files, of one end or of both.
//!
//! A [`Handshake`] in the role of an observer processes the packets of every handshake whose SYN is in a capture. The two
//! ends of a handshake are joined by its initial sequence number, since their clocks may differ. `Replay::notes` lists
//! the connections that are left out: those that began before the capture, and SYNs whose deadline is after its end.
//!
//! [`Handshake`]: crate::probe::handshake::Handshake

use crate::evidence::Matrix;
use crate::packet::capture::{Capture, CaptureError, CapturedPacket};
use crate::time::Timestamp;

/// Groups the packets of one observer into flows.
mod flow;
/// Joins the flows of several observers into handshakes.
mod join;
/// Turns handshakes into evidence of paths.
mod paths;
/// The position of an observer: client, server or in transit.
mod position;

/// The evidence of captures.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// The evidence, for the diagnosis.
    pub matrix: Matrix,
    /// Lost packets, and connections that were left out or are undecided, one sentence each.
    pub notes: Vec<String>,
    /// When the first and the last packet were captured; `None` where there is no packet.
    pub span: Option<(Timestamp, Timestamp)>,
}

/// Reads capture files from their bytes: of one end, or of both.
pub fn replay_files(files: &[&[u8]]) -> Result<Replay, CaptureError> {
    let captures = files
        .iter()
        .map(|bytes| crate::packet::capture::read(bytes))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(replay(&captures))
}

/// Turns captures into evidence.
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
    let stamps =
        || (captures.iter()).flat_map(|capture| capture.packets.iter().map(|seen| seen.at));
    Replay {
        matrix,
        notes,
        span: stamps().min().zip(stamps().max()),
    }
}

/// One interface of one file.
struct Observer<'a> {
    /// Its packets, in the order of their timestamps.
    packets: Vec<&'a CapturedPacket<'a>>,
    /// The last timestamp of its file: the known end of the observation.
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
