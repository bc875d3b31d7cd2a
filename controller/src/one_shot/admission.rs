//! What evidence a namespace admits: decided from what its admission chain says to the pods that a run would place.

/// What an admission controller said to a pod that was tried.
pub mod refusal;

use k8s_openapi::api::core::v1::Pod;
use prober_core::probe::tier::Tier;
use prober_core::topology::{Role, Route};
use thiserror::Error;

use crate::manifest::{Manifest, Privilege};
use crate::one_shot::admission::refusal::Refusal;

/// Whether nodes are to be asked what they say of themselves, by a pod in the node's own network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFactsWish {
    /// Where the namespace allows it.
    Auto,
    /// Never.
    Never,
    /// Always; else the run does not start.
    Always,
}

/// What a run wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The most evidence that it gathers.
    pub most: Tier,
    /// The least that it is content with.
    pub least: Tier,
    /// Whether it asks nodes.
    pub node_facts: NodeFactsWish,
}

impl Wish {
    /// Whether a pod that sees packets is to be tried.
    pub fn captures(&self) -> bool {
        self.most >= Tier::T1
    }

    /// Whether a pod in a node's own network is to be tried.
    pub fn asks_nodes(&self) -> bool {
        match self.node_facts {
            NodeFactsWish::Never => false,
            NodeFactsWish::Auto | NodeFactsWish::Always => self.most >= Tier::T2,
        }
    }
}

/// One pod of each kind that a run places.
#[derive(Clone, Debug)]
pub struct Shapes {
    /// With NET_RAW.
    pub capture: Pod,
    /// Without any capability.
    pub plain: Pod,
    /// Without any capability, in the node's own network.
    pub host: Pod,
}

impl Shapes {
    /// The pods of a run, as an admission chain would see them.
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            capture: manifest.trial(Role::Client, Privilege::Packets),
            plain: manifest.trial(Role::Client, Privilege::None),
            host: manifest.trial(Role::Host, Privilege::None),
        }
    }
}

/// What was said to a pod that was tried.
pub type Tried = Result<(), Refusal>;

/// What was said to each pod that a run would place; `None` where it was not tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// To a pod with NET_RAW.
    pub capture: Option<Tried>,
    /// To a pod without any capability.
    pub plain: Option<Tried>,
    /// To a pod without any capability in the node's own network.
    pub host: Option<Tried>,
}

/// What a run may do in its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posture {
    /// The evidence that can be had.
    pub tier: Tier,
    /// Whether a pod may be in the node's own network.
    pub host_network: HostNetwork,
    /// What the reader is to know of it, one sentence each.
    pub notes: Vec<String>,
}

impl Posture {
    /// Whether a route can be probed with what is admitted.
    pub const fn admits(&self, route: Route) -> bool {
        match route {
            Route::HostNetwork => matches!(self.host_network, HostNetwork::Allowed),
            Route::PodIp
            | Route::ClusterIp
            | Route::ClusterIpAny
            | Route::ProberLocal
            | Route::Hairpin
            | Route::NodePort => true,
        }
    }
}

/// Whether a pod may be in the node's own network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNetwork {
    /// It may: node facts are read, and the route host-network is probed.
    Allowed,
    /// It may not, or is not wanted.
    Refused,
}

/// Why a run does not start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PostureError {
    /// No pod of a run is admitted.
    #[error(
        "a probe pod is not admitted in namespace {namespace}, so nothing was probed: {refusal}"
    )]
    NoPod {
        /// The namespace.
        namespace: String,
        /// What the API server says.
        refusal: Refusal,
    },
    /// The evidence that was required cannot be had.
    #[error(
        "evidence of tier {least} was required, and namespace {namespace} admits {tier} only: {refusal}; take a \
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
        refusal: Refusal,
    },
    /// Nodes were to be asked, and cannot be.
    #[error(
        "node facts were required (--node-facts always), and namespace {namespace} admits no pod in the node's \
         network: {refusal}; take a namespace that does (-n), or leave it at --node-facts auto"
    )]
    NoNodeFacts {
        /// The namespace.
        namespace: String,
        /// What the API server says.
        refusal: Refusal,
    },
}

