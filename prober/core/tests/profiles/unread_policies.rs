//! Policies that deny every pod of the namespace, which the run may read from the API or not: no node is proven to be the cause.

use std::fmt::Write as _;

use prober_core::diagnosis::{Confidence, Diagnosis, diagnose};
use prober_core::evidence::Matrix;
use prober_core::evidence::policies::{ApiPolicies, ApiPolicy, Denial, PolicyKind};

use super::fault::{Fault, Kind, Place};
use super::profile::{self, Profile};
use super::run::run;

const DENIED: Fault = Fault {
    kind: Kind::PolicyNamespace,
    place: Place::Namespace,
};

/// The evidence where every pod is denied, on each data plane that enforces policies.
fn denied() -> impl Iterator<Item = (&'static Profile, Matrix)> {
    let enforcing = profile::ALL
        .iter()
        .filter(|profile| profile.enforces_policies);
    enforcing.map(|profile| (profile, run(&DENIED.on(profile, 2))))
}

fn described(found: &[Diagnosis]) -> String {
    let mut text = String::new();
    for one in found {
        let cause = one.cause.map_or("unknown", |cause| cause.slug());
        writeln!(text, "{cause} {:?} {:?}", one.segment, one.confidence).unwrap();
    }
    text
}

fn is_policy(diagnosis: &Diagnosis) -> bool {
    diagnosis
        .cause
        .is_some_and(|cause| cause.slug() == "network-policy")
}

#[test]
fn a_policy_for_every_pod_that_the_run_does_not_know_proves_no_other_cause() {
    for (profile, mut matrix) in denied() {
        matrix.policies = ApiPolicies::default();
        let found = diagnose(&matrix);
        let wrong = found
            .iter()
            .find(|one| one.confidence == Confidence::Proven && !is_policy(one));
        assert_eq!(wrong, None, "{}: {}", profile.name, described(&found));
    }
}

#[test]
fn a_policy_for_every_pod_is_named_where_the_api_has_it_or_cannot_be_read() {
    let read = ApiPolicies {
        denying: vec![ApiPolicy {
            kind: PolicyKind::CiliumClusterwideNetworkPolicy,
            namespace: None,
            name: "lock-down".to_owned(),
            ingress: Denial::Maybe,
            egress: Denial::Nothing,
        }],
        unread: Vec::new(),
    };
    let unread = ApiPolicies {
        denying: Vec::new(),
        unread: vec![PolicyKind::CalicoGlobalNetworkPolicy],
    };
    for (profile, mut matrix) in denied() {
        for (policies, evidence, decides) in [
            (
                &read,
                "according to the API, CiliumClusterwideNetworkPolicy lock-down may deny ingress of the agents' pods",
                "prober run -n NAMESPACE",
            ),
            (
                &unread,
                "globalnetworkpolicies.projectcalico.org",
                "calicoctl get globalnetworkpolicy",
            ),
        ] {
            matrix.policies = policies.clone();
            let found = diagnose(&matrix);
            let [only] = &found[..] else {
                panic!("{}: {}", profile.name, described(&found));
            };
            assert!(is_policy(only), "{}: {}", profile.name, described(&found));
            assert_eq!(only.confidence, Confidence::Consistent, "{}", profile.name);
            assert!(only.evidence.iter().any(|said| said.contains(evidence)));
            assert!(only.would_decide.iter().any(|said| said.contains(decides)));
        }
    }
}
