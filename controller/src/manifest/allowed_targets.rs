//! Where the pods of a run may send packets: told to each agent when it starts, so that no plan can widen it.

use std::net::IpAddr;

use crate::kubernetes::node_info::{PodRanges, Site};

/// Where pods' addresses lie in clusters that do not say so: private and shared ranges (RFC 1918, RFC 6598) and unique
/// local ones (RFC 4193); never link-local, where clouds keep their metadata services.
const PRIVATE: [&str; 5] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
];

/// The prefixes that agents of a run may ask: its Services, the nodes' own addresses, and the nodes' pods.
pub fn allowed<'a>(
    services: impl IntoIterator<Item = IpAddr>,
    sites: impl IntoIterator<Item = &'a Site>,
) -> Vec<String> {
    let mut prefixes: Vec<String> = services.into_iter().map(whole).collect();
    let mut is_known = true;
    for site in sites {
        prefixes.extend(site.internal.iter().copied().map(whole));
        match &site.pods {
            PodRanges::Exactly(ranges) => prefixes.extend(ranges.iter().cloned()),
            PodRanges::Unknown => is_known = false,
        }
    }
    if !is_known {
        prefixes.extend(PRIVATE.map(str::to_owned));
    }
    prefixes
}

fn whole(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 32 } else { 128 };
    format!("{address}/{length}")
}
