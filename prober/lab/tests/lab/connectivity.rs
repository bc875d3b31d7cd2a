//! The data path of a healthy lab: every access path in both families, by connect(2).

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use prober_core::packet::family::Family;
use prober_lab::data_plane::{Attachment, PodGateway};
use prober_lab::kube_proxy::ProxyMode;
use prober_lab::topology::{Node, Pod, client, server};
use prober_lab::{DataPlane, Lab, LabCluster, LabSpec, kube_proxy, namespace};

use crate::{Case, fake_agent};

pub(crate) const CASES: &[Case] = &[
    (
        "every_access_path_of_a_healthy_lab_works_on_the_first_syn_in_both_families",
        every_access_path_of_a_healthy_lab_works_on_the_first_syn_in_both_families,
    ),
    (
        "every_access_path_works_on_every_data_plane_in_both_modes_of_kube_proxy",
        every_access_path_works_on_every_data_plane_in_both_modes_of_kube_proxy,
    ),
];

/// The kernel retransmits a lost SYN after a second: an earlier handshake has used the first SYN.
const FIRST_SYN: Duration = Duration::from_millis(900);

/// Starts a lab with a fake agent in every pod; slot k leads to the server of node k+1.
pub(crate) fn cluster(spec: &LabSpec) -> LabCluster {
    let lab = Lab::up(spec).unwrap();
    let (sender, events) = mpsc::channel();
    let mut cluster = LabCluster::new(lab, fake_agent::command(), sender);
    cluster.populate(&events).unwrap();
    cluster
}

/// The result of each access path: the server's name and the client address that it reports, or the error.
pub(crate) type Matrix = BTreeMap<String, Result<String, io::ErrorKind>>;

/// Connects over every access path in parallel.
pub(crate) fn matrix(spec: &LabSpec) -> Matrix {
    let mut connections = Vec::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let mut start = |name: &str, from: Pod, to: SocketAddr| {
            let path = format!("{family} {name} from {from} to {to}");
            let thread = namespace::spawn_in(&from.name(), move || connect(to)).unwrap();
            connections.push((path, thread));
        };
        let vip = |port| SocketAddr::new(kube_proxy::cluster_ip(family), port);
        let local = SocketAddr::new(
            kube_proxy::local_cluster_ip(family),
            kube_proxy::BALANCED_PORT,
        );
        for (slot, node) in (0..).zip(spec.nodes()) {
            for other in spec.nodes() {
                let to = server(node).address(family);
                start(
                    "pod-ip",
                    client(other),
                    SocketAddr::new(to, prober_core::plan::RESPONDER_PORT),
                );
                start(
                    "cluster-ip",
                    client(other),
                    vip(kube_proxy::SLOT_PORT + slot),
                );
            }
            start("hairpin", server(node), vip(kube_proxy::SLOT_PORT + slot));
            start("cluster-ip-local", client(node), local);
        }
    }
    connections
        .into_iter()
        .map(|(path, thread)| (path, thread.join().unwrap().unwrap()))
        .collect()
}

/// Connects to the balanced port `times` times in sequence, from node-1's client.
pub(crate) fn balanced(spec: &LabSpec, times: usize) -> Vec<Result<String, io::ErrorKind>> {
    let from = client(spec.nodes().next().unwrap());
    let to = SocketAddr::new(
        kube_proxy::cluster_ip(Family::Ipv4),
        kube_proxy::BALANCED_PORT,
    );
    namespace::spawn_in(&from.name(), move || {
        (0..times).map(|_| connect(to)).collect()
    })
    .unwrap()
    .join()
    .unwrap()
    .unwrap()
}

/// Connects from each node's own network to the slot of its server, in both families.
pub(crate) fn from_nodes(spec: &LabSpec) -> Vec<Result<String, io::ErrorKind>> {
    let slots = (0..).zip(spec.nodes());
    slots
        .flat_map(|(slot, node)| {
            let port = kube_proxy::SLOT_PORT + slot;
            [Family::Ipv4, Family::Ipv6].map(|family| {
                let to = SocketAddr::new(kube_proxy::cluster_ip(family), port);
                let thread = namespace::spawn_in(&node.name(), move || connect(to)).unwrap();
                thread.join().unwrap().unwrap()
            })
        })
        .collect()
}

fn connect(to: SocketAddr) -> Result<String, io::ErrorKind> {
    let kind = |error: io::Error| error.kind();
    let mut stream = TcpStream::connect_timeout(&to, FIRST_SYN).map_err(kind)?;
    stream.set_read_timeout(Some(FIRST_SYN)).map_err(kind)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(kind)?;
    Ok(text.trim_end_matches(fake_agent::FILLER).to_owned())
}

