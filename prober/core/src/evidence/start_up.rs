//! Paths that failed only while the pods at their ends were new: from their first probe until one moment, and never after it.
//!
//! A pod runs before its paths work: a network plugin has yet to program its policies, and a proxy its rules. Until then probes
//! get no answer or are refused. This is no fault if it ends soon. Where a path of the same node worked before and fails at the
//! same time, something else has ended: an outage.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Evidence, Matrix, PathEvidence, Source};
use crate::probe::outcome::Outcome;
use crate::time::Timestamp;
use crate::topology::{AccessPath, AgentId, NodeName, PathId, Scope};

/// The longest time from the readiness of its pods within which a path opens without a fault. Network plugins that wait for a
/// retry of their own take up to 4 s for a new pod; a workload notices nothing that ends before its second readiness probe
/// (`periodSeconds` is 10 by default).
pub const MAX_START_UP: Duration = Duration::from_secs(10);

/// The least number of failed probes that show by themselves that a path was closed: at a loss of 1 %, the first three
/// probes of a path, and only these, are lost once in a million times.
const MIN_FAILURES: usize = 3;

/// Time of a connect() that shows a repeated SYN where packets are not captured, nanoseconds.
const REPEATED_NS: u64 = 900_000_000;

/// When a path opened whose first probes failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The number of probes that failed, or whose first SYN was not answered.
    pub failures: usize,
    /// The last moment at which a probe failed, by the client's clock.
    pub closed_until: Timestamp,
    /// The first answer, by the client's clock.
    pub opened: Timestamp,
    /// From the readiness of the later one of its pods to the first answer.
    pub after: Duration,
}

impl Opening {
    /// Whether the path opened within [`MAX_START_UP`].
    pub fn is_in_time(&self) -> bool {
        self.after <= MAX_START_UP
    }
}

/// The paths of one node that opened after their pods were ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateStart {
    /// The node that they have in common.
    pub node: NodeName,
    /// The number of paths.
    pub paths: usize,
    /// The number of probes that failed on them until then.
    pub failures: usize,
    /// From the readiness of a path's pods to its first answer, on the path that took longest.
    pub after: Duration,
}

impl Matrix {
    /// The paths that were closed from their first probe until one moment while their pods were new, and open ever after.
    pub fn openings(&self) -> BTreeMap<PathId, Opening> {
        match self.source {
            Source::Run => {}
            Source::Host | Source::Capture => return BTreeMap::new(),
        }
        let histories: BTreeMap<PathId, History> = (self.paths.iter())
            .filter_map(|(&id, evidence)| Some((id, History::of(evidence)?)))
            .collect();
        let relapses = self.relapses(&histories);
        let mut openings: BTreeMap<PathId, Opening> = BTreeMap::new();
        let mut until: BTreeMap<&NodeName, Timestamp> = BTreeMap::new();
        for (&id, history) in &histories {
            let Some(evidence) = self.paths.get(&id) else {
                continue;
            };
            let has_relapsed = nodes(evidence)
                .into_iter()
                .filter_map(|node| relapses.get(node))
                .any(|relapses| history.overlaps(relapses));
            if history.failed.len() < MIN_FAILURES || !history.is_in_two_parts() || has_relapsed {
                continue;
            }
            if let Some(opening) = self.opening(evidence, history) {
                for node in nodes(evidence) {
                    let known = until.entry(node).or_default();
                    *known = opening.opened.max(*known);
                }
                openings.insert(id, opening);
            }
        }
        // What few failures or several servers do not show by themselves, the other paths of the same node do.
        for (&id, history) in &histories {
            let Some(evidence) = self.paths.get(&id).filter(|_| !openings.contains_key(&id)) else {
                continue;
            };
            let mut until = nodes(evidence)
                .into_iter()
                .filter_map(|node| until.get(node));
            let has_ended = until.any(|until| history.closed_until() < Some(*until));
            let is_alike = evidence.path.scope() == Scope::Any || history.is_in_two_parts();
            if has_ended
                && is_alike
                && let Some(opening) = self.opening(evidence, history)
            {
                openings.insert(id, opening);
            }
        }
        openings
    }

