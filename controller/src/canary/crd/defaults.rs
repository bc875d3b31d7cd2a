//! The default values, one function per field: the schema of a CustomResourceDefinition has a default per field.

use super::{AccessPathName, GoDuration, IpFamily};

pub(super) const fn peers_per_node() -> i32 {
    3
}

pub(super) const fn interval() -> GoDuration {
    GoDuration::from_secs(10)
}

pub(super) fn ip_families() -> Vec<IpFamily> {
    vec![IpFamily::Ipv4, IpFamily::Ipv6]
}

/// The paths that need neither a port on every node nor a pod in the host network.
pub(super) fn access_paths() -> Vec<AccessPathName> {
    vec![
        AccessPathName::PodIp,
        AccessPathName::ClusterIp,
        AccessPathName::ClusterIpAny,
        AccessPathName::ClusterIpLocal,
        AccessPathName::Hairpin,
    ]
}

pub(super) const fn probe_deadline() -> GoDuration {
    GoDuration::from_secs(1)
}

pub(super) const fn agent_lifetime() -> GoDuration {
    GoDuration::from_secs(3_600)
}

pub(super) const fn failures() -> i32 {
    2
}

pub(super) const fn of() -> i32 {
    3
}
