//! Where the pods of a run may send packets: told to each agent when it starts, so that no plan can widen it.

use std::net::IpAddr;

use crate::kubernetes::node_info::{NodeInfo, PodCidrs};

/// Where pods' addresses lie in clusters that do not say so: private and shared ranges (RFC 1918, RFC 6598) and unique
/// local ones (RFC 4193); never link-local, where clouds keep their metadata services.
const PRIVATE_RANGES: [&str; 5] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
];

/// The prefixes that agents of a run may ask: its Services, the nodes' own addresses, and the nodes' pods.
pub fn allowed_targets<'a>(
    services: impl IntoIterator<Item = IpAddr>,
    sites: impl IntoIterator<Item = &'a NodeInfo>,
) -> Vec<String> {
    let mut prefixes: Vec<String> = services.into_iter().map(host_prefix).collect();
    let mut is_known = true;
    for site in sites {
        prefixes.extend(site.internal_ips.iter().copied().map(host_prefix));
        match &site.pod_cidrs {
            PodCidrs::Known(ranges) => prefixes.extend(ranges.iter().cloned()),
            PodCidrs::Unknown => is_known = false,
        }
    }
    if !is_known {
        prefixes.extend(PRIVATE_RANGES.map(str::to_owned));
    }
    prefixes
}

fn host_prefix(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 32 } else { 128 };
    format!("{address}/{length}")
}
