//! Which nodes are examined, and when: those that alert, those of outages that last, and those whose last result needs
//! another.
//!
//! A node is examined as soon as it alerts, and a tenth of the interval after a result that needs another. A node of an
//! outage is examined once an interval. Where examinations keep finding nothing while a node alerts, they become rare.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prober_core::time::Timestamp;
use prober_core::topology::NodeName;

/// The most nodes of one examination, without their peers.
pub const MAX_EXAMINED: usize = 16;

/// Which part of the interval passes before a node is examined again whose last result needs another.
const FOLLOW_UP_PART: u32 = 10;

/// How often the pause between examinations without a finding doubles.
const MAX_DOUBLINGS: u32 = 9;

/// The examinations of one check. Its times are of the steady clock.
#[derive(Clone, Debug)]
pub struct Examinations {
    interval: Duration,
    wanted: BTreeMap<NodeName, Wanted>,
    /// The nodes that are examined now.
    under_way: BTreeSet<NodeName>,
}

/// A node that is to be examined.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    /// When it became known that it is.
    since: Timestamp,
    /// When it was examined last.
    last: Option<Timestamp>,
    /// How many examinations in a row found nothing.
    without_finding: u32,
    urgency: Urgency,
}

/// Why a node is to be examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// An outage involves it.
    Outage,
    /// It alerts.
    Alert,
    /// The next result confirms a failure, or ends an outage.
    Suspicion,
}

