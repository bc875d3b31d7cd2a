//! The prefixes that the pods of a run may send packets to. Each agent receives them when it starts, and no plan can widen
//! them.

use std::net::IpAddr;

use ipnet::IpNet;
use prober_core::plan::AllowedTargets;
use prober_core::run::PodRanges;

use crate::kubernetes::node_info::{NodeInfo, PodCidrs};

/// Prefixes that contain the pods of most clusters whose pod ranges are unknown: private and shared ranges (RFC 1918, RFC 6598),
/// unique local ones (RFC 4193), and ranges that no host on the Internet has, of which cloud providers assign pods addresses
/// (RFC 2544, RFC 1112 4). Link-local ranges are not among them: cloud providers keep their metadata services there.
const PRIVATE_RANGES: [&str; 7] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "198.18.0.0/15",
    "240.0.0.0/4",
    "fc00::/7",
];

/// The most prefixes that an agent receives: they are arguments of every pod of a run.
const MAX_PREFIXES: usize = 64;

/// The ranges of the pods' addresses, as far as they are known before the pods run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPrefixes {
    prefixes: Vec<IpNet>,
    are_complete: bool,
}

impl PodPrefixes {
    /// The ranges that the user has `given`, and those that the nodes have. They are complete if the user has given any, or if
    /// the network plugin of every node assigns addresses from the node's `podCIDRs`. Else the ranges that pods usually have
    /// are added.
    pub fn new<'a>(given: &[IpNet], nodes: impl IntoIterator<Item = &'a NodeInfo>) -> Self {
        let mut prefixes = given.to_vec();
        let mut are_complete = true;
        for node in nodes {
            let (PodCidrs::Known(cidrs) | PodCidrs::Presumed(cidrs)) = &node.pod_cidrs;
            prefixes.extend(cidrs.iter().filter_map(|cidr| cidr.parse::<IpNet>().ok()));
            are_complete &= matches!(node.pod_cidrs, PodCidrs::Known(_));
        }
        are_complete |= !given.is_empty();
        if !are_complete {
            prefixes.extend(
                PRIVATE_RANGES
                    .iter()
                    .filter_map(|range| range.parse::<IpNet>().ok()),
            );
        }
        Self {
            prefixes: at_most(&prefixes, MAX_PREFIXES),
            are_complete,
        }
    }

    /// The same for a run: which pods its agents may probe before the addresses of all of them are known.
    pub fn pod_ranges(&self) -> PodRanges {
        if self.are_complete {
            PodRanges::Known
        } else {
            PodRanges::Presumed(AllowedTargets::new(self.prefixes.clone()))
        }
    }
}

/// Returns the prefixes of the Services, of the nodes' internal addresses, of the ranges of pods, and of the addresses of the
/// agents that run already (`status.podIPs`).
pub fn allowed_targets<'a>(
    services: impl IntoIterator<Item = IpAddr>,
    nodes: impl IntoIterator<Item = &'a NodeInfo>,
    pod_prefixes: &PodPrefixes,
    pods: impl IntoIterator<Item = IpAddr>,
) -> Vec<IpNet> {
    let nodes = nodes.into_iter().flat_map(|node| node.internal_ips.iter());
    let hosts = services
        .into_iter()
        .chain(nodes.copied())
        .chain(pods)
        .map(IpNet::from);
    let prefixes = pod_prefixes.prefixes.iter().copied().chain(hosts);
    at_most(&prefixes.collect::<Vec<_>>(), MAX_PREFIXES)
}

/// Merges prefixes that contain each other or are adjacent. If more than `most` remain, the longest are shortened until they
/// merge: the result contains all of `prefixes`, and somewhat more.
fn at_most(prefixes: &[IpNet], most: usize) -> Vec<IpNet> {
    let mut merged = IpNet::aggregate(&prefixes.to_vec());
    // The bits of a host's address that are left open.
    let mut open_bits = 0;
    while merged.len() > most && open_bits < 24 {
        open_bits += 2;
        let shortened: Vec<IpNet> = merged.iter().map(|one| shorten(*one, open_bits)).collect();
        merged = IpNet::aggregate(&shortened);
    }
    merged
}

