//! Small pods for TCP connections: a client and a server on every node, each server behind its own Service.

use std::collections::BTreeMap;

use libtest_mimic::Failed;

use crate::harness::{Cluster, wait_until};

/// The namespace of the pods.
const NAMESPACE: &str = "boxes";

/// A slice that no controller writes, like those of a run.
const SLICE: &str = "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand, namespace: boxes}
addressType: IPv4
ports: [{name: probe, port: 8080}]
endpoints: [{addresses: [192.0.2.1], conditions: {ready: true}}]
";

/// A target of a connection, such as `cluster-ip node-2 ipv4`.
pub(crate) type Target = String;

/// The outcome of each connection: the name that the server sends, or `timeout`, `refused`, `unreachable`, `prohibited`, `silent`.
pub(crate) type Outcomes = BTreeMap<Target, String>;

/// The pods and their addresses.
pub(crate) struct TestPods {
    /// The addresses of each server's pod, of its Service, and of the Service with `internalTrafficPolicy: Local`, in both families.
    targets: BTreeMap<Target, String>,
}

impl TestPods {
    /// Creates the pods that are missing, and waits until all are Ready.
    pub(crate) fn create(cluster: &Cluster) -> Result<Self, Failed> {
        let nodes: Vec<String> = cluster.nodes().collect();
        let mut manifest =
            format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n");
        for node in &nodes {
            manifest += &pod("client", node, "pause");
            manifest += &pod("server", node, &format!("serve, \"8080\", server-{node}"));
            manifest += &service(node, &format!("role: server, node: {node}"), "Cluster");
        }
        manifest += &service("local", "role: server", "Local");
        manifest += SLICE;
        cluster.apply(&manifest)?;
        cluster.kubectl(&[
            "wait",
            "-n",
            NAMESPACE,
            "--for=condition=Ready",
            "pod",
            "--all",
            "--timeout=120s",
        ])?;

        let mut targets = BTreeMap::new();
        let addresses = |kind: &str, both: &str| {
            let template =
                format!("jsonpath={{range .items[*]}}{{.metadata.name}} {both}{{\"\\n\"}}{{end}}");
            cluster.kubectl(&["get", kind, "-n", NAMESPACE, "-o", &template])
        };
        let pods = addresses("pods", "{.status.podIPs[0].ip} {.status.podIPs[1].ip}")?;
        for (name, family, address) in lines(&pods) {
            if let Some(node) = name.strip_prefix("server-") {
                targets.insert(format!("pod-ip {node} {family}"), port(&address, 8080));
            }
        }
        let services = addresses("services", "{.spec.clusterIPs[0]} {.spec.clusterIPs[1]}")?;
        for (name, family, address) in lines(&services) {
            targets.insert(format!("cluster-ip {name} {family}"), port(&address, 80));
        }
        Ok(Self { targets })
    }

    /// Waits until exactly these connections from this node fail.
    pub(crate) fn fail_only(
        &self,
        cluster: &Cluster,
        node: &str,
        expected: &[&str],
    ) -> Result<(), Failed> {
        let expected: Vec<String> = expected.iter().map(|&line| line.to_owned()).collect();
        let mut last = Vec::new();
        wait_until("the expected connections fail, and no others", || {
            // A new pod may not accept commands yet.
            last = match self.failures(cluster, node) {
                Ok(failures) => failures
                    .iter()
                    .map(|(target, outcome)| format!("{target} {outcome}"))
                    .collect(),
                Err(failed) => vec![failed.message().unwrap_or_default().to_owned()],
            };
            Ok(last == expected)
        })
        .map_err(|failed| {
            let message = failed.message().unwrap_or_default();
            format!("{message}\nfrom {node} fail {last:#?}, expected {expected:#?}").into()
        })
    }

    /// Connects from the client of a node to all targets, and from its server to itself, at the same time.
    pub(crate) fn outcomes(&self, cluster: &Cluster, node: &str) -> Result<Outcomes, Failed> {
        let own = format!("cluster-ip {node} ");
        let own = self
            .targets
            .iter()
            .filter(|(target, _)| target.starts_with(&own));
        let hairpin = own
            .map(|(target, address)| (target.replace("cluster-ip", "hairpin"), address.clone()))
            .collect();
        let (client, server) = (format!("client-{node}"), format!("server-{node}"));
        let (outcomes, itself) = std::thread::scope(|scope| {
            let itself = scope.spawn(|| Self::connect(cluster, &server, &hairpin));
            (
                Self::connect(cluster, &client, &self.targets),
                itself.join(),
            )
        });
        let mut outcomes = outcomes?;
        outcomes.append(&mut itself.map_err(|_| "connecting from the server panicked")??);
        Ok(outcomes)
    }

    /// The connections from a node whose outcome differs from that on a healthy cluster.
    pub(crate) fn failures(&self, cluster: &Cluster, node: &str) -> Result<Outcomes, Failed> {
        let mut outcomes = self.outcomes(cluster, node)?;
        outcomes.retain(|target, outcome| {
            let named = target.split(' ').nth(1).unwrap_or_default();
            let server = if named == "local" { node } else { named };
            *outcome != format!("server-{server}")
        });
        Ok(outcomes)
    }

    fn connect(
        cluster: &Cluster,
        pod: &str,
        targets: &BTreeMap<Target, String>,
    ) -> Result<Outcomes, Failed> {
        let mut connect = vec!["exec", "-n", NAMESPACE, pod, "--", "/box", "connect"];
        connect.extend(targets.values().map(String::as_str));
        let output = cluster.kubectl(&connect)?;
        let lines = output
            .lines()
            .map(|line| line.split_once(' ').map_or("", |(_, outcome)| outcome));
        Ok(targets
            .keys()
            .cloned()
            .zip(lines.map(str::to_owned))
            .collect())
    }
}

fn pod(role: &str, node: &str, arguments: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: {role}-{node}, namespace: {NAMESPACE}, labels: {{role: {role}, node: {node}}}}}
spec:
  nodeName: {node}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 1
  containers: [{{name: box, image: \"prober.dev/test/box:1\", imagePullPolicy: Never, args: [{arguments}]}}]
"
    )
}

fn service(name: &str, selector: &str, policy: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  ipFamilyPolicy: RequireDualStack
  internalTrafficPolicy: {policy}
  selector: {{{selector}}}
  ports: [{{name: probe, port: 80, targetPort: 8080}}]
"
    )
}

/// Splits lines of a name and its addresses into names, families and addresses.
fn lines(text: &str) -> impl Iterator<Item = (String, &'static str, String)> {
    text.lines().flat_map(|line| {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default().to_owned();
        words
            .map(move |address| {
                let family = if address.contains(':') {
                    "ipv6"
                } else {
                    "ipv4"
                };
                (name.clone(), family, address.to_owned())
            })
            .collect::<Vec<_>>()
    })
}

fn port(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}
