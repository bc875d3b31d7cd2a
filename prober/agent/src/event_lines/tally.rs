//! Tallies of every path, and the selection of the probes that get a line of their own.

use std::collections::{BTreeMap, BTreeSet};

use prober_core::evidence::PathTally;
use prober_core::packet::mac::Mac;
use prober_core::packet::observation::Direction;
use prober_core::probe::event::{Event, Tally};
use prober_core::probe::outcome::{Echo, EngineKind, Exchange, ProbeResult};
use prober_core::topology::PathId;

/// Lines about single probes of one path, plan and engine; further probes are only counted.
const MAX_LINES: u32 = 200;

/// Tallies of the paths of one plan, by engine.
#[derive(Debug, Default)]
pub(crate) struct Tallies(BTreeMap<(PathId, EngineKind), PathCounts>);

#[derive(Debug, Default)]
struct PathCounts {
    tally: PathTally,
    lines: u32,
    servers: BTreeSet<ServerIdentity>,
    /// Whether the last probe failed, was late or odd.
    has_just_failed: bool,
}

/// What identifies the server that answered a healthy probe: the pod of its banner, its MAC, the hop limit of its SYN+ACK.
type ServerIdentity = (Option<String>, Option<Mac>, Option<u8>);

impl Tallies {
    /// Counts one probe, and returns its line if it is worth one: if it failed, was late or odd, if it is the first
    /// healthy one that this server answered, or the first one after a failure: its time shows that the failure did not last.
    pub(crate) fn count(&mut self, result: ProbeResult) -> Option<Event> {
        let counts = self.0.entry((result.path, result.engine)).or_default();
        counts.tally.count(&result);
        if counts.lines >= MAX_LINES {
            return None;
        }
        let has_failed = !is_healthy(&result);
        let is_after_failure = std::mem::replace(&mut counts.has_just_failed, has_failed);
        let has_line =
            has_failed || counts.servers.insert(server_identity(&result)) || is_after_failure;
        counts.lines += u32::from(has_line);
        has_line.then(|| Event::Probe(Box::new(result)))
    }

    /// Takes what was counted since the last call: one line for each path and engine with new probes.
    pub(crate) fn take(&mut self) -> Vec<Event> {
        let counted = self
            .0
            .iter_mut()
            .filter(|(_, counts)| counts.tally.outcomes.total() > 0);
        counted
            .map(|((path, engine), counts)| {
                let PathTally {
                    outcomes,
                    first_syn_success,
                    rtt,
                } = std::mem::take(&mut counts.tally);
                Event::Tally(Tally {
                    path: *path,
                    engine: *engine,
                    outcomes,
                    first_syn_success,
                    rtt,
                })
            })
            .collect()
    }
}

/// Whether a probe got its answer to its first SYN, and all that it requested afterwards.
pub(crate) fn is_healthy(result: &ProbeResult) -> bool {
    let is_exchange_fine = match &result.exchange {
        Exchange::NotTried => true,
        Exchange::NoBanner | Exchange::InvalidBanner | Exchange::Reset => false,
        Exchange::BannerReceived { echo, .. } => match echo {
            Echo::NotTried | Echo::Complete { .. } => true,
            Echo::Stalled { .. } => false,
        },
    };
    result.is_first_syn_success() && is_exchange_fine
}

fn server_identity(result: &ProbeResult) -> ServerIdentity {
    let pod = match &result.exchange {
        Exchange::BannerReceived { banner, .. } => Some(banner.pod.clone()),
        Exchange::NotTried | Exchange::NoBanner | Exchange::InvalidBanner | Exchange::Reset => None,
    };
    let syn_ack = result.observations.iter().find_map(|seen| {
        let (ip, tcp) = seen.packet.tcp()?;
        let is_answer = seen.direction == Direction::Received && tcp.flags.is_syn_ack();
        is_answer.then_some((seen.packet.link.map(|link| link.src), ip.hop_limit))
    });
    let (mac, hop_limit) = syn_ack.unzip();
    (pod, mac.flatten(), hop_limit)
}

#[cfg(test)]
mod tests {
    use prober_core::probe::banner::Banner;
    use prober_core::probe::outcome::{Outcome, OutcomeKind};
    use prober_core::time::Timestamp;
    use prober_core::topology::NodeName;

    use super::*;

    fn probe(outcome: Outcome, syns: u32, pod: &str) -> ProbeResult {
        let src = "192.0.2.1:61000".parse().unwrap();
        ProbeResult {
            path: PathId(1),
            engine: EngineKind::Kernel,
            src,
            dst: "192.0.2.2:80".parse().unwrap(),
            started: Timestamp::default(),
            isn: None,
            server_isn: None,
            outcome,
            syns,
            exchange: Exchange::BannerReceived {
                banner: Banner {
                    nonce: 1,
                    pod: pod.to_owned(),
                    node: NodeName::new("n"),
                    peer: src,
                    addresses: Vec::new(),
                },
                echo: Echo::NotTried,
            },
            observations: Vec::new(),
        }
    }

    const FINE: Outcome = Outcome::Established {
        rtt_ns: 1000,
        connect_ns: 1000,
    };

    #[test]
    fn the_first_healthy_probe_of_each_server_gets_a_line_and_every_late_one() {
        let mut tallies = Tallies::default();
        assert!(tallies.count(probe(FINE, 1, "a")).is_some());
        assert!(tallies.count(probe(FINE, 1, "a")).is_none());
        assert!(tallies.count(probe(FINE, 1, "b")).is_some());
        assert!(tallies.count(probe(FINE, 2, "a")).is_some());
        assert!(tallies.count(probe(FINE, 2, "a")).is_some());
    }

    #[test]
    fn the_first_healthy_probe_after_a_failure_gets_a_line() {
        let mut tallies = Tallies::default();
        let mut has_line = |outcome| tallies.count(probe(outcome, 1, "a")).is_some();
        let lines = [FINE, FINE, Outcome::Timeout, FINE, FINE].map(&mut has_line);
        assert_eq!(lines, [true, false, true, true, false]);
    }

    #[test]
    fn lines_are_bounded_and_counts_are_complete() {
        let mut tallies = Tallies::default();
        let lines = (0..1000)
            .filter_map(|_| tallies.count(probe(Outcome::Timeout, 3, "a")))
            .count();
        assert_eq!(lines, 200);
        let events = tallies.take();
        let [Event::Tally(tally)] = events.as_slice() else {
            panic!("one path, one tally: {events:?}")
        };
        assert_eq!(tally.outcomes.of(OutcomeKind::Timeout), 1000);
        assert_eq!(tally.first_syn_success, 0);
        assert!(tallies.take().is_empty(), "each probe is counted once");
    }
}