impl Examinations {
    /// No node is to be examined.
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            wanted: BTreeMap::new(),
            under_way: BTreeSet::new(),
        }
    }

    /// Sets the check's interval.
    pub const fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Sets the nodes that are to be examined, and why. Those that are not among them need no examination any more.
    pub fn set_wanted(&mut self, wanted: &BTreeMap<NodeName, Urgency>, now: Timestamp) {
        self.wanted.retain(|node, _| wanted.contains_key(node));
        for (node, urgency) in wanted {
            let known = self.wanted.entry(node.clone()).or_insert(Wanted {
                since: now,
                last: None,
                without_finding: 0,
                urgency: *urgency,
            });
            known.urgency = *urgency;
        }
    }

    /// Begins an examination, if a node is due and none is under way: at most [`MAX_EXAMINED`] nodes, those first that
    /// were never examined and wait longest.
    pub fn begin(&mut self, now: Timestamp) -> BTreeSet<NodeName> {
        if !self.under_way.is_empty() {
            return BTreeSet::new();
        }
        let mut due: Vec<(Timestamp, &NodeName)> = (self.wanted.iter())
            .map(|(node, wanted)| (self.due_at(wanted), node))
            .filter(|(at, _)| *at <= now)
            .collect();
        due.sort_unstable();
        let examined: BTreeSet<NodeName> = (due.into_iter().take(MAX_EXAMINED))
            .map(|(_, node)| node.clone())
            .collect();
        self.under_way.clone_from(&examined);
        examined
    }

    /// Ends the examination that is under way. `with_finding` are the nodes that it found a failure on.
    pub fn end(&mut self, with_finding: &BTreeSet<NodeName>, now: Timestamp) {
        for node in std::mem::take(&mut self.under_way) {
            if let Some(wanted) = self.wanted.get_mut(&node) {
                wanted.last = Some(now);
                wanted.without_finding = if with_finding.contains(&node) {
                    0
                } else {
                    wanted.without_finding.saturating_add(1)
                };
            }
        }
    }

    /// When the next examination begins, unless one is under way.
    pub fn next_at(&self) -> Option<Timestamp> {
        if !self.under_way.is_empty() {
            return None;
        }
        let due = self.wanted.values().map(|wanted| self.due_at(wanted));
        due.min()
    }

    /// The nodes that are to be examined and never were.
    pub fn waiting(&self) -> usize {
        (self.wanted.values())
            .filter(|wanted| wanted.last.is_none())
            .count()
    }

    fn due_at(&self, wanted: &Wanted) -> Timestamp {
        let Some(last) = wanted.last else {
            return wanted.since;
        };
        let soon = self.interval / FOLLOW_UP_PART;
        last + match wanted.urgency {
            Urgency::Suspicion => soon,
            Urgency::Outage => self.interval,
            Urgency::Alert => {
                let doublings = wanted.without_finding.min(MAX_DOUBLINGS);
                soon.saturating_mul(1_u32 << doublings)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    fn wanted(nodes: &[(&str, Urgency)]) -> BTreeMap<NodeName, Urgency> {
        nodes
            .iter()
            .map(|(node, urgency)| (NodeName::new(*node), *urgency))
            .collect()
    }

    fn names(nodes: &BTreeSet<NodeName>) -> Vec<&str> {
        nodes.iter().map(NodeName::as_str).collect()
    }

    #[test]
    fn a_node_is_examined_at_once_and_again_as_its_urgency_says() {
        for (urgency, pause) in [
            (Urgency::Suspicion, 1_000),
            (Urgency::Outage, 10_000),
            (Urgency::Alert, 1_000),
        ] {
            let mut examinations = Examinations::new(Duration::from_secs(10));
            let nodes = wanted(&[("node-1", urgency)]);
            examinations.set_wanted(&nodes, at(5));
            let examined = examinations.begin(at(5));
            assert_eq!(names(&examined), ["node-1"]);
            assert_eq!(examinations.next_at(), None, "one is under way");
            examinations.end(&examined, at(4_005));
            examinations.set_wanted(&nodes, at(4_005));
            assert_eq!(
                examinations.next_at(),
                Some(at(4_005 + pause)),
                "{urgency:?}"
            );
            assert!(examinations.begin(at(4_004 + pause)).is_empty());
            assert_eq!(names(&examinations.begin(at(4_005 + pause))), ["node-1"]);
        }
    }

    #[test]
    fn examinations_that_find_nothing_become_rare() {
        let mut examinations = Examinations::new(Duration::from_secs(10));
        let nodes = wanted(&[("node-1", Urgency::Alert)]);
        let mut now = at(0);
        examinations.set_wanted(&nodes, now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let next = examinations.next_at().unwrap();
            pauses.push(next.since(now).as_secs());
            now = next;
            assert_eq!(examinations.begin(now).len(), 1);
            examinations.end(&BTreeSet::new(), now);
        }
        assert_eq!(pauses, [0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 512, 512]);
        assert_eq!(examinations.begin(now + Duration::from_secs(512)).len(), 1);
        examinations.end(&[NodeName::new("node-1")].into(), now);
        let next = examinations.next_at().unwrap();
        assert_eq!(next.since(now).as_secs(), 1, "it found something");
    }

    #[test]
    fn of_many_nodes_each_is_examined_before_one_is_examined_again() {
        let mut examinations = Examinations::new(Duration::from_secs(10));
        let nodes: BTreeMap<NodeName, Urgency> = (0..100)
            .map(|number| (NodeName::new(format!("node-{number:03}")), Urgency::Alert))
            .collect();
        examinations.set_wanted(&nodes, at(0));
        let mut examined = Vec::new();
        for round in 0..7 {
            let now = at(round * 4_000);
            let some = examinations.begin(now);
            assert!(some.len() <= MAX_EXAMINED);
            examined.extend(some.iter().cloned());
            examinations.end(&some, now);
            examinations.set_wanted(&nodes, now);
        }
        let all: BTreeSet<NodeName> = examined.into_iter().collect();
        assert_eq!(all.len(), 100);
        assert_eq!(examinations.waiting(), 0);
    }

    #[test]
    fn a_node_that_needs_none_any_more_is_not_examined() {
        let mut examinations = Examinations::new(Duration::from_secs(10));
        examinations.set_wanted(&wanted(&[("node-1", Urgency::Alert)]), at(0));
        examinations.set_wanted(&BTreeMap::new(), at(1));
        assert!(examinations.begin(at(1)).is_empty());
        assert_eq!(examinations.next_at(), None);
    }
}
