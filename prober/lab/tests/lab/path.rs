//! The healthy data path: every access path, both families, with the kernel's own connect().

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use prober_core::packet::family::Family;
use prober_lab::topology::{Pod, client, server};
use prober_lab::{Fleet, Lab, LabSpec, kube_proxy, namespace};

use crate::{Case, stand_in};

pub(crate) const CASES: &[Case] = &[(
    "every_route_of_a_healthy_lab_works_on_the_first_syn_in_both_families",
    every_route_of_a_healthy_lab_works_on_the_first_syn_in_both_families,
)];

/// A SYN that is lost comes again after a second: what is established sooner was so by the first one.
const FIRST_SYN: Duration = Duration::from_millis(900);

/// A lab with a stand-in agent in every pod, slot k leading to the server of node k+1.
pub(crate) fn fleet(spec: &LabSpec) -> Fleet {
    let lab = Lab::up(spec).unwrap();
    let (events, told) = mpsc::channel();
    let mut fleet = Fleet::new(lab, stand_in::command(), events);
    fleet.populate(&told).unwrap();
    fleet
}

/// What every access path answers: the server's name and the client that it saw, or why not.
pub(crate) type Matrix = BTreeMap<String, Result<String, io::ErrorKind>>;

/// Asks on every access path at once.
pub(crate) fn matrix(spec: &LabSpec) -> Matrix {
    let mut asked = Vec::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let mut ask = |name: &str, from: Pod, to: SocketAddr| {
            let what = format!("{family} {name} from {from} to {to}");
            let thread = namespace::spawn_inside(&from.name(), move || ask(to)).unwrap();
            asked.push((what, thread));
        };
        let vip = |port| SocketAddr::new(kube_proxy::cluster_ip(family), port);
        let local = SocketAddr::new(
            kube_proxy::local_cluster_ip(family),
            kube_proxy::BALANCED_PORT,
        );
        for (slot, node) in (0..).zip(spec.nodes()) {
            for other in spec.nodes() {
                let to = server(node).address(family);
                ask(
                    "pod-ip",
                    client(other),
                    SocketAddr::new(to, prober_core::plan::RESPONDER_PORT),
                );
                ask(
                    "cluster-ip",
                    client(other),
                    vip(kube_proxy::SLOT_PORT + slot),
                );
            }
            ask("hairpin", server(node), vip(kube_proxy::SLOT_PORT + slot));
            ask("cluster-ip-local", client(node), local);
        }
    }
    asked
        .into_iter()
        .map(|(what, thread)| (what, thread.join().unwrap().unwrap()))
        .collect()
}

/// Asks the balanced port so many times, from node-1's client, one after the other.
pub(crate) fn balanced(spec: &LabSpec, times: usize) -> Vec<Result<String, io::ErrorKind>> {
    let from = client(spec.nodes().next().unwrap());
    let to = SocketAddr::new(
        kube_proxy::cluster_ip(Family::Ipv4),
        kube_proxy::BALANCED_PORT,
    );
    namespace::spawn_inside(&from.name(), move || (0..times).map(|_| ask(to)).collect())
        .unwrap()
        .join()
        .unwrap()
        .unwrap()
}

fn ask(to: SocketAddr) -> Result<String, io::ErrorKind> {
    let told = |error: io::Error| error.kind();
    let mut stream = TcpStream::connect_timeout(&to, FIRST_SYN).map_err(told)?;
    stream.set_read_timeout(Some(FIRST_SYN)).map_err(told)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(told)?;
    Ok(text.trim_end_matches(stand_in::FILLER).to_owned())
}

/// What a healthy lab answers.
pub(crate) fn healthy(spec: &LabSpec) -> Matrix {
    let mut matrix = Matrix::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let mut expect =
            |name: &str, from: Pod, to: SocketAddr, server: Pod, seen: std::net::IpAddr| {
                matrix.insert(
                    format!("{family} {name} from {from} to {to}"),
                    Ok(format!("{server} {seen}")),
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
                let seen = client(other).address(family);
                let to = SocketAddr::new(pod.address(family), prober_core::plan::RESPONDER_PORT);
                expect("pod-ip", client(other), to, pod, seen);
                expect(
                    "cluster-ip",
                    client(other),
                    vip(kube_proxy::SLOT_PORT + slot),
                    pod,
                    seen,
                );
            }
            // A pod that reaches itself is masqueraded: it sees its node's bridge.
            expect(
                "hairpin",
                pod,
                vip(kube_proxy::SLOT_PORT + slot),
                pod,
                node.gateway(family),
            );
            expect(
                "cluster-ip-local",
                client(node),
                local,
                pod,
                client(node).address(family),
            );
        }
    }
    matrix
}

fn every_route_of_a_healthy_lab_works_on_the_first_syn_in_both_families() {
    for nodes in [2, 5] {
        let spec = LabSpec::new(nodes, 1).unwrap();
        let start = Instant::now();
        let fleet = fleet(&spec);
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
        drop(fleet);
        for place in namespace::run_outside("ip -o netns list | cut -d' ' -f1")
            .unwrap()
            .lines()
        {
            namespace::run_outside(&format!("ip netns del {place}")).unwrap();
        }
    }
}

/// Compares two matrices and tells only what differs.
pub(crate) fn assert_same(seen: &Matrix, wanted: &Matrix) {
    let differ: Vec<_> = wanted
        .iter()
        .filter(|(path, answer)| seen.get(*path) != Some(answer))
        .map(|(path, answer)| (path, answer, seen.get(path)))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}
