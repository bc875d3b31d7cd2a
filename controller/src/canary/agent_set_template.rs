//! An agent set of a check: which agents are placed, on which nodes and for how long, derived from the check's spec and
//! from what the namespace admits.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use prober_core::packet::family::Family;
use prober_core::probe::tier::Tier;
use prober_core::run::RunSpec;
use prober_core::topology::{AccessPath, NodeName};

use crate::canary::crd::{ConnectivityCheckSpec, NodeFacts};
use crate::kubernetes::node_info::{self, NodeInfo};
use crate::manifest::platform_config::{Cleanup, PlatformConfig, STARTUP_TIMEOUT_MARGIN};
use crate::manifest::pod_options::PodOptions;
use crate::manifest::{
    CheckRef, IpFamilies, MAX_SLOTS, Manifest, NodePorts, PodPrefixes, Privilege, run_name,
};
use crate::one_shot::admission::{Admission, DryRunPods, EvidenceRequest, NodeFactsMode};

/// The most nodes of one agent set: each has a slot of the test Service.
pub const MAX_NODES: NonZeroUsize = NonZeroUsize::new(MAX_SLOTS as usize).unwrap();

/// How much longer than its agents' lifetime the cluster keeps an agent set that no controller removes.
const GRACE: Duration = Duration::from_mins(2);

/// How long the placement of agents may take.
const PLACEMENT_TIMEOUT: Duration = Duration::from_mins(1);

/// Crafted probes per path and round: enough to distinguish a lost packet from a lossy path within a few rounds.
const RAW_PROBES: u32 = 6;

/// What all agent sets of a check have in common.
#[derive(Clone, Debug)]
pub struct AgentSetTemplate<'a> {
    /// The check.
    pub check: CheckRef,
    /// Its spec.
    pub spec: &'a ConnectivityCheckSpec,
    /// The namespace of the agents.
    pub namespace: &'a str,
    /// The agents' image.
    pub image: &'a str,
}

impl AgentSetTemplate<'_> {
    /// The evidence that the check wants.
    pub fn evidence_request(&self) -> EvidenceRequest {
        EvidenceRequest {
            max_tier: Tier::T2,
            min_tier: Tier::T0,
            node_facts: match self.spec.node_facts {
                NodeFacts::Auto => NodeFactsMode::Auto,
                NodeFacts::Never => NodeFactsMode::Never,
                NodeFacts::Always => NodeFactsMode::Always,
            },
        }
    }

    /// The pods that the check places, for a dry run against the namespace's admission.
    pub fn dry_run_pods(&self) -> DryRunPods {
        DryRunPods::new(&self.manifest(0, Tier::T0, 0))
    }

    /// An agent set on these nodes: the run that drives it, and what the platform places for it.
    pub fn build<'n>(
        &self,
        admission: &Admission,
        nodes: impl IntoIterator<Item = &'n Node>,
        nonce: u64,
    ) -> (RunSpec, PlatformConfig) {
        let nodes: BTreeMap<NodeName, NodeInfo> = (nodes.into_iter())
            .map(|node| (node_info::node_name(node), NodeInfo::from_node(node)))
            .take(MAX_NODES.get())
            .collect();
        let names: Vec<NodeName> = nodes.keys().cloned().collect();
        let slots = u16::try_from(names.len()).unwrap_or(u16::MAX);
        let manifest = self.manifest(nonce, admission.tier, slots);
        let spec = RunSpec {
            // The schedule chooses the pairs round by round.
            peers: 0,
            slots: MAX_NODES.get(),
            access_paths: self.access_paths(admission).collect(),
            families: self.families(),
            tier: admission.tier,
            raw_probes: RAW_PROBES,
            deadline: self.spec.probe_deadline.duration(),
            startup_timeout: PLACEMENT_TIMEOUT,
            ..RunSpec::new(manifest.run.clone(), nonce, names)
        };
        let config = PlatformConfig {
            manifest,
            pod_prefixes: PodPrefixes::new(&[], nodes.values()),
            nodes,
            startup_timeout: PLACEMENT_TIMEOUT.saturating_sub(STARTUP_TIMEOUT_MARGIN),
            cleanup: Cleanup::Remove,
        };
        (spec, config)
    }

    fn manifest(&self, nonce: u64, tier: Tier, slots: u16) -> Manifest {
        let families = self.families();
        let uses_node_ports = self
            .all_access_paths()
            .any(|access_path| access_path == AccessPath::NodePort);
        Manifest {
            run: run_name(nonce),
            namespace: self.namespace.to_owned(),
            image: self.image.to_owned(),
            pod_options: PodOptions::default(),
            lifetime: self.spec.agent_lifetime.duration() + GRACE,
            privilege: if tier >= Tier::T1 {
                Privilege::NetRaw
            } else {
                Privilege::Unprivileged
            },
            families: match families[..] {
                [only] => IpFamilies::Only(only),
                _ => IpFamilies::Available,
            },
            slots,
            node_ports: if uses_node_ports {
                NodePorts::Enabled
            } else {
                NodePorts::Disabled
            },
            check: Some(self.check.clone()),
        }
    }

    fn families(&self) -> Vec<Family> {
        let families = self.spec.ip_families.iter();
        families.map(|&family| family.into()).collect()
    }

    fn all_access_paths(&self) -> impl Iterator<Item = AccessPath> {
        self.spec
            .access_paths
            .iter()
            .map(|&access_path| access_path.into())
    }

    fn access_paths(&self, admission: &Admission) -> impl Iterator<Item = AccessPath> {
        self.all_access_paths()
            .filter(|access_path| admission.admits(*access_path))
    }
}
