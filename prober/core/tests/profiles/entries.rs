//! The entries of connection tracking that a fault leaves on the nodes.

use prober_core::topology::{AccessPath, Path};

use super::address::{client, server};
use super::fault::{Fault, Kind, Place};
use super::profile::named;
use super::run::run;

/// The entries of node-1 and node-2 that belong to the first probe of a path which has any, as `conntrack -L` writes
/// them; `None` where the table was not read.
fn entries(
    profile: &str,
    (kind, place): (Kind, Place),
    wanted: impl Fn(&Path) -> bool,
) -> [Option<Vec<String>>; 2] {
    let matrix = run(&Fault { kind, place }.on(named(profile), 2));
    let path = matrix
        .paths
        .values()
        .find(|path| wanted(&path.path))
        .unwrap();
    let probe = path.probes.first().unwrap();
    let found = matrix.conntrack_of(path, probe);
    ["node-1", "node-2"].map(|node| {
        let at_node = found.iter().find(|one| one.node.as_str() == node)?;
        assert!(at_node.is_complete);
        let lines = at_node.entries.iter();
        Some(lines.map(ToString::to_string).collect())
    })
}

fn service_of(from: u8, to: u8) -> impl Fn(&Path) -> bool {
    move |path| {
        path.access_path == AccessPath::ClusterIp
            && path.client == client(from).id()
            && path.server == Some(server(to).id())
    }
}

const TRANSLATED: &str = "tcp 6 97 SYN_SENT src=10.244.1.10 dst=10.96.30.133 sport=PORT dport=8102 [UNREPLIED] src=10.244.2.20 dst=10.244.1.10 sport=8080 dport=PORT mark=0 use=2";

/// The lines with the client's port left out.
fn without_port(lines: Option<Vec<String>>) -> Vec<String> {
    let without = |line: String| {
        let words = line.split(' ').map(|word| match word.split_once('=') {
            Some((name, port)) if port.starts_with('4') && port.len() == 5 => {
                format!("{name}=PORT")
            }
            Some(_) | None => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    lines.unwrap().into_iter().map(without).collect()
}

#[test]
fn a_dropped_syn_has_an_entry_where_it_passed_and_none_where_it_was_dropped() {
    let fault = (Kind::PolicyIngress, Place::Pod(server(2)));
    let [sender, receiver] = entries("flannel-vxlan", fault, service_of(1, 2));
    assert_eq!(without_port(sender), [TRANSLATED]);
    assert_eq!(receiver, Some(Vec::new()));
}

#[test]
fn a_refused_connection_leaves_no_entry() {
    let fault = (Kind::NotListening, Place::Pod(server(2)));
    let found = entries("ptp", fault, service_of(1, 2));
    assert_eq!(found, [Some(Vec::new()), Some(Vec::new())]);
}

#[test]
fn an_answer_that_bypasses_netfilter_leaves_its_entry_unreplied() {
    let fault = (Kind::BridgeNetfilterOff, Place::Node(1));
    let [own, _] = entries("flannel-vxlan", fault, service_of(1, 1));
    let own = own.unwrap();
    assert!(own.len() == 1 && own[0].contains("[UNREPLIED]"), "{own:?}");
}

#[test]
fn a_lost_answer_is_seen_up_to_where_it_is_dropped() {
    let fault = (Kind::UnderlayDrop, Place::Pair(2, 1));
    let [asking, answering] = entries("calico-bgp", fault, service_of(1, 2));
    assert_eq!(without_port(asking), [TRANSLATED]);
    let answering = answering.unwrap();
    assert!(answering[0].contains("SYN_RECV"), "{answering:?}");
}

#[test]
fn packets_past_netfilter_leave_nothing() {
    let fault = (Kind::AcceptQueueFull, Place::Pod(server(2)));
    for profile in ["cilium", "calico-ebpf"] {
        let found = entries(profile, fault, service_of(1, 2));
        assert_eq!(found, [Some(Vec::new()), Some(Vec::new())], "{profile}");
    }
    // A node translates for its own pods; the server's node is not on the way.
    let [own, other] = entries("macvlan", fault, service_of(1, 2));
    assert_eq!(
        (own.map(|own| own.len()), other),
        (Some(1), Some(Vec::new()))
    );
}
