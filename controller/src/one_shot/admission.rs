//! What evidence a namespace admits: decided from what its admission chain says to the pods that a run would place.

/// What an admission controller said to a pod that was tried.
pub mod rejection;

use k8s_openapi::api::core::v1::Pod;
use prober_core::probe::tier::Tier;
use prober_core::topology::{AccessPath, AgentRole};
use thiserror::Error;

use crate::manifest::{Manifest, Privilege};
use crate::one_shot::admission::rejection::PodRejection;

/// Whether nodes are to be asked what they say of themselves, by a pod in the node's own network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFactsMode {
    /// Where the namespace allows it.
    Auto,
    /// Never.
    Never,
    /// Always; else the run does not start.
    Always,
}

/// What a run wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvidenceRequest {
    /// The most evidence that it gathers.
    pub max_tier: Tier,
    /// The least that it is content with.
    pub min_tier: Tier,
    /// Whether it asks nodes.
    pub node_facts: NodeFactsMode,
}

impl EvidenceRequest {
    /// Whether a pod that sees packets is to be tried.
    pub fn needs_capture(&self) -> bool {
        self.max_tier >= Tier::T1
    }

    /// Whether a pod in a node's own network is to be tried.
    pub fn needs_host_network(&self) -> bool {
        match self.node_facts {
            NodeFactsMode::Never => false,
            NodeFactsMode::Auto | NodeFactsMode::Always => self.max_tier >= Tier::T2,
        }
    }
}

/// One pod of each kind that a run places.
#[derive(Clone, Debug)]
pub struct DryRunPods {
    /// With NET_RAW.
    pub capture: Pod,
    /// Without any capability.
    pub unprivileged: Pod,
    /// Without any capability, in the node's own network.
    pub host: Pod,
}

impl DryRunPods {
    /// The pods of a run, as an admission chain would see them.
    pub fn new(manifest: &Manifest) -> Self {
        Self {
            capture: manifest.dry_run_pod(AgentRole::Client, Privilege::NetRaw),
            unprivileged: manifest.dry_run_pod(AgentRole::Client, Privilege::Unprivileged),
            host: manifest.dry_run_pod(AgentRole::Host, Privilege::Unprivileged),
        }
    }
}

/// What was said to a pod that was tried.
pub type DryRunResult = Result<(), PodRejection>;

/// What was said to each pod that a run would place; `None` where it was not tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRunResults {
    /// To a pod with NET_RAW.
    pub capture: Option<DryRunResult>,
    /// To a pod without any capability.
    pub unprivileged: Option<DryRunResult>,
    /// To a pod without any capability in the node's own network.
    pub host: Option<DryRunResult>,
}

/// What a run may do in its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The evidence that can be had.
    pub tier: Tier,
    /// Whether a pod may be in the node's own network.
    pub host_network: HostNetwork,
    /// What the reader is to know of it, one sentence each.
    pub notes: Vec<String>,
}

impl Admission {
    /// Whether an access path can be probed with what is admitted.
    pub const fn admits(&self, access_path: AccessPath) -> bool {
        match access_path {
            AccessPath::HostNetwork => matches!(self.host_network, HostNetwork::Allowed),
            AccessPath::PodIp
            | AccessPath::ClusterIp
            | AccessPath::ClusterIpAny
            | AccessPath::ClusterIpLocal
            | AccessPath::Hairpin
            | AccessPath::NodePort => true,
        }
    }
}

/// Whether a pod may be in the node's own network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNetwork {
    /// It may: node facts are read, and the access path host-network is probed.
    Allowed,
    /// It may not, or is not wanted.
    Disallowed,
}

/// Why a run does not start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AdmissionError {
    /// No pod of a run is admitted.
    #[error(
        "a probe pod is not admitted in namespace {namespace}, so nothing was probed: {rejection}"
    )]
    PodRejected {
        /// The namespace.
        namespace: String,
        /// What the API server says.
        rejection: PodRejection,
    },
    /// The evidence that was required cannot be had.
    #[error(
        "evidence of tier {least} was required, and namespace {namespace} admits {tier} only: {rejection}; take a \
         namespace that admits more (-n), or do without --require-tier"
    )]
    BelowRequired {
        /// The namespace.
        namespace: String,
        /// What was required.
        least: Tier,
        /// What can be had.
        tier: Tier,
        /// What the API server says to the pod that would have more.
        rejection: PodRejection,
    },
    /// Nodes were to be asked, and cannot be.
    #[error(
        "node facts were required (--node-facts always), and namespace {namespace} admits no pod in the node's \
         network: {rejection}; take a namespace that does (-n), or leave it at --node-facts auto"
    )]
    NoNodeFacts {
        /// The namespace.
        namespace: String,
        /// What the API server says.
        rejection: PodRejection,
    },
}

