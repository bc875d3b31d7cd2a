//! An epoch of a check: what is placed on which nodes and for how long, decided from what the check asks and the namespace
//! admits.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use prober_core::packet::family::Family;
use prober_core::probe::tier::Tier;
use prober_core::run::RunSpec;
use prober_core::topology::{NodeName, Route};

use crate::canary::crd::{ConnectivityCheckSpec, NodeFacts};
use crate::kubernetes::node_info::{self, NodeInfo};
use crate::manifest::platform_config::{Cleanup, PlatformConfig, STARTUP_TIMEOUT_MARGIN};
use crate::manifest::{CheckRef, IpFamilies, MAX_SLOTS, Manifest, NodePorts, Privilege, run_name};
use crate::one_shot::admission::{Admission, DryRunPods, EvidenceRequest, NodeFactsMode};

/// Most nodes that an epoch has agents on: each has a slot of the test Service.
pub const MAX_NODES: NonZeroUsize = NonZeroUsize::new(MAX_SLOTS as usize).unwrap();

/// How much longer than its agents live the cluster keeps an epoch, if nobody removes it.
const GRACE: Duration = Duration::from_mins(2);

/// When agents have failed to be placed.
const PATIENCE: Duration = Duration::from_mins(1);

/// Crafted probes per path and cycle: enough to tell a lost packet from a lossy path over a few cycles.
const RAW_PROBES: u32 = 6;

/// What every epoch of a check has in common.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The check.
    pub check: CheckRef,
    /// What it asks.
    pub spec: &'a ConnectivityCheckSpec,
    /// Where agents are placed.
    pub namespace: &'a str,
    /// Their image.
    pub image: &'a str,
}

impl Ask<'_> {
    /// What evidence is wanted.
    pub fn wish(&self) -> EvidenceRequest {
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

    /// The pods that it would place, for the namespace to say what it admits.
    pub fn shapes(&self) -> DryRunPods {
        DryRunPods::new(&self.manifest(0, Tier::T0, 0))
    }

    /// An epoch on these nodes, as a run that stands and what its fleet is to be.
    pub fn epoch<'n>(
        &self,
        posture: &Admission,
        nodes: impl IntoIterator<Item = &'n Node>,
        nonce: u64,
    ) -> (RunSpec, PlatformConfig) {
        let sites: BTreeMap<NodeName, NodeInfo> = (nodes.into_iter())
            .map(|node| (node_info::node_name(node), NodeInfo::from_node(node)))
            .take(MAX_NODES.get())
            .collect();
        let names: Vec<NodeName> = sites.keys().cloned().collect();
        let slots = u16::try_from(names.len()).unwrap_or(u16::MAX);
        let manifest = self.manifest(nonce, posture.tier, slots);
        let spec = RunSpec {
            // Which pairs are probed is told cycle by cycle.
            peers: 0,
            slots: MAX_NODES.get(),
            routes: self.routes(posture).collect(),
            families: self.families(),
            tier: posture.tier,
            raw_probes: RAW_PROBES,
            deadline: self.spec.probe_deadline.duration(),
            patience: PATIENCE,
            ..RunSpec::new(manifest.run.clone(), nonce, names)
        };
        let setting = PlatformConfig {
            manifest,
            nodes: sites,
            startup_timeout: PATIENCE.saturating_sub(STARTUP_TIMEOUT_MARGIN),
            cleanup: Cleanup::Remove,
        };
        (spec, setting)
    }

    fn manifest(&self, nonce: u64, tier: Tier, slots: u16) -> Manifest {
        let families = self.families();
        let asks_ports = self.all_routes().any(|route| route == Route::NodePort);
        Manifest {
            run: run_name(nonce),
            namespace: self.namespace.to_owned(),
            image: self.image.to_owned(),
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
            node_ports: if asks_ports {
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

    fn all_routes(&self) -> impl Iterator<Item = Route> {
        self.spec.routes.iter().map(|&route| route.into())
    }

    fn routes(&self, posture: &Admission) -> impl Iterator<Item = Route> {
        self.all_routes().filter(|route| posture.admits(*route))
    }
}
