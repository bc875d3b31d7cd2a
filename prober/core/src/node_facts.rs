//! Facts of one network namespace, of a node or a pod: sysctls, links, rules, routes, neighbours, filters and counters.
//!
//! Plain data, read by `prober-net` and evaluated by the diagnosis. Nothing is guessed: a field that could not be read is
//! `None`, which differs from zero, from an empty list and from a missing file. The facts of a pod's namespace do not
//! describe its node, since a new namespace has its own defaults; so the user of facts must know which namespace they
//! are from.
pub mod conntrack;
pub mod counters;
pub mod network;
pub mod resolve;
pub mod routes;
pub mod traffic_control;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use conntrack::{ConntrackEntry, ConntrackReading, ConntrackRequest};
pub use counters::Counters;
pub use network::{
    Address, BridgeOptions, FdbEntry, FdbOrigin, Link, LinkCounters, Neighbour, NeighbourState,
    OtherLink, PortState, Tunnel, Vxlan,
};
pub use resolve::{Input, Resolution, RouteQuery};
pub use routes::{Fwmark, Route, RouteKind, RouteScope, Rule, RuleAction};
pub use traffic_control::{Qdisc, TcDirection, TcFilter};

use crate::packet::family::Family;
use crate::packet::mac::Mac;

/// The result of reading one sysctl file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SysctlState {
    /// The file does not exist: the module that owns it is not loaded (for `net/bridge`: `br_netfilter`).
    Absent,
    /// The file exists, but could not be read or is no number; `NodeFacts::unread` says why.
    Unreadable,
    /// The number in the file.
    Value(i64),
}

impl SysctlState {
    /// The number, if the file has one.
    pub fn value(self) -> Option<i64> {
        match self {
            Self::Absent | Self::Unreadable => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// How kube-proxy programs a node, as far as an unprivileged process can detect it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KubeProxyMode {
    /// Chains of the iptables `nat` table.
    Iptables,
    /// IP virtual servers; recognised by its `kube-ipvs0` link.
    Ipvs,
    /// Tables of nftables.
    Nftables,
}

/// A source that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// The file, or the rtnetlink dump.
    pub what: String,
    /// The error of the kernel.
    pub why: String,
}

/// The result of looking up one object in a list that may not have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<T> {
    /// The list was not read.
    Unread,
    /// The list was read and does not have the object.
    Absent,
    /// The object.
    Found(T),
}

impl<T> Lookup<T> {
    /// The object, if it was found.
    pub fn found(self) -> Option<T> {
        match self {
            Self::Unread | Self::Absent => None,
            Self::Found(object) => Some(object),
        }
    }
}

/// The state of one network namespace at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeFacts {
    /// The kernel's release, as `uname -r` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// `net.bridge.bridge-nf-call-iptables`, of this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge_nf_call_iptables: Option<SysctlState>,
    /// `net.bridge.bridge-nf-call-ip6tables`, of this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge_nf_call_ip6tables: Option<SysctlState>,
    /// `net.ipv4.ip_forward`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_forward: Option<SysctlState>,
    /// `net.ipv6.conf.all.forwarding`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip6_forward: Option<SysctlState>,
    /// `net.ipv4.conf.IFACE.rp_filter` by interface, with `all` and `default`. The kernel uses the larger of `all` and
    /// the interface's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rp_filter: Option<BTreeMap<String, SysctlState>>,
    /// The interfaces that answer ARP requests for addresses behind other interfaces: `net.ipv4.conf.IFACE.proxy_arp` is
    /// on; `all` stands for each of them (`IN_DEV_PROXY_ARP`, include/linux/inetdevice.h).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_arp: Option<BTreeSet<String>>,
    /// The same for IPv6: `net.ipv6.conf.IFACE.proxy_ndp` is on. It answers only for the addresses of proxy entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_ndp: Option<BTreeSet<String>>,
    /// Tracked connections in this namespace (`nf_conntrack_count`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack_count: Option<u64>,
    /// The maximum number of tracked connections (`nf_conntrack_max`; one value for the machine).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack_max: Option<u64>,
    /// The run's own entries of connection tracking, where the plan requests them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<ConntrackReading>,
    /// The kernel's own counters, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counters>,
    /// Interfaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<Vec<Link>>,
    /// Addresses on interfaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<Address>>,
    /// The policy rules of both families.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
    /// Routes of both families and all tables, without those the kernel makes for its own addresses (table `local`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<Route>>,
    /// The neighbour tables: ARP and NDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<Vec<Neighbour>>,
    /// The forwarding databases of bridges and vxlan links.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fdb: Option<Vec<FdbEntry>>,
    /// The queueing disciplines of interfaces. An interface that is not listed has none that drops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qdiscs: Option<Vec<Qdisc>>,
    /// The filters of interfaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tc_filters: Option<Vec<TcFilter>>,
    /// How kube-proxy programs the node; `None` where that is not detectable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kube_proxy: Option<KubeProxyMode>,
    /// Sources that could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Unread>,
}

