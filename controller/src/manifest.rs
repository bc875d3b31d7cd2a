//! Builds every object of a run from plain data, without a client or a clock.
//!
//! ```text
//! Job RUN              the owner Job: a deadline, and no pods
//!  |- Service RUN        a port for each slot, and the balanced port `any`
//!  |- Service RUN-local  internalTrafficPolicy: Local
//!  |- EndpointSlices     per family one for each server behind RUN, and one for RUN-local
//!  '- Pods               one for each agent
//! ```
//!
//! The Job owns all of them, so the garbage collector removes them with it: when the run deletes the Job, or after the
//! deadline of the Job if the run has died.

/// The prefixes that the pods of a run may send packets to.
mod allowed_targets;
/// The EndpointSlices of the test Services.
mod endpoint_slice;
/// The Job that owns the objects of a run.
mod owner_job;
/// The settings of a cluster as the platform of a run.
pub mod platform_config;
/// The pods of agents.
mod pod;
/// What a user chooses of the agents' pods.
pub mod pod_options;
/// The test Services.
mod service;
/// The objects that the manifests install.
pub mod standing;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;
use prober_core::packet::family::Family;

use crate::canary::crd::ConnectivityCheck;
use crate::kubernetes::labels;
use crate::manifest::pod_options::PodOptions;

pub use allowed_targets::{PodPrefixes, allowed_targets};
pub use endpoint_slice::{Publication, ServerEndpoint, SlotEndpoint};
pub use owner_job::OwnerJob;
pub use pod::PLAN_ANNOTATION;
pub use service::{BALANCED_PORT, MAX_SLOTS, SLOT_PORT, ServiceAddresses, local_service_name};

/// The letters of a run's name. Like those of the names that Kubernetes generates, they make no words
/// (k8s.io/apimachinery/pkg/util/rand).
const NAME_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The data that the objects of one run are built from.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The name of the run, from [`run_name`].
    pub run: String,
    /// The namespace of the objects.
    pub namespace: String,
    /// The container image of the agents.
    pub image: String,
    /// What the user chooses of the agents' pods.
    pub pod_options: PodOptions,
    /// The deadline of the owner Job: how long the objects exist if the run does not remove them.
    pub lifetime: Duration,
    /// The privilege of client and server pods.
    pub privilege: Privilege,
    /// The address families of the test Services.
    pub families: IpFamilies,
    /// The number of slots: the most servers that the run has at a time.
    pub slots: u16,
    /// Whether slots have node ports.
    pub node_ports: NodePorts,
    /// The ConnectivityCheck of a canary; `None` for a one-shot run.
    pub check: Option<CheckRef>,
}

/// The ConnectivityCheck that owns the owner Job: when it is deleted, the garbage collector removes everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRef {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The privilege of client and server pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// They capture and send packets: uid 0 with `CAP_NET_RAW` alone, which Pod Security `baseline` admits.
    NetRaw,
    /// They only open sockets, as Pod Security `restricted` requires: evidence of tier T0.
    Unprivileged,
}

/// The address families of the test Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamilies {
    /// All families of the cluster.
    Available,
    /// One family.
    Only(Family),
}

/// Whether slots have node ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePorts {
    /// They have node ports (`type: NodePort`).
    Enabled,
    /// They have none (`type: ClusterIP`).
    Disabled,
}

/// Derives the name of a run from its nonce: `prober-` and six letters.
pub fn run_name(nonce: u64) -> String {
    let mut name = "prober-".to_owned();
    let mut rest = nonce;
    for _ in 0..6 {
        let letter = usize::try_from(rest % 27).unwrap_or_default();
        name.extend(NAME_ALPHABET.get(letter).copied().map(char::from));
        rest /= 27;
    }
    name
}

impl Manifest {
    /// The metadata of an object. Without `owner`, it is owned by the check, if there is one.
    fn metadata(&self, name: String, owner: Option<&OwnerJob>) -> ObjectMeta {
        let mut labels = labels::run_labels(&self.run);
        if let Some(check) = &self.check {
            labels.insert(labels::CHECK.to_owned(), check.name.clone());
        }
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels),
            owner_references: match owner {
                Some(owner) => Some(self.owner_references(owner)),
                None => self.check.as_ref().map(CheckRef::owner_references),
            },
            ..ObjectMeta::default()
        }
    }

    fn owner_references(&self, owner: &OwnerJob) -> Vec<OwnerReference> {
        vec![OwnerReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            name: self.run.clone(),
            uid: owner.uid().to_owned(),
            controller: None,
            // That of a canary is gone only when this object is. A one-shot run deletes its objects itself: to block the
            // deletion of the Job, OpenShift requires a permission for `jobs/finalizers`
            // (<https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#ownerreferencespermissionenforcement>).
            block_owner_deletion: self.check.is_some().then_some(true),
        }]
    }
}

impl CheckRef {
    fn owner_references(&self) -> Vec<OwnerReference> {
        vec![OwnerReference {
            api_version: ConnectivityCheck::api_version(&()).into_owned(),
            kind: ConnectivityCheck::kind(&()).into_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            // The deletion of a check does not wait for its objects.
            block_owner_deletion: None,
        }]
    }
}

/// The name of a family in Services and EndpointSlices.
const fn ip_family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}
#[cfg(test)]
mod tests;
