//! The healthy data path: every route, both families, with the kernel's own connect().

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use prober_core::family::Family;
use prober_lab::proxy::{self, Endpoint, Endpoints};
use prober_lab::topology::{Node, Pod, client, server};
use prober_lab::{Lab, LabSpec, namespace};

use crate::Case;

pub(crate) const CASES: &[Case] = &[(
    "every_route_of_a_healthy_lab_works_in_both_families",
    every_route_of_a_healthy_lab_works_in_both_families,
)];

/// Slot k leads to the server of node k+1; the others are balanced or local.
pub(crate) fn all_servers(spec: &LabSpec) -> Endpoints {
    let servers: Vec<_> = spec
        .nodes()
        .map(|node| Endpoint::of(server(node)))
        .collect();
    Endpoints {
        slots: (0..).zip(servers.iter().copied()).collect(),
        any: servers.iter().copied().collect(),
        local: servers.into_iter().collect(),
    }
}

/// Lets every server pod answer on 8080 with its own name and the peer that it sees.
pub(crate) fn serve(spec: &LabSpec) {
    for node in spec.nodes() {
        let pod = server(node);
        let (ready, is_ready) = std::sync::mpsc::channel();
        namespace::spawn_inside(&pod.name(), move || {
            let listener = TcpListener::bind("[::]:8080").unwrap();
            ready.send(()).unwrap();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap().ip().to_canonical();
                // A client that is gone already is not the server's concern.
                let _gone = write!(stream, "{pod} {peer}");
            }
        })
        .unwrap();
        is_ready.recv().unwrap();
    }
}

/// Connects from a pod and returns what the server says.
pub(crate) fn ask(from: Pod, to: IpAddr, port: u16) -> std::io::Result<String> {
    namespace::spawn_inside(&from.name(), move || {
        let mut stream =
            TcpStream::connect_timeout(&SocketAddr::new(to, port), Duration::from_millis(3900))?;
        stream.set_read_timeout(Some(Duration::from_millis(3900)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
    .unwrap()
    .join()
    .unwrap()
    .unwrap()
}

fn every_route_of_a_healthy_lab_works_in_both_families() {
    let spec = LabSpec::default();
    let start = Instant::now();
    let mut lab = Lab::up(&spec).unwrap();
    println!("up in {:.0?}", start.elapsed());
    lab.publish(all_servers(&spec)).unwrap();
    println!("published in {:.0?}", start.elapsed());
    serve(&spec);
    let (one, two) = (Node::FIRST, Node::FIRST.next_of(&spec));
    for family in [Family::Ipv4, Family::Ipv6] {
        let vip = proxy::cluster_ip(family);
        let local = proxy::local_cluster_ip(family);
        let from = client(one).address(family);
        let gateway = one.gateway(family);
        for (name, pod, to, port, banner) in [
            (
                "pod-ip same-node",
                client(one),
                server(one).address(family),
                8080,
                format!("node-1-server {from}"),
            ),
            (
                "pod-ip cross-node",
                client(one),
                server(two).address(family),
                8080,
                format!("node-2-server {from}"),
            ),
            (
                "cluster-ip same-node",
                client(one),
                vip,
                9000,
                format!("node-1-server {from}"),
            ),
            (
                "cluster-ip cross-node",
                client(one),
                vip,
                9001,
                format!("node-2-server {from}"),
            ),
            (
                "hairpin",
                server(one),
                vip,
                9000,
                format!("node-1-server {gateway}"),
            ),
            (
                "local",
                client(one),
                local,
                80,
                format!("node-1-server {from}"),
            ),
            (
                "local on the other node",
                client(two),
                local,
                80,
                format!("node-2-server {}", client(two).address(family)),
            ),
        ] {
            let asked = Instant::now();
            assert_eq!(ask(pod, to, port).unwrap(), banner, "{name} {family}");
            let took = asked.elapsed();
            assert!(
                took < Duration::from_millis(900),
                "{name} {family} lost its first SYN: {took:?}"
            );
        }
        let servers: BTreeSet<String> = (0..40)
            .map(|_| ask(client(one), vip, 80).unwrap())
            .collect();
        assert_eq!(servers.len(), 2, "the balanced port reaches both servers");
        let refused = ask(client(one), vip, 9002).unwrap_err();
        assert_eq!(
            refused.kind(),
            std::io::ErrorKind::ConnectionRefused,
            "a slot without endpoint rejects, {family}"
        );
    }
}