impl NodeFacts {
    /// Whether bridged packets of this family pass netfilter, by the sysctl of this namespace.
    pub fn bridge_nf(&self, family: Family) -> Option<SysctlState> {
        match family {
            Family::Ipv4 => self.bridge_nf_call_iptables,
            Family::Ipv6 => self.bridge_nf_call_ip6tables,
        }
    }

    /// Whether packets of this family are routed between interfaces.
    pub fn forwarding(&self, family: Family) -> Option<SysctlState> {
        match family {
            Family::Ipv4 => self.ip_forward,
            Family::Ipv6 => self.ip6_forward,
        }
    }

    /// The effective `rp_filter` of an interface: the larger of its own and of `all`
    /// (`IN_DEV_MAXCONF`, include/linux/inetdevice.h).
    pub fn rp_filter_in_force(&self, interface: &str) -> Option<i64> {
        let of = |name: &str| self.rp_filter.as_ref()?.get(name)?.value();
        of(interface).zip(of("all")).map(|(own, all)| own.max(all))
    }

    /// One counter of the kernel, by its name in `/proc/net/snmp`, `netstat` or `snmp6` (see [`Counters`]).
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.counters.as_ref()?.get(name)
    }

    /// How much each counter grew between two reads of the same namespace.
    pub fn delta(before: &Self, after: &Self) -> Option<Counters> {
        Some(Counters::delta(
            before.counters.as_ref()?,
            after.counters.as_ref()?,
        ))
    }

    /// The interface of this name.
    pub fn link(&self, name: &str) -> Lookup<&Link> {
        find(self.links.as_deref(), |link| link.name == name)
    }

    /// The neighbour entry for an address.
    pub fn neighbour(&self, ip: IpAddr) -> Lookup<&Neighbour> {
        find(self.neighbours.as_deref(), |neighbour| neighbour.ip == ip)
    }

    /// The forwarding entries for an Ethernet address; `None` where they were not read.
    pub fn fdb(&self, mac: Mac) -> Option<Vec<&FdbEntry>> {
        Some(
            self.fdb
                .as_ref()?
                .iter()
                .filter(|entry| entry.mac == mac)
                .collect(),
        )
    }

    /// The entry of this address, with its interface.
    pub fn address(&self, ip: IpAddr) -> Lookup<&Address> {
        find(self.addresses.as_deref(), |address| {
            address.prefix.addr() == ip
        })
    }
}

fn find<T>(list: Option<&[T]>, wanted: impl Fn(&T) -> bool) -> Lookup<&T> {
    match list {
        None => Lookup::Unread,
        Some(list) => list
            .iter()
            .find(|object| wanted(object))
            .map_or(Lookup::Absent, Lookup::Found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unread_list_differs_from_an_absent_object() {
        let facts = NodeFacts::default();
        assert_eq!(facts.bridge_nf(Family::Ipv4), None);
        assert_eq!(facts.link("cni0"), Lookup::Unread);
        let read = NodeFacts {
            links: Some(vec![]),
            ..facts
        };
        assert_eq!(read.link("cni0"), Lookup::Absent);
    }

    #[test]
    fn the_larger_rp_filter_is_effective() {
        let of = |all, eth0| {
            let values = [
                ("all".to_owned(), SysctlState::Value(all)),
                ("eth0".to_owned(), SysctlState::Value(eth0)),
            ];
            NodeFacts {
                rp_filter: Some(values.into()),
                ..NodeFacts::default()
            }
            .rp_filter_in_force("eth0")
        };
        assert_eq!((of(0, 1), of(2, 1), of(0, 0)), (Some(1), Some(2), Some(0)));
    }

    #[test]
    fn facts_survive_json_without_unread_fields() {
        let facts = NodeFacts {
            bridge_nf_call_iptables: Some(SysctlState::Value(0)),
            bridge_nf_call_ip6tables: Some(SysctlState::Absent),
            routes: Some(vec![Route::main("10.1.0.0/16".parse().unwrap())]),
            ..NodeFacts::default()
        };
        let text = serde_json::to_string(&facts).unwrap();
        assert!(text.starts_with(r#"{"bridge_nf_call_iptables":{"value":0},"bridge_nf_call_ip6tables":"absent","routes":"#));
        assert_eq!(serde_json::from_str::<NodeFacts>(&text).unwrap(), facts);
        assert_eq!(
            serde_json::from_str::<NodeFacts>("{}").unwrap(),
            NodeFacts::default()
        );
    }
}
