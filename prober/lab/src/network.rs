//! The network of a lab that is up: its namespaces, and a simulated kube-proxy on each node.
//!
//! The simulated kube-proxy is a state: while it is running, it syncs the rules whenever the EndpointSlices change; while
//! it is stopped, its last rules stay in force. The kernel removes the namespaces with the process ([`crate::isolation`]).

use std::collections::BTreeMap;

use crate::isolation;
use crate::kube_proxy::{self, ServiceEndpoints};
use crate::namespace::{self, CommandError};
use crate::topology::scripts;
use crate::topology::{LabSpec, Node, UnknownName};

/// The lab could not be created or changed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The process is not isolated.
    #[error("cannot create a lab in the machine's own namespaces: call isolation::enter first")]
    NotIsolated,
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A node or pod that the lab does not have.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
}

/// Whether a node's kube-proxy follows the EndpointSlices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProxyState {
    /// It syncs the rules at every change.
    Running,
    /// Its last rules stay in force.
    Stopped,
}

/// The simulated kube-proxy of one node.
#[derive(Debug)]
struct Proxy {
    state: ProxyState,
    /// The endpoints of its last sync.
    synced: ServiceEndpoints,
}

/// The network of a lab that is up.
#[derive(Debug)]
pub struct Lab {
    spec: LabSpec,
    slices: ServiceEndpoints,
    proxies: BTreeMap<Node, Proxy>,
}

impl Lab {
    /// Creates the network and writes the rules of Services that have no endpoints yet.
    pub fn up(spec: &LabSpec) -> Result<Self, LabError> {
        if !isolation::is_inside() {
            return Err(LabError::NotIsolated);
        }
        namespace::run_in_lab(&scripts::links(spec))?;
        let scripts = scripts::creation_scripts(spec);
        namespace::run_all(&scripts)?;
        wait_for_carrier(scripts)?;
        for node in spec.nodes() {
            kube_proxy::mode_server::serve(&node.name(), spec.proxy_mode())?;
        }
        let mut lab = Self {
            spec: spec.clone(),
            slices: ServiceEndpoints::default(),
            proxies: spec
                .nodes()
                .map(|node| {
                    let proxy = Proxy {
                        state: ProxyState::Running,
                        synced: ServiceEndpoints::default(),
                    };
                    (node, proxy)
                })
                .collect(),
        };
        lab.sync()?;
        Ok(lab)
    }

    /// Returns the nodes and pods of the lab.
    pub fn spec(&self) -> &LabSpec {
        &self.spec
    }

    /// Returns the current content of the EndpointSlices.
    pub fn slices(&self) -> &ServiceEndpoints {
        &self.slices
    }

    /// Replaces the content of the EndpointSlices; every running kube-proxy has synced when this returns.
    pub fn publish(&mut self, slices: ServiceEndpoints) -> Result<(), LabError> {
        self.slices = slices;
        self.sync()
    }

    /// Stops a node's kube-proxy and leaves it with outdated rules: each slot leads to the endpoint of the next slot, the
    /// last one to that of the first. Every endpoint has a live pod.
    pub fn make_rules_stale(&mut self, node: Node) -> Result<(), LabError> {
        let mut outdated_slices = self.slices.clone();
        let current: Vec<_> = outdated_slices.slots.values().copied().collect();
        for (endpoint, outdated) in outdated_slices
            .slots
            .values_mut()
            .zip(current.iter().cycle().skip(1))
        {
            *endpoint = *outdated;
        }
        if let Some(proxy) = self.proxies.get_mut(&node) {
            namespace::run(
                &node.name(),
                &kube_proxy::sync_script(&self.spec, node, &proxy.synced, &outdated_slices),
            )?;
            *proxy = Proxy {
                state: ProxyState::Stopped,
                synced: outdated_slices,
            };
        }
        Ok(())
    }

    /// Configures every namespace as it was when the lab came up, the firewall included, and restarts every kube-proxy.
    pub fn restore(&mut self) -> Result<(), LabError> {
        let scripts = scripts::configuration_scripts(&self.spec);
        namespace::run_all(&scripts)?;
        wait_for_carrier(scripts)?;
        for proxy in self.proxies.values_mut() {
            *proxy = Proxy {
                state: ProxyState::Running,
                synced: ServiceEndpoints::default(),
            };
        }
        self.sync()
    }

    fn sync(&mut self) -> Result<(), LabError> {
        let scripts: Vec<_> = self
            .proxies
            .iter()
            .filter(|(_, proxy)| proxy.state == ProxyState::Running)
            .map(|(node, proxy)| {
                let script =
                    kube_proxy::sync_script(&self.spec, *node, &proxy.synced, &self.slices);
                (node.name(), script)
            })
            .collect();
        namespace::run_all(&scripts)?;
        for proxy in self.proxies.values_mut() {
            if proxy.state == ProxyState::Running {
                proxy.synced = self.slices.clone();
            }
        }
        Ok(())
    }
}

/// Waits in each of these namespaces until every interface has a carrier.
fn wait_for_carrier(scripts: Vec<(String, String)>) -> Result<(), CommandError> {
    let waits: Vec<_> = scripts
        .into_iter()
        .map(|(name, _)| (name, scripts::wait_for_carrier().to_owned()))
        .collect();
    namespace::run_all(&waits)
}