    /// The failures on each node of paths that had worked before. Paths to several servers do not count: one may open first.
    fn relapses(
        &self,
        histories: &BTreeMap<PathId, History>,
    ) -> BTreeMap<&NodeName, BTreeSet<Timestamp>> {
        let mut relapses: BTreeMap<&NodeName, BTreeSet<Timestamp>> = BTreeMap::new();
        for (id, history) in histories {
            let evidence = (self.paths.get(id)).filter(|path| path.path.scope() != Scope::Any);
            for node in evidence.map(nodes).unwrap_or_default() {
                relapses.entry(node).or_default().extend(history.relapses());
            }
        }
        relapses
    }

    /// The nodes with paths that opened late, and in time, of these openings of the matrix: each path counts for one node,
    /// those with most paths first.
    pub fn late_starts(&self, openings: &BTreeMap<PathId, Opening>) -> Vec<LateStart> {
        let mut left = openings.clone();
        left.retain(|_, opening| opening.is_in_time());
        let mut found = Vec::new();
        loop {
            let mut of_nodes: BTreeMap<&NodeName, BTreeSet<PathId>> = BTreeMap::new();
            for &id in left.keys() {
                for node in self.paths.get(&id).map(nodes).unwrap_or_default() {
                    of_nodes.entry(node).or_default().insert(id);
                }
            }
            // Of nodes with equally many, the first.
            let most = of_nodes.iter().rev().max_by_key(|(_, paths)| paths.len());
            let Some((&node, paths)) = most else {
                return found;
            };
            let openings: Vec<Opening> = paths.iter().filter_map(|id| left.remove(id)).collect();
            found.push(LateStart {
                node: node.clone(),
                paths: openings.len(),
                failures: openings.iter().map(|opening| opening.failures).sum(),
                after: (openings.iter().map(|opening| opening.after))
                    .max()
                    .unwrap_or_default(),
            });
        }
    }

    /// The opening of a path whose probes failed and then worked, if this run has started its pods.
    fn opening(&self, evidence: &PathEvidence, history: &History) -> Option<Opening> {
        let closed_until = history.closed_until()?;
        let answers = history.worked.iter().copied();
        let opened = answers.filter(|at| *at > closed_until).min()?;
        let ready = self.ready(evidence)?;
        Some(Opening {
            failures: history.failed.len(),
            closed_until,
            opened,
            after: opened.since(ready),
        })
    }

    /// When the later one of a path's pods was ready, by its client's clock; `None` if an earlier run or cycle has used its client.
    pub(super) fn ready(&self, evidence: &PathEvidence) -> Option<Timestamp> {
        let ready_at = |agent: &AgentId| self.agents.get(agent)?.ready_at;
        let client = self.agents.get(&evidence.path.client)?;
        let by_own_clock = client.hello.as_ref()?.at;
        let by_run = client.ready_at?;
        let servers = evidence.servers().filter_map(ready_at);
        Some(by_own_clock + servers.fold(by_run, Ord::max).since(by_run))
    }

    /// For how long a path of new pods has been closed: from their readiness to the start of its last probe. `None` if a probe was
    /// answered, or if its client is not new.
    pub fn closed_for(&self, evidence: &PathEvidence) -> Option<Duration> {
        let is_closed = evidence.total().outcomes.established == 0;
        let ready = self.ready(evidence).filter(|_| is_closed)?;
        let last = evidence.probes.iter().map(|probe| probe.client.started);
        Some(last.max()?.since(ready))
    }
}

impl PathEvidence {
    /// Whether every probe that failed began before every one that was answered well: whatever it was, it is over. `false` if no
    /// probe failed, or if not every failure was reported.
    pub fn has_come_up(&self) -> bool {
        let (mut failed, mut worked): (Vec<Timestamp>, Vec<Timestamp>) = (Vec::new(), Vec::new());
        for (_, probe) in self.counted() {
            let banner = probe.client.exchange.banner();
            let is_of_another = banner.is_some_and(|banner| self.is_of_another(banner));
            let is_well = probe.client.is_first_syn_success() && probe.is_carried();
            if is_well && !is_of_another {
                worked.push(probe.client.started);
            } else {
                failed.push(probe.client.started);
            }
        }
        let total = self.total();
        let counted = (total.outcomes.total()).saturating_sub(total.first_syn_success);
        let is_complete = counted <= u64::try_from(failed.len()).unwrap_or(u64::MAX);
        let ends = failed.into_iter().max().zip(worked.into_iter().min());
        is_complete && ends.is_some_and(|(last, first)| last < first)
    }
}

