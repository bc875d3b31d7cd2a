//! Reads node facts from /proc and rtnetlink, without any capability.
//!
//! All of them are of the network namespace of the *calling thread*: sysctls follow the thread, counters are read from
//! `/proc/thread-self/net` (`/proc/net` is the namespace of the process's first thread), and the netlink socket is opened in
//! this thread. What cannot be read is left out, and listed with its reason.
mod conntrack;
mod counters;
mod kube_proxy;
mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs;
use std::io;

pub use conntrack::ConntrackTable;
pub(crate) use network::route_address;
use prober_core::node_facts::{ConntrackRequest, Counters, NodeFacts, SysctlState, Unread};

/// Reads all facts of the calling thread's network namespace.
pub fn read_facts() -> NodeFacts {
    let mut reader = FactReader::default();
    let links = reader.keep("rtnetlink links", network::links());
    let names = links
        .as_deref()
        .map(network::LinkNames::of)
        .unwrap_or_default();
    let (qdiscs, tc_filters) = reader
        .keep("rtnetlink filters", network::traffic_control(&names))
        .unzip();
    NodeFacts {
        kernel: nix::sys::utsname::uname()
            .ok()
            .and_then(|name| name.release().to_str().map(str::to_owned)),
        bridge_nf_call_iptables: Some(reader.sysctl("net/bridge/bridge-nf-call-iptables")),
        bridge_nf_call_ip6tables: Some(reader.sysctl("net/bridge/bridge-nf-call-ip6tables")),
        ip_forward: Some(reader.sysctl("net/ipv4/ip_forward")),
        ip6_forward: Some(reader.sysctl("net/ipv6/conf/all/forwarding")),
        rp_filter: reader.rp_filter(),
        proxy_arp: reader.interfaces_with("ipv4", "proxy_arp"),
        proxy_ndp: reader.interfaces_with("ipv6", "proxy_ndp"),
        conntrack_count: unsigned(reader.sysctl("net/netfilter/nf_conntrack_count")),
        conntrack_max: unsigned(reader.sysctl("net/netfilter/nf_conntrack_max")),
        conntrack: None,
        counters: Some(reader.counters()),
        addresses: reader.keep("rtnetlink addresses", network::addresses(&names)),
        rules: reader.keep("rtnetlink rules", network::rules()),
        routes: reader.keep("rtnetlink routes", network::routes(&names)),
        neighbours: reader.keep("rtnetlink neighbours", network::neighbours(&names)),
        fdb: reader.keep("rtnetlink forwarding entries", network::fdb(&names)),
        qdiscs,
        tc_filters,
        kube_proxy: kube_proxy::mode(links.as_deref()),
        links,
        unread: reader.unread,
    }
}

/// Reads all facts, and of connection tracking the entries of these connections.
pub fn read_facts_with_conntrack(table: &ConntrackTable, request: &ConntrackRequest) -> NodeFacts {
    // First, since entries end.
    let mut reader = FactReader::default();
    let conntrack = reader.keep(conntrack::PATH, table.read(request));
    let mut facts = read_facts();
    facts.conntrack = conntrack;
    facts.unread.append(&mut reader.unread);
    facts
}

/// Reads only the counters: a few files, cheap enough for every plan.
pub fn read_counters() -> Counters {
    FactReader::default().counters()
}

fn unsigned(state: SysctlState) -> Option<u64> {
    state.value().and_then(|value| value.try_into().ok())
}

/// Reads facts, and collects what cannot be read.
#[derive(Default)]
struct FactReader {
    unread: Vec<Unread>,
}

impl FactReader {
    fn note(&mut self, what: &str, why: impl Display) {
        self.unread.push(Unread {
            what: what.to_owned(),
            why: why.to_string(),
        });
    }

    fn keep<T, E: Display>(&mut self, what: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|why| self.note(what, why)).ok()
    }

    fn sysctl(&mut self, name: &str) -> SysctlState {
        let path = format!("/proc/sys/{name}");
        match fs::read_to_string(&path).map(|text| text.trim().parse()) {
            Ok(Ok(value)) => SysctlState::Value(value),
            Ok(Err(why)) => {
                self.note(&path, why);
                SysctlState::Unreadable
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound => SysctlState::Absent,
            Err(why) => {
                self.note(&path, why);
                SysctlState::Unreadable
            }
        }
    }

    fn rp_filter(&mut self) -> Option<BTreeMap<String, SysctlState>> {
        let names = self.configured_interfaces("ipv4")?;
        Some(
            names
                .into_iter()
                .map(|name| {
                    let state = self.sysctl(&format!("net/ipv4/conf/{name}/rp_filter"));
                    (name, state)
                })
                .collect(),
        )
    }

    /// The interfaces for which a sysctl is on; `None` without this family.
    fn interfaces_with(&mut self, family: &str, sysctl: &str) -> Option<BTreeSet<String>> {
        let mut names = self.configured_interfaces(family)?;
        names.retain(|name| {
            let state = self.sysctl(&format!("net/{family}/conf/{name}/{sysctl}"));
            state.value().is_some_and(|value| value != 0)
        });
        Some(names.into_iter().collect())
    }

    /// The folders of `net/FAMILY/conf`: the interfaces, `all` and `default`; `None` without this family.
    fn configured_interfaces(&mut self, family: &str) -> Option<Vec<String>> {
        let parent = format!("/proc/sys/net/{family}/conf");
        match fs::read_dir(&parent) {
            Ok(entries) => Some(
                entries
                    .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                    .collect(),
            ),
            Err(why) if why.kind() == io::ErrorKind::NotFound => None,
            Err(why) => {
                self.note(&parent, why);
                None
            }
        }
    }

    fn counters(&mut self) -> Counters {
        let mut all = Counters::default();
        for (file, parse) in counters::FILES {
            let path = format!("/proc/thread-self/net/{file}");
            match fs::read_to_string(&path) {
                Ok(text) => all.0.append(&mut parse(&text).0),
                // The module that counts is not loaded, or IPv6 is off: there are no such counters.
                Err(why) if why.kind() == io::ErrorKind::NotFound => {}
                Err(why) => self.note(&path, why),
            }
        }
        all
    }
}
