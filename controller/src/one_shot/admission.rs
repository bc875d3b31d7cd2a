//! The evidence that a namespace admits, derived from the responses of its admission chain to dry runs of the run's pods.

/// Classifies the rejection of a pod.
pub mod rejection;

use k8s_openapi::api::core::v1::Pod;
use prober_core::probe::tier::Tier;
use prober_core::topology::{AccessPath, AgentRole};
use thiserror::Error;

use crate::manifest::{Manifest, Privilege};
use crate::one_shot::admission::rejection::PodRejection;

/// Whether a run reads facts of nodes, with a pod in the host network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFactsMode {
    /// If the namespace admits the pod.
    Auto,
    /// Never.
    Never,
    /// Always. If the namespace does not admit the pod, the run does not start.
    Always,
}

/// The evidence that a run gathers and requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvidenceRequest {
    /// The highest tier that it gathers.
    pub max_tier: Tier,
    /// The lowest tier with which it starts.
    pub min_tier: Tier,
    /// Whether it reads facts of nodes.
    pub node_facts: NodeFactsMode,
}

impl EvidenceRequest {
    /// Whether the run needs a pod that captures packets.
    pub fn needs_capture(&self) -> bool {
        self.max_tier >= Tier::T1
    }

    /// Whether the run needs a pod in the host network.
    pub fn needs_host_network(&self) -> bool {
        match self.node_facts {
            NodeFactsMode::Never => false,
            NodeFactsMode::Auto | NodeFactsMode::Always => self.max_tier >= Tier::T2,
        }
    }
}

/// The pods of a run for dry runs, one of each kind.
#[derive(Clone, Debug)]
pub struct DryRunPods {
    /// With `NET_RAW`.
    pub capture: Pod,
    /// Without capabilities.
    pub unprivileged: Pod,
    /// Without capabilities, in the host network.
    pub host: Pod,
}

impl DryRunPods {
    /// Builds the pods.
    pub fn new(manifest: &Manifest) -> Self {
        Self {
            capture: manifest.dry_run_pod(AgentRole::Client, Privilege::NetRaw),
            unprivileged: manifest.dry_run_pod(AgentRole::Client, Privilege::Unprivileged),
            host: manifest.dry_run_pod(AgentRole::Host, Privilege::Unprivileged),
        }
    }
}

/// Whether a pod is admitted.
pub type DryRunResult = Result<(), PodRejection>;

/// The result for each of the [`DryRunPods`]; `None` where no dry run was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRunResults {
    /// Of the pod with `NET_RAW`.
    pub capture: Option<DryRunResult>,
    /// Of the pod without capabilities.
    pub unprivileged: Option<DryRunResult>,
    /// Of the pod in the host network.
    pub host: Option<DryRunResult>,
}

/// The evidence that a namespace admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The highest tier of evidence.
    pub tier: Tier,
    /// Whether pods may use the host network.
    pub host_network: HostNetwork,
    /// Notes for the reader of the report, one sentence each.
    pub notes: Vec<String>,
}

impl Admission {
    /// Whether the admitted pods can probe a path of this kind.
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

/// Whether pods may use the host network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNetwork {
    /// They may: node facts are read, and paths of kind host-network are probed.
    Allowed,
    /// They may not, or the run does not need them.
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
        /// Why the pod is rejected.
        rejection: PodRejection,
    },
    /// The admitted tier is lower than the required one.
    #[error(
        "evidence of tier {least} was required, and namespace {namespace} admits only {tier}: {rejection}; use a \
         namespace that admits more (-n), or omit --require-tier"
    )]
    BelowRequired {
        /// The namespace.
        namespace: String,
        /// The required tier.
        least: Tier,
        /// The admitted tier.
        tier: Tier,
        /// Why the pod for a higher tier is rejected.
        rejection: PodRejection,
    },
    /// Node facts are required, and their pod is not admitted.
    #[error(
        "node facts were required (--node-facts always), and namespace {namespace} admits no pod in the host \
         network: {rejection}; use a namespace that does (-n), or --node-facts auto"
    )]
    NoNodeFacts {
        /// The namespace.
        namespace: String,
        /// Why the pod is rejected.
        rejection: PodRejection,
    },
}