/// The nodes at the ends of a path.
fn nodes(evidence: &PathEvidence) -> BTreeSet<&NodeName> {
    let servers = evidence.servers().map(|server| &server.node);
    servers.chain([&evidence.path.client.node]).collect()
}

/// The moments at which the probes of a path show that it is closed or open.
struct History {
    /// For each probe that failed, when it began: its first packet decides its translation for all. For each that was answered
    /// late, its last SYN without an answer.
    failed: Vec<Timestamp>,
    /// The first answers of probes.
    worked: Vec<Timestamp>,
}

impl History {
    /// The moments of a path with failures; `None` if there are none, if not all of them were reported, or if a path that is
    /// not programmed yet does not fail like this.
    fn of(evidence: &PathEvidence) -> Option<Self> {
        let mut history = Self {
            failed: Vec::new(),
            worked: Vec::new(),
        };
        for (_, probe) in evidence.counted() {
            history.add(evidence, probe)?;
        }
        let mut failures: u64 = 0;
        for engine in evidence.engines() {
            if let Some(tally) = evidence.tallies.get(&engine) {
                let established = tally.first_syn_success;
                let failed = tally.outcomes.total().saturating_sub(established);
                failures = failures.saturating_add(failed);
            }
        }
        let reported = u64::try_from(history.failed.len()).unwrap_or(u64::MAX);
        (reported > 0 && failures <= reported).then_some(history)
    }

    fn add(&mut self, evidence: &PathEvidence, probe: &Evidence) -> Option<()> {
        let of_another =
            (probe.client.exchange.banner()).is_some_and(|banner| evidence.is_of_another(banner));
        if of_another || !probe.is_carried() {
            return None;
        }
        let client = &probe.client;
        match client.outcome {
            Outcome::Established { connect_ns, .. } => {
                let answered = client.started + Duration::from_nanos(connect_ns);
                if client.syns > 1 || connect_ns >= REPEATED_NS {
                    // Where packets were not captured, it counts from its start.
                    let before = client.syn_before_answer(answered);
                    self.failed.push(before.unwrap_or(client.started));
                }
                self.worked.push(answered);
            }
            Outcome::Unreachable { .. } | Outcome::RefusedLocally { .. } | Outcome::Timeout => {
                self.failed.push(client.started);
            }
            // A host answers that has the address: the node for its port, before the rules are written. For any other address it
            // is a pod, perhaps the wrong one of two.
            Outcome::Reset { .. } if evidence.path.access_path == AccessPath::NodePort => {
                self.failed.push(client.started);
            }
            Outcome::Reset { .. } | Outcome::Mismatched { .. } => return None,
        }
        Some(())
    }

    /// The last moment at which the path was closed.
    fn closed_until(&self) -> Option<Timestamp> {
        self.failed.iter().max().copied()
    }

    /// The failures after the first success.
    fn relapses(&self) -> impl Iterator<Item = Timestamp> {
        let opened = self.worked.iter().min().copied();
        let failed = self.failed.iter().copied();
        failed.filter(move |at| opened.is_some_and(|opened| opened < *at))
    }

    /// Whether one of these moments is between the first and the last failure.
    fn overlaps(&self, moments: &BTreeSet<Timestamp>) -> bool {
        let ends = self.failed.iter().min().zip(self.failed.iter().max());
        ends.is_some_and(|(first, last)| moments.range(first..=last).next().is_some())
    }

    /// Whether every failure precedes every success.
    fn is_in_two_parts(&self) -> bool {
        let opened = self.worked.iter().min().copied();
        opened.is_some() && self.closed_until() < opened
    }
}
