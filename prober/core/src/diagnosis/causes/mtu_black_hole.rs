//! `mtu-black-hole`: full-sized packets vanish on the way while small ones pass.

use std::collections::BTreeSet;

use super::untranslated::{is_reset_by_another, untranslated_segment};
use crate::data_plane::Transport;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::{Case, completes};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::evidence::Evidence;
use crate::packet::family::Family;
use crate::probe::outcome::{Echo, Exchange};
use crate::topology::{NodeName, Path};

/// Where full-sized packets vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MtuBlackHole {
    /// On a node that counted packets that were too big for it.
    OnNode,
    /// Between two nodes, or on all paths of one, without such a count.
    OnTheWay,
}

impl Model for MtuBlackHole {
    fn cause(&self) -> Cause {
        Cause::MtuBlackHole
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let faulty = faulty_nodes(case, family);
        match self {
            Self::OnNode => faulty
                .iter()
                .map(|node| Place::node(node, family))
                .collect(),
            Self::OnTheWay => on_the_way(case, family, &faulty).into_iter().collect(),
        }
    }

    fn predict(&self, _: &Case<'_>, _: &Place, _: &Path) -> Prediction {
        Prediction::MayFail
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        if !is_stalled(case, group, place.family) {
            return false;
        }
        let faulty = faulty_nodes(case, place.family);
        match self {
            Self::OnNode => place
                .node
                .as_ref()
                .is_some_and(|node| is_by(group, node, faulty.len() == 1)),
            Self::OnTheWay => {
                group.server.is_some()
                    && !faulty
                        .iter()
                        .any(|node| is_by(group, node, faulty.len() == 1))
            }
        }
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let family = place.family;
        let progress = echo_progress(case, groups);
        match self {
            Self::OnNode => {
                let too_big = place
                    .node
                    .as_ref()
                    .and_then(|node| too_big(case, node, family));
                let seen = too_big.into_iter().chain(progress).collect();
                Fingerprint::Seen(Proof::Facts, seen)
            }
            Self::OnTheWay => {
                let is_lossy = case.fails(|group| {
                    group.family == family
                        && group.symptom == Symptom::Lossy
                        && group.is_cross_node()
                });
                let is_seen =
                    (case.at(groups)).any(|group| case.client_packets(group).next().is_some());
                if !is_seen {
                    return Fingerprint::Missing(vec![
                        "the packets of a stalled exchange: they show in which direction the large ones are lost"
                            .to_owned(),
                    ]);
                }
                if is_lossy {
                    return Fingerprint::Missing(vec![
                        "`ping -M do -s SIZE` between the pods: a size above which nothing passes"
                            .to_owned(),
                    ]);
                }
                let seen = progress.into_iter().chain([
                    "the handshake and the banner pass, full-sized segments do not".to_owned(),
                ]);
                Fingerprint::Seen(Proof::Packets, seen.collect())
            }
        }
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<Remedy> {
        let tables = match place.family {
            Family::Ipv4 => "iptables",
            Family::Ipv6 => "ip6tables",
        };
        let is_tunnel = case.at(groups).any(|group| {
            group.server.as_ref().is_some_and(|server| {
                let nodes = (&group.client.node, &server.node);
                case.plane
                    .transport(nodes.0, nodes.1, place.family)
                    .is_tunnel()
            })
        });
        let tunnel = if is_tunnel {
            "Compare the MTU of pods, bridge, tunnel and uplink on both nodes: vxlan takes 50 bytes (70 over IPv6) of the uplink's."
        } else {
            "Compare the MTU of pods, links and uplinks on both nodes, and of the network between them."
        };
        vec![
            step(
                tunnel,
                [
                    "ip -o link | grep -o '^[0-9]*: [^:]*\\|mtu [0-9]*' | paste - -",
                    "tracepath -n POD-ADDRESS",
                ],
            ),
            step(
                "Let ICMP fragmentation-needed (3/4) and ICMPv6 packet-too-big (2) through every filter.",
                [format!("{tables}-save | grep -i icmp")],
            ),
        ]
    }
}

fn is_stalled(case: &Case<'_>, group: &FailureGroup, family: Family) -> bool {
    // What arrives untranslated does arrive.
    let is_reset = |probe: &Evidence| {
        untranslated_segment(&probe.client).is_some() || is_reset_by_another(probe)
    };
    group.family == family
        && group.symptom == Symptom::Stalled
        && !is_cut_off(case, group)
        && !case.probes(group).any(is_reset)
}

/// Whether a node that counted packets that were too big for it is the reason: as the sender, or as the only such node.
fn is_by(group: &FailureGroup, node: &NodeName, is_only: bool) -> bool {
    group.client.node == *node || is_only && group.involves(node)
}

/// The ordered pairs of nodes between which transfers stall.
fn stalled_pairs(case: &Case<'_>, family: Family) -> BTreeSet<(NodeName, NodeName)> {
    case.failing(|group| is_stalled(case, group, family))
        .filter_map(|(_, group)| {
            let server = group.server.as_ref()?;
            Some((group.client.node.clone(), server.node.clone()))
        })
        .collect()
}

/// The nodes of stalled pairs that counted packets that were too big for them.
fn faulty_nodes(case: &Case<'_>, family: Family) -> BTreeSet<NodeName> {
    let pairs = stalled_pairs(case, family);
    let nodes = pairs.iter().flat_map(|(a, b)| [a, b]);
    nodes
        .filter(|node| too_big(case, node, family).is_some())
        .cloned()
        .collect()
}

/// The place of stalls that no such count explains: the node of all pairs, or the first pair.
fn on_the_way(case: &Case<'_>, family: Family, faulty: &BTreeSet<NodeName>) -> Option<Place> {
    let pairs = stalled_pairs(case, family);
    let is_only = faulty.len() == 1;
    let unexplained =
        |(a, b): &&(NodeName, NodeName)| !(faulty.contains(a) || is_only && faulty.contains(b));
    let (from, to) = pairs.iter().find(unexplained)?;
    let mut nodes = pairs.iter().flat_map(|(a, b)| [a, b]);
    let is_shared =
        |node: &&NodeName| pairs.len() > 2 && pairs.iter().all(|(a, b)| a == *node || b == *node);
    let is_pair = |group: &FailureGroup| {
        group.client.node == *from && group.server.as_ref().is_some_and(|end| end.node == *to)
    };
    let groups = case.places(|group| is_stalled(case, group, family) && is_pair(group));
    let is_by_client = (case.at(&groups))
        .flat_map(|group| case.probes(group))
        .any(Evidence::is_request_lost);
    Some(nodes.find(is_shared).map_or_else(
        || {
            if is_by_client {
                Place::between(from, to, None, family)
            } else {
                Place::between(to, from, None, family)
            }
        },
        |node| Place::node(node, family),
    ))
}

/// Whether even SYNs no longer arrived when the path was probed again: a fault that began during the exchange stops
/// packets of every size.
fn is_cut_off(case: &Case<'_>, group: &FailureGroup) -> bool {
    let Some(server) = &group.server else {
        return false;
    };
    let mut ttl_probed = case
        .ttl_probes(&group.client.node, &server.node, group.family)
        .peekable();
    ttl_probed.peek().is_some() && !ttl_probed.any(completes)
}

fn echo_progress(case: &Case<'_>, groups: &BTreeSet<usize>) -> Option<String> {
    case.at(groups)
        .flat_map(|group| case.probes(group))
        .find_map(|probe| match probe.client.exchange {
            Exchange::BannerReceived {
                echo: Echo::Stalled { sent, received },
                ..
            } => Some(format!(
                "of {sent} bytes written, {received} came back before the deadline"
            )),
            Exchange::BannerReceived { .. }
            | Exchange::NotTried
            | Exchange::NoBanner
            | Exchange::InvalidBanner
            | Exchange::Reset => None,
        })
}

/// The number of stalled probes with an end on a node, two at least.
fn stalled_probes(case: &Case<'_>, node: &NodeName, family: Family) -> u64 {
    let groups = case.places(|group| is_stalled(case, group, family) && group.involves(node));
    u64::try_from(case.count(&groups))
        .unwrap_or(u64::MAX)
        .max(2)
}

/// A node's own evidence of packets that were too big for it: a count that only such packets make, with the sizes of the links.
fn too_big(case: &Case<'_>, node: &NodeName, family: Family) -> Option<String> {
    let facts = case.facts(node)?;
    let transports: Vec<&Transport> = case
        .plane
        .pairs(family)
        .filter(|(from, ..)| *from == node)
        .map(|(.., transport)| transport)
        .collect();
    // Each stalled probe sent several; other traffic grows the counters as well.
    let least = stalled_probes(case, node, family);
    if let Some(grown) = case
        .grown(node, "IpFragFails")
        .filter(|&grown| grown >= least)
    {
        let mtu_of = |name: &str| Some((name.to_owned(), facts.link(name).found()?.mtu?));
        let bridge = case
            .plane
            .attachments_on(node, family)
            .find_map(|one| one.bridge());
        let tunnel = transports.iter().find_map(|transport| transport.link());
        let sizes = (bridge.and_then(mtu_of))
            .zip(tunnel.and_then(mtu_of))
            .filter(|(pods, tunnel)| pods.1 > tunnel.1)
            .map_or_else(String::new, |(pods, tunnel)| {
                format!(
                    "; {} has MTU {}, {} only {}",
                    pods.0, pods.1, tunnel.0, tunnel.1
                )
            });
        return Some(format!(
            "IpFragFails +{grown} on {node} while failing paths were probed{sizes}"
        ));
    }
    let uplink = transports.iter().find_map(|transport| {
        let link = facts.link(transport.link()?).found()?;
        let below = link.vxlan.as_ref().and_then(|vxlan| vxlan.underlay.clone());
        below.or_else(|| (!transport.is_tunnel()).then(|| link.name.clone()))
    })?;
    let dropped = case.traffic(node, &uplink)?.tx_dropped;
    (dropped >= least).then(|| format!("{node} counted tx_dropped +{dropped} at {uplink}"))
}