/// Decides. Whatever lowers the evidence is either told in a note, or, where more was required, the reason not to start.
///
/// No word about [`DryRunResults::plain`] counts as one that admits it: the run finds out.
pub fn evaluate(
    namespace: &str,
    wish: &EvidenceRequest,
    answers: DryRunResults,
) -> Result<Admission, AdmissionError> {
    let namespace = || namespace.to_owned();
    let mut notes = Vec::new();
    let mut lowered = None;
    if let Some(Err(rejection)) = answers.capture {
        if let Some(Err(rejection)) = answers.unprivileged {
            return Err(AdmissionError::PodRejected {
                namespace: namespace(),
                rejection,
            });
        }
        notes.push(format!(
            "tier T0: no agent sees packets, because {rejection}; only what connect() says and what counters count is \
             known, and no cause can be proven by it; a namespace that enforces Pod Security baseline or less admits \
             T1 (-n)"
        ));
        lowered = Some((Tier::T0, rejection));
    } else if let Some(Err(rejection)) = answers.unprivileged {
        return Err(AdmissionError::PodRejected {
            namespace: namespace(),
            rejection,
        });
    }
    let mut host_network = HostNetwork::Disallowed;
    match answers.host {
        Some(Ok(())) => host_network = HostNetwork::Allowed,
        None => {}
        Some(Err(rejection)) => {
            match wish.node_facts {
                NodeFactsMode::Always => {
                    return Err(AdmissionError::NoNodeFacts {
                        namespace: namespace(),
                        rejection,
                    });
                }
                NodeFactsMode::Auto | NodeFactsMode::Never => notes.push(format!(
                    "no node facts: no pod is admitted in the node's own network, because {rejection}; causes that only \
                     a node's own word proves are at most consistent with the evidence"
                )),
            }
            lowered.get_or_insert((Tier::T1, rejection));
        }
    }
    let tier = match &lowered {
        Some((tier, _)) => wish.max_tier.min(*tier),
        None => wish.max_tier,
    };
    match lowered {
        Some((_, rejection)) if tier < wish.min_tier => Err(AdmissionError::BelowRequired {
            namespace: namespace(),
            least: wish.min_tier,
            tier,
            rejection,
        }),
        Some(_) | None => Ok(Admission {
            tier,
            host_network,
            notes,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(level: &str, violations: &str) -> PodRejection {
        PodRejection::PodSecurity {
            level: level.to_owned(),
            violations: violations.to_owned(),
        }
    }

    fn quota() -> PodRejection {
        PodRejection::Quota {
            words: "exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2"
                .to_owned(),
        }
    }

    fn wish(least: Tier, node_facts: NodeFactsMode) -> EvidenceRequest {
        EvidenceRequest {
            max_tier: Tier::T2,
            min_tier: least,
            node_facts,
        }
    }

    /// What the namespaces of the three Pod Security standards say.
    fn answers(level: &str) -> DryRunResults {
        let host = security(level, "host namespaces (hostNetwork=true)");
        match level {
            "privileged" => DryRunResults {
                capture: Some(Ok(())),
                unprivileged: None,
                host: Some(Ok(())),
            },
            "baseline" => DryRunResults {
                capture: Some(Ok(())),
                unprivileged: None,
                host: Some(Err(host)),
            },
            "restricted" => DryRunResults {
                capture: Some(Err(security(level, "runAsUser=0"))),
                unprivileged: Some(Ok(())),
                host: Some(Err(host)),
            },
            other => panic!("{other} is no standard"),
        }
    }

    #[test]
    fn each_standard_admits_a_tier_and_what_it_takes_is_told() {
        for (level, tier, host_network, notes) in [
            ("privileged", Tier::T2, HostNetwork::Allowed, 0),
            ("baseline", Tier::T1, HostNetwork::Disallowed, 1),
            ("restricted", Tier::T0, HostNetwork::Disallowed, 2),
        ] {
            let posture = evaluate("prod", &wish(Tier::T0, NodeFactsMode::Auto), answers(level))
                .expect("a run is possible");
            assert_eq!(posture.tier, tier, "{level}");
            assert_eq!(posture.host_network, host_network, "{level}");
            assert_eq!(posture.notes.len(), notes, "{level}: {:?}", posture.notes);
        }
    }

    #[test]
    fn less_than_what_is_required_does_not_start() {
        let refused =
            |level, least, facts| evaluate("prod", &wish(least, facts), answers(level)).is_err();
        assert!(refused("restricted", Tier::T1, NodeFactsMode::Auto));
        assert!(!refused("baseline", Tier::T1, NodeFactsMode::Auto));
        assert!(refused("baseline", Tier::T2, NodeFactsMode::Auto));
        assert!(refused("baseline", Tier::T0, NodeFactsMode::Always));
        assert!(!refused("privileged", Tier::T2, NodeFactsMode::Always));
    }

    #[test]
    fn a_pod_that_is_refused_for_another_reason_is_no_question_of_tiers() {
        let answers = DryRunResults {
            capture: Some(Err(quota())),
            unprivileged: Some(Err(quota())),
            host: Some(Err(quota())),
        };
        let error = evaluate("prod", &wish(Tier::T0, NodeFactsMode::Auto), answers).unwrap_err();
        assert!(
            matches!(error, AdmissionError::PodRejected { .. }),
            "{error}"
        );
    }

    #[test]
    fn what_a_wish_leaves_out_lowers_the_tier_without_a_word() {
        let wish = EvidenceRequest {
            max_tier: Tier::T1,
            min_tier: Tier::T1,
            node_facts: NodeFactsMode::Never,
        };
        assert!(wish.needs_capture() && !wish.needs_host_network());
        let answers = DryRunResults {
            capture: Some(Ok(())),
            unprivileged: None,
            host: None,
        };
        let posture = evaluate("prod", &wish, answers).expect("a run is possible");
        assert_eq!((posture.tier, posture.notes.len()), (Tier::T1, 0));
    }

    #[test]
    fn what_is_said_reads_like_this() {
        let auto = wish(Tier::T0, NodeFactsMode::Auto);
        let mut said = evaluate("prod", &auto, answers("restricted"))
            .expect("a run is possible")
            .notes;
        let mut fails = |wish: &EvidenceRequest, answers: DryRunResults| {
            said.push(evaluate("prod", wish, answers).unwrap_err().to_string());
        };
        fails(&wish(Tier::T1, NodeFactsMode::Auto), answers("restricted"));
        fails(&wish(Tier::T0, NodeFactsMode::Always), answers("baseline"));
        let none = DryRunResults {
            capture: Some(Err(quota())),
            unprivileged: Some(Err(quota())),
            host: None,
        };
        fails(&auto, none);
        insta::assert_snapshot!(said.join("\n"));
    }
}
