//! The node's link that leads to a pod, and whether it is up.

use std::collections::BTreeSet;

use crate::data_plane::Attachment;
use crate::diagnosis::case::Case;
use crate::node_facts::{Link, NodeFacts};
use crate::packet::family::Family;
use crate::packet::mac::Mac;
use crate::topology::{AgentId, NodeName};

/// The state of the node's link that leads to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PodPort {
    /// It is up and has a carrier.
    Up(Port),
    /// It is down, or has no carrier; of several, it is not known which one leads to the pod, and all of them are.
    Down(Vec<Port>),
    /// The evidence does not show which link it is.
    Unknown,
}

/// A link that leads to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// Its name.
    pub(crate) name: String,
    /// The bridge that it is a port of.
    bridge: Option<String>,
    /// Its state, in words.
    state: &'static str,
}

impl Port {
    /// Its state on its node, as a sentence.
    pub(crate) fn sentence(&self, node: &NodeName) -> String {
        let Self { name, state, .. } = self;
        match &self.bridge {
            Some(bridge) => format!("the port {name} of {bridge} on {node} is {state}"),
            None => format!("the link {name} on {node} is {state}"),
        }
    }
}

/// The link that leads to a pod.
pub(crate) fn pod_port(case: &Case<'_>, pod: &AgentId, family: Family) -> PodPort {
    let Some(facts) = case.facts(&pod.node) else {
        return PodPort::Unknown;
    };
    let mac = case.plane.habits().mac(pod, family);
    let links = match case.plane.attachment(pod, family) {
        Attachment::Bridge { bridge, port } => {
            let known = (port.as_deref()).and_then(|port| facts.link(port).found());
            let known = known.or_else(|| earlier(case, pod, bridge, mac?, facts));
            known.map_or_else(
                || mac.map_or_else(Vec::new, |mac| remaining(facts, bridge, mac)),
                |link| vec![link],
            )
        }
        Attachment::Routed { link } => facts.link(link).found().into_iter().collect(),
        Attachment::OwnDevice { .. } | Attachment::Unknown => Vec::new(),
    };
    let is_up = |link: &&Link| link.up && link.carrier;
    match links.as_slice() {
        [] => PodPort::Unknown,
        [link] if is_up(link) => PodPort::Up(port(link, "up")),
        links if links.iter().any(is_up) => PodPort::Unknown,
        links => {
            let down = |link: &&Link| {
                let state = if link.up { "without carrier" } else { "down" };
                port(link, state)
            };
            PodPort::Down(links.iter().map(down).collect())
        }
    }
}

fn port(link: &Link, state: &'static str) -> Port {
    Port {
        name: link.name.clone(),
        bridge: link.master.clone(),
        state,
    }
}

/// The port at which an earlier reading has the pod's Ethernet address: a bridge forgets what it learned from a port that goes
/// down (`br_stp_disable_port`, net/bridge/br_stp_if.c).
fn earlier<'a>(
    case: &Case<'a>,
    pod: &AgentId,
    bridge: &str,
    mac: Mac,
    now: &'a NodeFacts,
) -> Option<&'a Link> {
    let known = case.matrix.nodes.get(&pod.node)?;
    known.readings().find_map(|facts| {
        let entries = facts.fdb(mac)?;
        let mut links = entries
            .iter()
            .filter_map(|entry| now.link(&entry.dev).found());
        links.find(|link| link.master.as_deref() == Some(bridge))
    })
}

/// The ports of the bridge behind which no other host is known, where the pod's address is behind none of the others.
fn remaining<'a>(facts: &'a NodeFacts, bridge: &str, mac: Mac) -> Vec<&'a Link> {
    let (Some(links), Some(entries)) = (facts.links.as_deref(), facts.fdb.as_deref()) else {
        return Vec::new();
    };
    let is_own = |entry: &Mac| links.iter().any(|link| link.mac == Some(*entry));
    let taken: BTreeSet<&str> = entries
        .iter()
        .filter(|entry| entry.mac != mac && !is_own(&entry.mac) && is_unicast(entry.mac))
        .map(|entry| entry.dev.as_str())
        .collect();
    let is_free = |link: &&Link| {
        link.master.as_deref() == Some(bridge) && !taken.contains(link.name.as_str())
    };
    links.iter().filter(is_free).collect()
}

/// Whether an Ethernet address is that of one host: its group bit is not set (IEEE 802).
const fn is_unicast(mac: Mac) -> bool {
    mac.0[0] & 1 == 0
}
