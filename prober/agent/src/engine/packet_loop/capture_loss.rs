//! Which probes may be unanswered because the capture lost packets: a loss of the capture is no loss of the network.

use prober_core::probe::outcome::{EngineKind, Outcome, ProbeResult};
use prober_core::time::Timestamp;

/// The reason that is reported for probes whose answers may be lost.
pub(super) const NOTICE: &str = "the capture lost packets, since this agent got too little of its processors: crafted probes \
    that were on their way and saw no answer count for nothing";

/// The losses of the capture so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CaptureLoss {
    dropped: u64,
    last: Option<Timestamp>,
}

impl CaptureLoss {
    /// Takes the number of packets lost since the start; returns whether there are new ones.
    pub(super) const fn update(&mut self, dropped: u64, now: Timestamp) -> bool {
        let has_new_loss = dropped > self.dropped;
        if has_new_loss {
            self.dropped = dropped;
            self.last = Some(now);
        }
        has_new_loss
    }

    /// Whether the capture may have lost the answer to a probe. The kernel gets its answers without a capture.
    pub(super) fn hides(self, result: &ProbeResult) -> bool {
        let is_unanswered = match result.outcome {
            Outcome::Timeout => true,
            Outcome::Established { .. } => !result.is_first_syn_success(),
            Outcome::Reset { .. }
            | Outcome::Unreachable { .. }
            | Outcome::RefusedLocally { .. }
            | Outcome::Mismatched { .. } => false,
        };
        result.engine == EngineKind::Raw
            && is_unanswered
            && self.last.is_some_and(|last| result.started <= last)
    }
}

#[cfg(test)]
mod tests {
    use prober_core::probe::outcome::Exchange;
    use prober_core::topology::PathId;

    use super::*;

    fn probe(engine: EngineKind, started: u64, outcome: Outcome, syns: u32) -> ProbeResult {
        ProbeResult {
            path: PathId(1),
            engine,
            src: "192.0.2.1:63000".parse().unwrap(),
            dst: "192.0.2.2:80".parse().unwrap(),
            started: Timestamp::from_nanos(started),
            isn: None,
            server_isn: None,
            outcome,
            syns,
            exchange: Exchange::NotTried,
            observations: Vec::new(),
        }
    }

    #[test]
    fn only_a_crafted_probe_without_an_answer_that_started_before_the_loss_is_hidden() {
        let answered = Outcome::Established {
            rtt_ns: 1,
            connect_ns: 1,
        };
        let elsewhere = Outcome::Mismatched {
            from: "192.0.2.3:80".parse().unwrap(),
        };
        let silent = probe(EngineKind::Raw, 10, Outcome::Timeout, 3);
        let mut capture_loss = CaptureLoss::default();
        assert!(!capture_loss.update(0, Timestamp::from_nanos(5)));
        assert!(!capture_loss.hides(&silent));
        assert!(capture_loss.update(7, Timestamp::from_nanos(20)));
        assert!(
            !capture_loss.update(7, Timestamp::from_nanos(90)),
            "none since"
        );

        assert!(capture_loss.hides(&silent));
        assert!(capture_loss.hides(&probe(EngineKind::Raw, 10, answered, 2)));
        assert!(!capture_loss.hides(&probe(EngineKind::Raw, 10, answered, 1)));
        assert!(!capture_loss.hides(&probe(EngineKind::Raw, 10, elsewhere, 1)));
        assert!(!capture_loss.hides(&probe(EngineKind::Raw, 30, Outcome::Timeout, 3)));
        assert!(!capture_loss.hides(&probe(EngineKind::Kernel, 10, Outcome::Timeout, 3)));
    }
}
