//! The pods of each node as senders: what decides the route of their packets besides the destination.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::node_facts::{Input, NodeFacts, Resolution, RouteQuery};
use crate::packet::family::Family;
use crate::topology::NodeName;

/// One sender of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A pod.
    Pod {
        /// Its address.
        address: IpAddr,
        /// The node's link by which its packets come in, where that is known.
        link: Option<String>,
    },
    /// A program in the node's own network.
    Host {
        /// Its address.
        address: IpAddr,
    },
}

impl Sender {
    /// A packet of the sender to this address.
    fn query(&self, destination: IpAddr) -> RouteQuery<'_> {
        let (source, input) = match self {
            Self::Host { address } => (*address, Input::Own),
            Self::Pod { address, link } => {
                let link = link.as_deref();
                (*address, link.map_or(Input::Unknown, Input::Interface))
            }
        };
        RouteQuery {
            source: Some(source),
            input,
            ..RouteQuery::to(destination)
        }
    }
}

/// The senders of every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Senders(BTreeMap<(NodeName, Family), Vec<Sender>>);

impl Senders {
    /// Adds a sender of a node.
    pub(super) fn insert(&mut self, node: &NodeName, family: Family, sender: Sender) {
        let key = (node.clone(), family);
        self.0.entry(key).or_default().push(sender);
    }

    /// What the routes of all senders of a node to an address are in common; `None` where they differ, or none is known.
    pub(crate) fn agree_on<'f, T: PartialEq>(
        &self,
        facts: &'f NodeFacts,
        from: &NodeName,
        to: IpAddr,
        view: impl Fn(Resolution<'f>) -> T,
    ) -> Option<T> {
        let mut views = self.views(facts, from, to, view).into_iter();
        let first = views.next()?;
        views.all(|view| view == first).then_some(first)
    }

    /// The route of each sender of a node to an address. Where pods send, programs in the node's own network do not count.
    pub(crate) fn views<'f, T>(
        &self,
        facts: &'f NodeFacts,
        from: &NodeName,
        to: IpAddr,
        view: impl Fn(Resolution<'f>) -> T,
    ) -> Vec<T> {
        let all = self.0.get(&(from.clone(), Family::of(to)));
        let all = all.map_or(&[][..], Vec::as_slice);
        let is_pod = |sender: &&Sender| matches!(sender, Sender::Pod { .. });
        let has_pods = all.iter().any(|sender| is_pod(&sender));
        let counting = all.iter().filter(|sender| !has_pods || is_pod(sender));
        counting
            .map(|sender| view(facts.resolve(sender.query(to))))
            .collect()
    }

    /// The packets of the pod of a node that has this address, to another.
    pub(crate) fn query(&self, node: &NodeName, pod: IpAddr, to: IpAddr) -> Option<RouteQuery<'_>> {
        let all = self.0.get(&(node.clone(), Family::of(pod)))?;
        let sender = all.iter().find(|sender| match sender {
            Sender::Pod { address, .. } => *address == pod,
            Sender::Host { .. } => false,
        });
        sender.map(|sender| sender.query(to))
    }

    /// A pod of a node, and the link by which its packets come in: `from ADDRESS iif LINK`, as ip-route(8) has it.
    pub(crate) fn example(&self, node: &NodeName, family: Family) -> Option<String> {
        let all = self.0.get(&(node.clone(), family))?;
        all.iter().find_map(|sender| match sender {
            Sender::Pod {
                address,
                link: Some(link),
            } => Some(format!("from {address} iif {link}")),
            Sender::Pod { link: None, .. } | Sender::Host { .. } => None,
        })
    }
}
