//! The prefixes that the pods of a run may send packets to. Each agent receives them when it starts, and no plan can widen
//! them.

use std::net::IpAddr;

use crate::kubernetes::node_info::{NodeInfo, PodCidrs};

/// Prefixes that contain the pods of clusters whose pod ranges are unknown: private and shared ranges (RFC 1918, RFC 6598) and
/// unique local ones (RFC 4193). Link-local ranges are not among them: cloud providers keep their metadata services there.
const PRIVATE_RANGES: [&str; 5] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
];

/// Returns the prefixes of the Services, of the nodes' internal addresses, and of the nodes' pods.
pub fn allowed_targets<'a>(
    services: impl IntoIterator<Item = IpAddr>,
    nodes: impl IntoIterator<Item = &'a NodeInfo>,
) -> Vec<String> {
    let mut prefixes: Vec<String> = services.into_iter().map(host_prefix).collect();
    let mut are_pods_known = true;
    for node in nodes {
        prefixes.extend(node.internal_ips.iter().copied().map(host_prefix));
        match &node.pod_cidrs {
            PodCidrs::Known(cidrs) => prefixes.extend(cidrs.iter().cloned()),
            PodCidrs::Unknown => are_pods_known = false,
        }
    }
    if !are_pods_known {
        prefixes.extend(PRIVATE_RANGES.map(str::to_owned));
    }
    prefixes
}

/// The prefix that contains one address.
fn host_prefix(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 32 } else { 128 };
    format!("{address}/{length}")
}
