//! Every object of a run, made of plain data: no client, no clock.
//!
//! ```text
//! Job RUN              the anchor: a deadline, and no pod of its own
//!  |- Service RUN        a port for each slot, and `any`; led by the slices below
//!  |- Service RUN-local  internalTrafficPolicy: Local
//!  |- EndpointSlices     per family one for each server behind RUN, and one for RUN-local
//!  '- Pods               one for each agent
//! ```
//!
//! All of them are owned by the anchor, so that the garbage collector removes them with it: at once when the run is
//! over, and after the deadline when nobody is left to remove anything.

/// Where, how long, and whether they stay.
pub mod platform_config;
/// The pods that agents run in.
mod pod;
/// The test Services.
mod service;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;
use prober_core::packet::family::Family;

use crate::canary::crd::ConnectivityCheck;
use crate::kubernetes::labels;

pub use allowed_targets::allowed_targets;
pub use endpoint_slice::{Backend, Publication, Slot};
pub use owner_job::OwnerJob;
pub use pod::PLAN_ANNOTATION;
pub use service::{BALANCED_PORT, MAX_SLOTS, SLOT_PORT, ServiceAddresses, local_service_name};

/// Letters of a run's name: none that makes words, as in the names that Kubernetes generates
/// (k8s.io/apimachinery/pkg/util/rand).
const NAME_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// What the objects of one run have in common.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The run's name, from [`run_name`].
    pub run: String,
    /// Where everything is placed.
    pub namespace: String,
    /// The agents' image.
    pub image: String,
    /// How long the cluster keeps it all if nobody removes it.
    pub lifetime: Duration,
    /// What agents may do in the pods of clients and servers.
    pub privilege: Privilege,
    /// The families that the test Services are to have.
    pub families: IpFamilies,
    /// How many servers there will be at most: each has a slot.
    pub slots: u16,
    /// Whether slots have a port on every node as well.
    pub node_ports: NodePorts,
    /// The check that it is made for; `None` for a run of its own.
    pub check: Option<CheckRef>,
}

/// The check that a run is made for, which owns its anchor: when it is deleted, all goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRef {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// What agents may do in the pods of clients and servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// See and send packets: uid 0 with `CAP_NET_RAW` alone, as Pod Security `baseline` admits it.
    NetRaw,
    /// Nothing but sockets, as Pod Security `restricted` asks: evidence of tier T0.
    Unprivileged,
}

/// The families that the test Services are to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamilies {
    /// Those that the cluster has.
    Available,
    /// This one.
    Only(Family),
}

/// Whether slots have a port on every node as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePorts {
    /// They have (`type: NodePort`).
    Enabled,
    /// They have not (`type: ClusterIP`).
    Disabled,
}

/// The name of a run, out of its nonce: `prober-` and six letters.
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
    /// What every object says of itself.
    fn metadata(&self, name: String, anchor: Option<&OwnerJob>) -> ObjectMeta {
        let mut labels = labels::run_labels(&self.run);
        if let Some(check) = &self.check {
            labels.insert(labels::CHECK.to_owned(), check.name.clone());
        }
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels),
            owner_references: match anchor {
                Some(anchor) => Some(self.owner_references(anchor)),
                None => self.check.as_ref().map(CheckRef::owner_references),
            },
            ..ObjectMeta::default()
        }
    }

    fn owner_references(&self, anchor: &OwnerJob) -> Vec<OwnerReference> {
        vec![OwnerReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            name: self.run.clone(),
            uid: anchor.uid().to_owned(),
            controller: None,
            // The Job is gone only when this object is.
            block_owner_deletion: Some(true),
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
            // Somebody who deletes the check need not wait.
            block_owner_deletion: None,
        }]
    }
}

/// As Services and EndpointSlices write it.
const fn ip_family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}

/// Where the pods of a run may send packets.
mod allowed_targets;
/// Which agents are behind the test Services.
mod endpoint_slice;
/// The Job that owns everything.
mod owner_job;
#[cfg(test)]
mod tests;
