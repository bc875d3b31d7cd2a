//! A lab that is up: its namespaces, and on each node a kube-proxy of few words.
//!
//! A kube-proxy here is a state: running, it writes what the EndpointSlices say whenever they change; stopped, its
//! old rules stay in force. The namespaces need no owner: they are gone with the process (see `crate::isolation`).

use std::collections::BTreeMap;

use prober_core::packet::family::Family;

use crate::isolation;
use crate::kube_proxy::{self, Endpoints};
use crate::namespace::{self, CommandError};
use crate::topology::script::{self, restore};
use crate::topology::{LabSpec, Node, UnknownPlace};

/// The lab could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The process is not in namespaces of its own.
    #[error("cannot make a lab outside its own namespaces: call isolation::enter first")]
    NotIsolated,
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A node or pod that the lab does not have.
    #[error(transparent)]
    Unknown(#[from] UnknownPlace),
}

/// Whether a node's kube-proxy follows the EndpointSlices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProxyState {
    /// It writes every change.
    Running,
    /// Its old rules stay.
    Stopped,
}

#[derive(Debug)]
struct Proxy {
    state: ProxyState,
    /// What it wrote last.
    written: Endpoints,
}

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    spec: LabSpec,
    slices: Endpoints,
    proxies: BTreeMap<Node, Proxy>,
}

impl Lab {
    /// Makes the network and writes the rules for Services that have no endpoints yet.
    pub fn up(spec: &LabSpec) -> Result<Self, LabError> {
        if !isolation::is_inside() {
            return Err(LabError::NotIsolated);
        }
        namespace::run_outside(&format!(
            "ip -batch - <<'END'\n{}END\n",
            script::cables(spec)
        ))?;
        let makings = script::makings(spec);
        namespace::run_all(&makings)?;
        wait_until_up(makings)?;
        let mut lab = Self {
            spec: spec.clone(),
            slices: Endpoints::default(),
            proxies: spec
                .nodes()
                .map(|node| {
                    let proxy = Proxy {
                        state: ProxyState::Running,
                        written: Endpoints::default(),
                    };
                    (node, proxy)
                })
                .collect(),
        };
        lab.sync()?;
        Ok(lab)
    }

    /// What the lab is made of.
    pub fn spec(&self) -> &LabSpec {
        &self.spec
    }

    /// What the EndpointSlices say.
    pub fn slices(&self) -> &Endpoints {
        &self.slices
    }

    /// Changes the EndpointSlices; every kube-proxy that runs writes them before this returns.
    pub fn publish(&mut self, slices: Endpoints) -> Result<(), LabError> {
        self.slices = slices;
        self.sync()
    }

    /// Stops a node's kube-proxy with the rules of endpoints that have moved since: what its first slot leads to
    /// was in the second one, and so on, and every endpoint lives.
    pub fn leave_behind(&mut self, node: Node) -> Result<(), LabError> {
        let mut before = self.slices.clone();
        let moved: Vec<_> = before.slots.values().copied().collect();
        for (endpoint, old) in before.slots.values_mut().zip(moved.iter().cycle().skip(1)) {
            *endpoint = *old;
        }
        if let Some(proxy) = self.proxies.get_mut(&node) {
            namespace::run(&node.name(), &sync_script(node, &proxy.written, &before))?;
            *proxy = Proxy {
                state: ProxyState::Stopped,
                written: before,
            };
        }
        Ok(())
    }

    /// Sets every namespace as it was when the lab came up, firewalls included, and starts every kube-proxy anew.
    pub fn restore(&mut self) -> Result<(), LabError> {
        let settings = script::settings(&self.spec);
        namespace::run_all(&settings)?;
        wait_until_up(settings)?;
        for proxy in self.proxies.values_mut() {
            *proxy = Proxy {
                state: ProxyState::Running,
                written: Endpoints::default(),
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
                (
                    node.name(),
                    sync_script(*node, &proxy.written, &self.slices),
                )
            })
            .collect();
        namespace::run_all(&scripts)?;
        for proxy in self.proxies.values_mut() {
            if proxy.state == ProxyState::Running {
                proxy.written = self.slices.clone();
            }
        }
        Ok(())
    }
}

/// Waits in every namespace that these scripts were for.
fn wait_until_up(scripts: Vec<(String, String)>) -> Result<(), CommandError> {
    let waits: Vec<_> = scripts
        .into_iter()
        .map(|(name, _)| (name, script::until_up().to_owned()))
        .collect();
    namespace::run_all(&waits)
}

fn sync_script(node: Node, before: &Endpoints, now: &Endpoints) -> String {
    [Family::Ipv4, Family::Ipv6]
        .map(|family| {
            format!(
                "{} --noflush <<'END'\n{}END\n",
                restore(family),
                kube_proxy::sync(family, node, before, now)
            )
        })
        .concat()
}
