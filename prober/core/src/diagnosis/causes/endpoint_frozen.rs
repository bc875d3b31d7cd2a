//! `endpoint-frozen`: the backend's kernel completes handshakes, and its process, stopped or stuck, sends nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::traffic::may_fail_to;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::diagnosis::{PathSegment, Remedy};
use crate::evidence::Source;
use crate::packet::family::Family;
use crate::packet::observation::{Direction, Observation};
use crate::probe::event::ServerTrace;
use crate::topology::{AccessPath, AgentId, Path};

/// A process that does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndpointFrozen;

/// Maximum time from a SYN to the banner of a process that runs.
const MAX_BANNER_DELAY: Duration = Duration::from_secs(1);

/// Whether the agent in that pod has stopped reporting.
fn has_stopped_reporting(case: &Case<'_>, pod: &AgentId) -> bool {
    let known = case.matrix.agents.get(pod);
    known.is_some_and(|agent| !agent.has_reported)
}

/// Whether a server's end sent data while its client waited. A process that is resumed just before its removal still sends a
/// banner to clients that have given up.
fn sent_data(server_trace: &ServerTrace) -> bool {
    let first = server_trace.observations.first().map(|seen| seen.at);
    server_trace.observations.iter().any(|seen| {
        let tcp = seen.packet.tcp();
        seen.direction == Direction::Sent
            && tcp.is_some_and(|(_, tcp)| tcp.payload_len > 0)
            && first.is_none_or(|first| seen.at.since(first) < MAX_BANNER_DELAY)
    })
}

/// Whether a client received its SYN+ACK twice: the server's kernel dropped the third packet of the handshake.
fn repeats_syn_ack(case: &Case<'_>, group: &FailureGroup) -> bool {
    let is_syn_ack = |seen: &&Observation| {
        let tcp = seen.packet.tcp();
        seen.direction == Direction::Received && tcp.is_some_and(|(_, tcp)| tcp.flags.is_syn_ack())
    };
    case.probes(group)
        .any(|probe| probe.client.observations.iter().filter(is_syn_ack).count() > 1)
}

impl Model for EndpointFrozen {
    fn cause(&self) -> Cause {
        Cause::EndpointFrozen
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        // Only the servers of a run send a banner by themselves.
        if case.matrix.source != Source::Run {
            return BTreeSet::new();
        }
        case.failing(|group| group.family == family && group.symptom == Symptom::NoData)
            .filter_map(|(_, group)| group.server.as_ref())
            .map(|server| Place::pod(server, family))
            .collect()
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        let PathSegment::Pod { pod } = &place.segment else {
            return Prediction::Passes;
        };
        // It may stop, or run again, during the run.
        may_fail_to(pod, path)
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let PathSegment::Pod { pod } = &place.segment else {
            return false;
        };
        let is_possible = match group.server_end {
            ServerEnd::Completed | ServerEnd::Unknown => true,
            ServerEnd::Nothing
            | ServerEnd::SynOnly
            | ServerEnd::SynAck
            | ServerEnd::SynAckReset
            | ServerEnd::ResetSent => has_stopped_reporting(case, pod),
        };
        group.server.as_ref() == Some(pod) && group.symptom == Symptom::NoData && is_possible
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let PathSegment::Pod { pod } = &place.segment else {
            return Fingerprint::Missing(Vec::new());
        };
        if case.at(groups).any(|group| repeats_syn_ack(case, group)) {
            return Fingerprint::Refuted(format!(
                "{pod} repeats its SYN+ACK: its kernel does not complete handshakes"
            ));
        }
        if case
            .at(groups)
            .any(|group| case.server_traces(group).any(sent_data))
        {
            return Fingerprint::Refuted(format!("{pod} sent data while its client waited"));
        }
        let is_completed = case.best_server_end(groups) == ServerEnd::Completed;
        let is_silent = has_stopped_reporting(case, pod);
        // A stopped process answers on no path. Loss after the handshake also leaves one without a banner.
        let mut healthy = case.all_healthy();
        let answers = healthy.any(|evidence| {
            let path = &evidence.path;
            path.family == place.family && path.server.as_ref() == Some(pod)
        });
        if !is_silent && (!is_completed || answers) {
            return Fingerprint::Missing(vec![format!(
                "the state of the process in {pod}: `cat /proc/1/status | grep State`"
            )]);
        }
        let mut said = vec![completes(case, pod, groups)];
        if is_completed {
            said.push("its end saw the third packet of the handshake, and sent no data".to_owned());
        }
        if is_silent {
            said.push(format!("the agent in {pod} has stopped reporting as well"));
        }
        Fingerprint::Seen(Proof::Packets, said)
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let PathSegment::Pod { pod } = &place.segment else {
            return Vec::new();
        };
        let is_said = case.best_server_end(groups) == ServerEnd::Completed
            || has_stopped_reporting(case, pod);
        if is_said {
            Vec::new()
        } else {
            vec![completes(case, pod, groups)]
        }
    }

    fn remedy(&self, _: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let PathSegment::Pod { pod } = &place.segment else {
            return Vec::new();
        };
        vec![step(
            "See whether the process is stopped (T), in uninterruptible sleep (D), or its cgroup frozen; then restart the pod.",
            [
                format!(
                    "kubectl exec {} -- cat /proc/1/status | grep State",
                    pod.pod
                ),
                format!("kubectl delete pod {}", pod.pod),
            ],
        )]
    }
}

/// What the server's kernel does, as a sentence.
fn completes(case: &Case<'_>, pod: &AgentId, groups: &BTreeSet<usize>) -> String {
    let access_paths: BTreeSet<AccessPath> =
        case.at(groups).map(|group| group.access_path).collect();
    format!(
        "{pod}'s kernel completes handshakes on {} access paths, and no banner follows",
        access_paths.len()
    )
}