/// Returns the results of a healthy lab.
pub(crate) fn healthy(spec: &LabSpec) -> Matrix {
    let mut matrix = Matrix::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let mut expect = |name: &str, from: Pod, to: SocketAddr, server: Pod, client: IpAddr| {
            matrix.insert(
                format!("{family} {name} from {from} to {to}"),
                Ok(format!("{server} {client}")),
            );
        };
        let vip = |port| SocketAddr::new(kube_proxy::cluster_ip(family), port);
        let local = SocketAddr::new(
            kube_proxy::local_cluster_ip(family),
            kube_proxy::BALANCED_PORT,
        );
        for (slot, node) in (0..).zip(spec.nodes()) {
            let pod = server(node);
            for other in spec.nodes() {
                let seen = service_client(spec, client(other), family);
                let to = SocketAddr::new(pod.address(family), prober_core::plan::RESPONDER_PORT);
                let address = client(other).address(family);
                expect("pod-ip", client(other), to, pod, address);
                expect(
                    "cluster-ip",
                    client(other),
                    vip(kube_proxy::SLOT_PORT + slot),
                    pod,
                    seen,
                );
            }
            // A pod's connection to itself is masqueraded: its peer is the node.
            expect(
                "hairpin",
                pod,
                vip(kube_proxy::SLOT_PORT + slot),
                pod,
                masquerade_address(spec, node, family),
            );
            expect(
                "cluster-ip-local",
                client(node),
                local,
                pod,
                service_client(spec, client(node), family),
            );
        }
    }
    matrix
}

/// Returns the address with which a node masquerades packets to its own pods: that of the interface by which they leave, if
/// it has one.
fn masquerade_address(spec: &LabSpec, node: Node, family: Family) -> IpAddr {
    match spec.data_plane().attachment() {
        Attachment::Bridge | Attachment::RoutedVeth(PodGateway::NodeAddress) => {
            node.gateway(family)
        }
        Attachment::RoutedVeth(PodGateway::ProxyArp | PodGateway::StaticNeighbour)
        | Attachment::Macvlan => spec.node_address(node, family),
    }
}

/// Returns the client address of a pod's connections to a Service.
fn service_client(spec: &LabSpec, pod: Pod, family: Family) -> IpAddr {
    match spec.data_plane().attachment() {
        Attachment::Bridge | Attachment::RoutedVeth(_) => pod.address(family),
        Attachment::Macvlan => masquerade_address(spec, pod.node, family),
    }
}

fn every_access_path_works_on_every_data_plane_in_both_modes_of_kube_proxy() {
    for data_plane in DataPlane::ALL {
        for proxy_mode in ProxyMode::ALL {
            let spec = LabSpec::smallest(*data_plane).with_proxy_mode(*proxy_mode);
            let cluster = cluster(&spec);
            assert_same(&matrix(&spec), &healthy(&spec));
            println!("  {data_plane} with {proxy_mode}: well");
            remove(cluster);
        }
    }
}

/// Ends a lab and removes its namespaces, so that another one can be created.
pub(crate) fn remove(cluster: LabCluster) {
    drop(cluster);
    let names = namespace::run_in_lab("ip -o netns list | cut -d' ' -f1").unwrap();
    for name in names.lines() {
        namespace::run_in_lab(&format!("ip netns del {name}")).unwrap();
    }
}

fn every_access_path_of_a_healthy_lab_works_on_the_first_syn_in_both_families() {
    for nodes in [2, 5] {
        let spec = LabSpec::new(nodes, 1).unwrap();
        let start = Instant::now();
        let cluster = cluster(&spec);
        println!(
            "{nodes} nodes: up, placed and published in {:.0?}",
            start.elapsed()
        );
        assert_same(&matrix(&spec), &healthy(&spec));
        let answers = balanced(&spec, 60);
        let servers: std::collections::BTreeSet<_> =
            answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(
            servers.len(),
            usize::from(nodes),
            "the balanced port reaches every server"
        );
        remove(cluster);
    }
}

/// Fails with the differences of two matrices.
pub(crate) fn assert_same(actual: &Matrix, expected: &Matrix) {
    let differ: Vec<_> = expected
        .iter()
        .filter(|(path, answer)| actual.get(*path) != Some(answer))
        .map(|(path, answer)| (path, answer, actual.get(path)))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}