/// The prefix that leaves at least so many bits of an address open. Of IPv6 addresses twice as many are: interface identifiers
/// are longer.
fn shorten(prefix: IpNet, open_bits: u8) -> IpNet {
    let longest = match prefix {
        IpNet::V4(_) => 32 - open_bits,
        IpNet::V6(_) => 128 - 2 * open_bits,
    };
    let length = prefix.prefix_len().min(longest);
    // A shorter length is always a valid one.
    IpNet::new(prefix.network(), length).map_or(prefix, |shorter| shorter.trunc())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nodes(cidrs: &[PodCidrs]) -> Vec<NodeInfo> {
        let node = |pod_cidrs: &PodCidrs| NodeInfo {
            pod_cidrs: pod_cidrs.clone(),
            internal_ips: vec!["10.99.0.11".parse().unwrap()],
            ..NodeInfo::default()
        };
        cidrs.iter().map(node).collect()
    }

    fn contains(prefixes: &[IpNet], address: &str) -> bool {
        let address: IpAddr = address.parse().unwrap();
        prefixes.iter().any(|prefix| prefix.contains(&address))
    }

    #[test]
    fn pods_of_every_range_are_allowed_by_their_node_the_user_or_their_own_address() {
        let cidr = |cidr: &str| vec![cidr.to_owned()];
        let service = || ["10.96.0.7".parse().unwrap()];
        let all = |given: &[&str], cidrs: &[PodCidrs], pods: &[&str]| {
            let given: Vec<IpNet> = given.iter().map(|one| one.parse().unwrap()).collect();
            let nodes = nodes(cidrs);
            let prefixes = PodPrefixes::new(&given, &nodes);
            let pods = pods.iter().map(|pod| pod.parse().unwrap());
            let is_known = prefixes.pod_ranges() == PodRanges::Known;
            (
                allowed_targets(service(), &nodes, &prefixes, pods),
                is_known,
            )
        };
        // Global IPv6 (EKS), 198.18/15 (custom networking), 240/4 (class E), public IPv4.
        for pod in [
            "2600:1f14:e5e:f00::7",
            "198.18.4.7",
            "240.1.2.7",
            "44.3.2.7",
        ] {
            let net = IpNet::from(pod.parse::<IpAddr>().unwrap());
            let wide = IpNet::new(net.addr(), net.max_prefix_len() - 8)
                .unwrap()
                .trunc();
            let wide = wide.to_string();
            for (given, cidrs, pods, is_known) in [
                (vec![], PodCidrs::Known(cidr(&wide)), vec![], true),
                (vec![], PodCidrs::Presumed(cidr(&wide)), vec![], false),
                (vec![wide.as_str()], PodCidrs::default(), vec![], true),
                (vec![], PodCidrs::default(), vec![pod], false),
            ] {
                let (allowed, known) = all(&given, &[cidrs], &pods);
                assert!(contains(&allowed, pod), "{pod}: {allowed:?}");
                assert!(contains(&allowed, "10.96.0.7") && contains(&allowed, "10.99.0.11"));
                assert!(!contains(&allowed, "169.254.169.254"), "{allowed:?}");
                assert!(!contains(&allowed, "8.8.8.8"), "{allowed:?}");
                assert_eq!(known, is_known);
            }
        }
        let (allowed, _) = all(&[], &[PodCidrs::Known(cidr("10.244.1.0/24"))], &[]);
        assert!(!contains(&allowed, "192.168.0.1"), "{allowed:?}");
    }

    proptest! {
        #[test]
        fn many_prefixes_become_few_that_contain_them(
            addresses in proptest::collection::vec(any::<IpAddr>(), 0..400),
            most in 32_usize..100,
        ) {
            let prefixes: Vec<IpNet> = addresses.iter().copied().map(IpNet::from).collect();
            let few = at_most(&prefixes, most);
            for address in &addresses {
                prop_assert!(few.iter().any(|prefix| prefix.contains(address)));
            }
        }
    }

    #[test]
    fn the_addresses_of_a_large_cluster_are_few_prefixes() {
        let hosts = (0..5_000_u32).map(|host| {
            let [.., third, fourth] = (host * 3).to_be_bytes();
            IpNet::from(IpAddr::from([
                10,
                40 + u8::try_from(host % 3).unwrap(),
                third,
                fourth,
            ]))
        });
        let few = at_most(&hosts.collect::<Vec<_>>(), MAX_PREFIXES);
        assert!(few.len() <= MAX_PREFIXES, "{}", few.len());
        assert!(
            !contains(&few, "10.43.0.1") && !contains(&few, "10.40.200.1"),
            "{few:?}"
        );
    }
}
