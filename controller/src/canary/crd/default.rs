//! What is meant where nothing is said: one function a field, since the schema of a cluster has its defaults field by field.

use super::{IpFamily, RouteName, Span};

pub(super) const fn peers_per_node() -> i32 {
    3
}

pub(super) const fn interval() -> Span {
    Span::from_secs(10)
}

pub(super) const fn max_pairs() -> i32 {
    400
}

pub(super) fn ip_families() -> Vec<IpFamily> {
    vec![IpFamily::Ipv4, IpFamily::Ipv6]
}

/// The routes that ask nothing of a cluster: no port on every node, no pod in a node's own network.
pub(super) fn routes() -> Vec<RouteName> {
    vec![
        RouteName::PodIp,
        RouteName::ClusterIp,
        RouteName::ClusterIpAny,
        RouteName::ProberLocal,
        RouteName::Hairpin,
    ]
}

pub(super) const fn probe_deadline() -> Span {
    Span::from_secs(1)
}

pub(super) const fn agent_lifetime() -> Span {
    Span::from_secs(3_600)
}

pub(super) const fn failures() -> i32 {
    2
}

pub(super) const fn of() -> i32 {
    3
}
