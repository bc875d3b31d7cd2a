//! Small pods that answer and ask: a client and a server on every node, each server behind Services of its own.

use std::collections::BTreeMap;

use libtest_mimic::Failed;

use crate::harness::{Cluster, wait_until};

/// Where they live.
const NAMESPACE: &str = "boxes";

/// One that no controller writes, as the slices of a run.
const SLICE: &str = "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand, namespace: boxes}
addressType: IPv4
ports: [{name: probe, port: 8080}]
endpoints: [{addresses: [192.0.2.1], conditions: {ready: true}}]
";

/// One way from a client to a server: a word that says which, as `cluster-ip node-2 ipv4`.
pub(crate) type PathName = String;

/// How connects ended, by access path: the name of who greeted, or `timeout`, `refused`, `unreachable`, `silent`.
pub(crate) type Matrix = BTreeMap<PathName, String>;

/// The pods, and where they are reached.
pub(crate) struct Boxes {
    /// What each server's pod, its Service, and the Service that stays on a node are called by, in both families.
    targets: BTreeMap<PathName, String>,
}

impl Boxes {
    /// Places those that are missing, and waits until all are Ready.
    pub(crate) fn place(cluster: &Cluster) -> Result<Self, Failed> {
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

    /// Waits until from this node exactly these ways fail; says what did fail if that never happens.
    pub(crate) fn fail_only(
        &self,
        cluster: &Cluster,
        node: &str,
        expected: &[&str],
    ) -> Result<(), Failed> {
        let expected: Vec<String> = expected.iter().map(|&line| line.to_owned()).collect();
        let mut last = Vec::new();
        wait_until("the expected ways fail, and no others", || {
            // A pod that was placed a moment ago may not take commands yet.
            last = match self.failures(cluster, node) {
                Ok(failures) => failures
                    .iter()
                    .map(|(path, outcome)| format!("{path} {outcome}"))
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

    /// Connects from the client of a node to everything, and from its server to itself, at once.
    pub(crate) fn matrix(&self, cluster: &Cluster, node: &str) -> Result<Matrix, Failed> {
        let own = format!("cluster-ip {node} ");
        let own = self
            .targets
            .iter()
            .filter(|(path, _)| path.starts_with(&own));
        let hairpin = own
            .map(|(path, address)| (path.replace("cluster-ip", "hairpin"), address.clone()))
            .collect();
        let (client, server) = (format!("client-{node}"), format!("server-{node}"));
        let (matrix, itself) = std::thread::scope(|scope| {
            let itself = scope.spawn(|| Self::ask(cluster, &server, &hairpin));
            (Self::ask(cluster, &client, &self.targets), itself.join())
        });
        let mut matrix = matrix?;
        matrix.append(&mut itself.map_err(|_| "asking the server panicked")??);
        Ok(matrix)
    }

    /// What is not as on a healthy cluster, from a node.
    pub(crate) fn failures(&self, cluster: &Cluster, node: &str) -> Result<Matrix, Failed> {
        let mut matrix = self.matrix(cluster, node)?;
        matrix.retain(|path, outcome| {
            let named = path.split(' ').nth(1).unwrap_or_default();
            let server = if named == "local" { node } else { named };
            *outcome != format!("server-{server}")
        });
        Ok(matrix)
    }

    fn ask(
        cluster: &Cluster,
        pod: &str,
        targets: &BTreeMap<PathName, String>,
    ) -> Result<Matrix, Failed> {
        let mut connect = vec!["exec", "-n", NAMESPACE, pod, "--", "/box", "connect"];
        connect.extend(targets.values().map(String::as_str));
        let said = cluster.kubectl(&connect)?;
        let outcomes = said
            .lines()
            .map(|line| line.split_once(' ').map_or("", |(_, outcome)| outcome));
        Ok(targets
            .keys()
            .cloned()
            .zip(outcomes.map(str::to_owned))
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
  containers: [{{name: box, image: \"prober.dev/bench/box:1\", imagePullPolicy: Never, args: [{arguments}]}}]
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

/// Lines of a name and an address of each family.
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