/// Decides. Whatever lowers the evidence is either told in a note, or, where more was required, the reason not to start.
///
/// No word about [`Answers::plain`] counts as one that admits it: the run finds out.
pub fn decide(namespace: &str, wish: &Wish, answers: Answers) -> Result<Posture, PostureError> {
    let namespace = || namespace.to_owned();
    let mut notes = Vec::new();
    let mut lowered = None;
    if let Some(Err(refusal)) = answers.capture {
        if let Some(Err(refusal)) = answers.plain {
            return Err(PostureError::NoPod {
                namespace: namespace(),
                refusal,
            });
        }
        notes.push(format!(
            "tier T0: no agent sees packets, because {refusal}; only what connect() says and what counters count is \
             known, and no cause can be proven by it; a namespace that enforces Pod Security baseline or less admits \
             T1 (-n)"
        ));
        lowered = Some((Tier::T0, refusal));
    } else if let Some(Err(refusal)) = answers.plain {
        return Err(PostureError::NoPod {
            namespace: namespace(),
            refusal,
        });
    }
    let mut host_network = HostNetwork::Refused;
    match answers.host {
        Some(Ok(())) => host_network = HostNetwork::Allowed,
        None => {}
        Some(Err(refusal)) => {
            match wish.node_facts {
                NodeFactsWish::Always => {
                    return Err(PostureError::NoNodeFacts {
                        namespace: namespace(),
                        refusal,
                    });
                }
                NodeFactsWish::Auto | NodeFactsWish::Never => notes.push(format!(
                    "no node facts: no pod is admitted in the node's own network, because {refusal}; causes that only \
                     a node's own word proves are at most consistent with the evidence"
                )),
            }
            lowered.get_or_insert((Tier::T1, refusal));
        }
    }
    let tier = match &lowered {
        Some((tier, _)) => wish.most.min(*tier),
        None => wish.most,
    };
    match lowered {
        Some((_, refusal)) if tier < wish.least => Err(PostureError::BelowRequired {
            namespace: namespace(),
            least: wish.least,
            tier,
            refusal,
        }),
        Some(_) | None => Ok(Posture {
            tier,
            host_network,
            notes,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(level: &str, violations: &str) -> Refusal {
        Refusal::PodSecurity {
            level: level.to_owned(),
            violations: violations.to_owned(),
        }
    }

    fn quota() -> Refusal {
        Refusal::Quota {
            words: "exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2"
                .to_owned(),
        }
    }

    fn wish(least: Tier, node_facts: NodeFactsWish) -> Wish {
        Wish {
            most: Tier::T2,
            least,
            node_facts,
        }
    }

    /// What the namespaces of the three Pod Security standards say.
    fn answers(level: &str) -> Answers {
        let host = security(level, "host namespaces (hostNetwork=true)");
        match level {
            "privileged" => Answers {
                capture: Some(Ok(())),
                plain: None,
                host: Some(Ok(())),
            },
            "baseline" => Answers {
                capture: Some(Ok(())),
                plain: None,
                host: Some(Err(host)),
            },
            "restricted" => Answers {
                capture: Some(Err(security(level, "runAsUser=0"))),
                plain: Some(Ok(())),
                host: Some(Err(host)),
            },
            other => panic!("{other} is no standard"),
        }
    }

    #[test]
    fn each_standard_admits_a_tier_and_what_it_takes_is_told() {
        for (level, tier, host_network, notes) in [
            ("privileged", Tier::T2, HostNetwork::Allowed, 0),
            ("baseline", Tier::T1, HostNetwork::Refused, 1),
            ("restricted", Tier::T0, HostNetwork::Refused, 2),
        ] {
            let posture = decide("prod", &wish(Tier::T0, NodeFactsWish::Auto), answers(level))
                .expect("a run is possible");
            assert_eq!(posture.tier, tier, "{level}");
            assert_eq!(posture.host_network, host_network, "{level}");
            assert_eq!(posture.notes.len(), notes, "{level}: {:?}", posture.notes);
        }
    }

    #[test]
    fn less_than_what_is_required_does_not_start() {
        let refused =
            |level, least, facts| decide("prod", &wish(least, facts), answers(level)).is_err();
        assert!(refused("restricted", Tier::T1, NodeFactsWish::Auto));
        assert!(!refused("baseline", Tier::T1, NodeFactsWish::Auto));
        assert!(refused("baseline", Tier::T2, NodeFactsWish::Auto));
        assert!(refused("baseline", Tier::T0, NodeFactsWish::Always));
        assert!(!refused("privileged", Tier::T2, NodeFactsWish::Always));
    }

    #[test]
    fn a_pod_that_is_refused_for_another_reason_is_no_question_of_tiers() {
        let answers = Answers {
            capture: Some(Err(quota())),
            plain: Some(Err(quota())),
            host: Some(Err(quota())),
        };
        let error = decide("prod", &wish(Tier::T0, NodeFactsWish::Auto), answers).unwrap_err();
        assert!(matches!(error, PostureError::NoPod { .. }), "{error}");
    }

    #[test]
    fn what_a_wish_leaves_out_lowers_the_tier_without_a_word() {
        let wish = Wish {
            most: Tier::T1,
            least: Tier::T1,
            node_facts: NodeFactsWish::Never,
        };
        assert!(wish.captures() && !wish.asks_nodes());
        let answers = Answers {
            capture: Some(Ok(())),
            plain: None,
            host: None,
        };
        let posture = decide("prod", &wish, answers).expect("a run is possible");
        assert_eq!((posture.tier, posture.notes.len()), (Tier::T1, 0));
    }

    #[test]
    fn what_is_said_reads_like_this() {
        let auto = wish(Tier::T0, NodeFactsWish::Auto);
        let mut said = decide("prod", &auto, answers("restricted"))
            .expect("a run is possible")
            .notes;
        let mut fails = |wish: &Wish, answers: Answers| {
            said.push(decide("prod", wish, answers).unwrap_err().to_string());
        };
        fails(&wish(Tier::T1, NodeFactsWish::Auto), answers("restricted"));
        fails(&wish(Tier::T0, NodeFactsWish::Always), answers("baseline"));
        let none = Answers {
            capture: Some(Err(quota())),
            plain: Some(Err(quota())),
            host: None,
        };
        fails(&auto, none);
        insta::assert_snapshot!(said.join("\n"));
    }
}