/// Derives the admission from the results of the dry runs. A rejection lowers the tier with a note, or is an error if the
/// request requires more.
///
/// Without a result of [`DryRunResults::unprivileged`] that pod counts as admitted; the run finds out.
///
/// # Errors
///
/// If no pod is admitted, or less than `request` requires.
pub fn evaluate(
    namespace: &str,
    request: &EvidenceRequest,
    results: DryRunResults,
) -> Result<Admission, AdmissionError> {
    let namespace = || namespace.to_owned();
    let mut notes = Vec::new();
    let mut lowered = None;
    if let Some(Err(rejection)) = results.capture {
        if let Some(Err(rejection)) = results.unprivileged {
            return Err(AdmissionError::PodRejected {
                namespace: namespace(),
                rejection,
            });
        }
        notes.push(format!(
            "tier T0: agents capture no packets, because {rejection}; the evidence is only what connect() returns and what \
             counters count, which proves no cause; a namespace that enforces Pod Security baseline or less admits T1 (-n)"
        ));
        lowered = Some((Tier::T0, rejection));
    } else if let Some(Err(rejection)) = results.unprivileged {
        return Err(AdmissionError::PodRejected {
            namespace: namespace(),
            rejection,
        });
    }
    let mut host_network = HostNetwork::Disallowed;
    match results.host {
        Some(Ok(())) => host_network = HostNetwork::Allowed,
        None => {}
        Some(Err(rejection)) => {
            match request.node_facts {
                NodeFactsMode::Always => {
                    return Err(AdmissionError::NoNodeFacts {
                        namespace: namespace(),
                        rejection,
                    });
                }
                NodeFactsMode::Auto | NodeFactsMode::Never => notes.push(format!(
                    "no node facts: no pod is admitted in the host network, because {rejection}; causes that only node \
                     facts prove are at most consistent with the evidence"
                )),
            }
            lowered.get_or_insert((Tier::T1, rejection));
        }
    }
    let tier = match &lowered {
        Some((tier, _)) => request.max_tier.min(*tier),
        None => request.max_tier,
    };
    match lowered {
        Some((_, rejection)) if tier < request.min_tier => Err(AdmissionError::BelowRequired {
            namespace: namespace(),
            least: request.min_tier,
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
            reason: "exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2"
                .to_owned(),
        }
    }

    fn request(min_tier: Tier, node_facts: NodeFactsMode) -> EvidenceRequest {
        EvidenceRequest {
            max_tier: Tier::T2,
            min_tier,
            node_facts,
        }
    }

    /// The results in a namespace that enforces a Pod Security standard.
    fn results(level: &str) -> DryRunResults {
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
            other => panic!("{other} is no Pod Security standard"),
        }
    }

    #[test]
    fn each_pod_security_standard_admits_a_tier_with_notes() {
        for (level, tier, host_network, notes) in [
            ("privileged", Tier::T2, HostNetwork::Allowed, 0),
            ("baseline", Tier::T1, HostNetwork::Disallowed, 1),
            ("restricted", Tier::T0, HostNetwork::Disallowed, 2),
        ] {
            let admission = evaluate(
                "prod",
                &request(Tier::T0, NodeFactsMode::Auto),
                results(level),
            )
            .expect("a run is possible");
            assert_eq!(admission.tier, tier, "{level}");
            assert_eq!(admission.host_network, host_network, "{level}");
            assert_eq!(
                admission.notes.len(),
                notes,
                "{level}: {:?}",
                admission.notes
            );
        }
    }

    #[test]
    fn a_run_that_requires_more_than_is_admitted_does_not_start() {
        let fails =
            |level, least, facts| evaluate("prod", &request(least, facts), results(level)).is_err();
        assert!(fails("restricted", Tier::T1, NodeFactsMode::Auto));
        assert!(!fails("baseline", Tier::T1, NodeFactsMode::Auto));
        assert!(fails("baseline", Tier::T2, NodeFactsMode::Auto));
        assert!(fails("baseline", Tier::T0, NodeFactsMode::Always));
        assert!(!fails("privileged", Tier::T2, NodeFactsMode::Always));
    }

    #[test]
    fn a_rejection_for_another_reason_is_independent_of_the_tier() {
        let results = DryRunResults {
            capture: Some(Err(quota())),
            unprivileged: Some(Err(quota())),
            host: Some(Err(quota())),
        };
        let error = evaluate("prod", &request(Tier::T0, NodeFactsMode::Auto), results).unwrap_err();
        assert!(
            matches!(error, AdmissionError::PodRejected { .. }),
            "{error}"
        );
    }

    #[test]
    fn a_lower_requested_tier_has_no_note() {
        let request = EvidenceRequest {
            max_tier: Tier::T1,
            min_tier: Tier::T1,
            node_facts: NodeFactsMode::Never,
        };
        assert!(request.needs_capture() && !request.needs_host_network());
        let results = DryRunResults {
            capture: Some(Ok(())),
            unprivileged: None,
            host: None,
        };
        let admission = evaluate("prod", &request, results).expect("a run is possible");
        assert_eq!((admission.tier, admission.notes.len()), (Tier::T1, 0));
    }

    #[test]
    fn notes_and_errors_read_like_this() {
        let auto = request(Tier::T0, NodeFactsMode::Auto);
        let mut messages = evaluate("prod", &auto, results("restricted"))
            .expect("a run is possible")
            .notes;
        let mut fails = |request: &EvidenceRequest, results: DryRunResults| {
            messages.push(evaluate("prod", request, results).unwrap_err().to_string());
        };
        fails(
            &request(Tier::T1, NodeFactsMode::Auto),
            results("restricted"),
        );
        fails(
            &request(Tier::T0, NodeFactsMode::Always),
            results("baseline"),
        );
        let none = DryRunResults {
            capture: Some(Err(quota())),
            unprivileged: Some(Err(quota())),
            host: None,
        };
        fails(&auto, none);
        insta::assert_snapshot!(messages.join("\n"));
    }
}
