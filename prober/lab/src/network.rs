//! The network of a lab that is up: its namespaces, and a simulated kube-proxy on each node.
//!
//! The simulated kube-proxy is a state: while it is running, it syncs the rules whenever the EndpointSlices change; while
//! it is stopped, its last rules stay in force. The kernel removes the namespaces with the process ([`crate::isolation`]).

use std::collections::BTreeMap;

use crate::isolation;
use crate::kube_proxy::mode_server::{self, ModeServer};
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
#[derive(Debug)]
enum ProxyState {
    /// It syncs the rules at every change, and answers at its metrics address.
    Running(#[expect(dead_code, reason = "it answers until it is dropped")] ModeServer),
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

impl Proxy {
    const fn is_running(&self) -> bool {
        matches!(self.state, ProxyState::Running(_))
    }
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
        let mut lab = Self {
            spec: spec.clone(),
            slices: ServiceEndpoints::default(),
            proxies: BTreeMap::new(),
        };
        lab.start_proxies()?;
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

    /// Stops a node's kube-proxy, and leaves the node without a rule of any Service: it has not run since the node's start.
    pub fn end_proxy_without_rules(&mut self, node: Node) -> Result<(), LabError> {
        if let Some(proxy) = self.proxies.get_mut(&node) {
            let script = kube_proxy::initial_script(&self.spec, node);
            namespace::run(&node.name(), &script)?;
            *proxy = Proxy {
                state: ProxyState::Stopped,
                synced: ServiceEndpoints::default(),
            };
        }
        Ok(())
    }

    /// Configures every namespace as it was when the lab came up, the firewall included, and restarts every kube-proxy.
    pub fn restore(&mut self) -> Result<(), LabError> {
        let scripts = scripts::configuration_scripts(&self.spec);
        namespace::run_all(&scripts)?;
        wait_for_carrier(scripts)?;
        self.start_proxies()?;
        self.sync()
    }

    /// Starts the kube-proxy of every node on which none runs. Each writes every rule at its next sync.
    fn start_proxies(&mut self) -> Result<(), LabError> {
        for node in self.spec.nodes() {
            let state = match self.proxies.remove(&node).map(|proxy| proxy.state) {
                Some(running @ ProxyState::Running(_)) => running,
                Some(ProxyState::Stopped) | None => {
                    ProxyState::Running(mode_server::serve(&node.name(), self.spec.proxy_mode())?)
                }
            };
            let synced = ServiceEndpoints::default();
            self.proxies.insert(node, Proxy { state, synced });
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LabError> {
        let scripts: Vec<_> = self
            .proxies
            .iter()
            .filter(|(_, proxy)| proxy.is_running())
            .map(|(node, proxy)| {
                let script =
                    kube_proxy::sync_script(&self.spec, *node, &proxy.synced, &self.slices);
                (node.name(), script)
            })
            .collect();
        namespace::run_all(&scripts)?;
        for proxy in self.proxies.values_mut() {
            if proxy.is_running() {
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
