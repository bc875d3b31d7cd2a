//! The agent's image in real pods: its privileges under each Pod Security level, its node facts, its end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Failed, Trial};
use prober_core::node_facts::{NodeFacts, SysctlState};
use prober_core::plan::{Method, NodeFactsReading, Plan, ProbePlan, RESPONDER_PORT};
use prober_core::probe::event::Event;
use prober_core::probe::outcome::OutcomeKind;
use prober_core::probe::tier::Tier;
use prober_core::topology::{AgentId, PathId};

use crate::harness::{self, Cluster, USUAL, wait_until};

/// The most memory of an agent, KiB.
const MAX_RESIDENT: u64 = 10 << 10;

/// The security context of an agent's pod.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SecurityLevel {
    /// For `baseline`: uid 0 with only `NET_RAW` of the default capabilities.
    Baseline,
    /// For `restricted`: uid 65534 without capabilities.
    Restricted,
    /// As `Restricted`, in the host network.
    Host,
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        harness::on(
            USUAL,
            "an agent in a baseline namespace captures packets and keeps no privilege",
            |cluster| {
                let namespace = AgentNamespace::new(cluster, "agent-baseline", "baseline")?;
                let tier = probe_across(&namespace, SecurityLevel::Baseline)?;
                expect(tier == Tier::T1, || format!("{tier:?}"))
            },
        ),
        harness::on(
            USUAL,
            "an agent in a restricted namespace probes by connect() and reports tier T0",
            |cluster| {
                let namespace = AgentNamespace::new(cluster, "agent-restricted", "restricted")?;
                let tier = probe_across(&namespace, SecurityLevel::Restricted)?;
                expect(tier == Tier::T0, || format!("{tier:?}"))
            },
        ),
        harness::on(
            USUAL,
            "a host agent reports all facts of its node, for each plan",
            |cluster| report_facts(cluster),
        ),
        harness::on(
            USUAL,
            "an agent refuses a plan with a target outside its run, and accepts the next",
            |cluster| refuse_foreign_target(cluster),
        ),
        harness::on(
            USUAL,
            "a pod with a grace period of two minutes ends at once",
            |cluster| end_on_signal(cluster),
        ),
    ]
}

/// Probes a server on node-2 from a client on node-1, and returns the tier that the client reports.
fn probe_across(namespace: &AgentNamespace<'_>, level: SecurityLevel) -> Result<Tier, Failed> {
    namespace.start(level, "node-2", "server", &plan("node-2", "server", 1))?;
    let address = namespace.address("server")?;
    let mut client_plan = plan("node-1", "client", 1);
    let target = format!("{address}:{RESPONDER_PORT}").parse()?;
    client_plan.probes = vec![probe(1, Method::Connect { echo_bytes: 10_000 }, target)];
    if level == SecurityLevel::Baseline {
        client_plan.probes.push(probe(2, Method::Syn, target));
    }
    let expected: u64 = client_plan
        .probes
        .iter()
        .map(|probe| u64::from(probe.count))
        .sum();
    namespace.start(level, "node-1", "client", &client_plan)?;
    let events = namespace.wait("client", done(1))?;
    let counted = of_kind(&events, |event| {
        if let Event::Tally(tally) = event {
            Some(tally.outcomes.of(OutcomeKind::Established))
        } else {
            None
        }
    });
    let counted: u64 = counted.into_iter().sum();
    expect(counted == expected, || {
        format!("{counted} of {expected}: {events:#?}")
    })?;
    let tiers = of_kind(&events, |event| {
        if let Event::Hello(hello) = event {
            Some(hello.tier)
        } else {
            None
        }
    });
    for (node, pod) in [("node-1", "client"), ("node-2", "server")] {
        let status = namespace.status(node, pod)?;
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let none = format!("{set}:\t0000000000000000");
            expect(status.contains(&none), || status.clone())?;
        }
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            expect(status.contains(line), || status.clone())?;
        }
        let resident = status.lines().find_map(|line| {
            let kib = line.strip_prefix("VmRSS:")?.strip_suffix("kB")?;
            kib.trim().parse::<u64>().ok()
        });
        expect(resident.is_some_and(|kib| kib <= MAX_RESIDENT), || {
            status.clone()
        })?;
    }
    let tier = tiers.first().copied();
    tier.ok_or_else(|| "no first line".into())
}

fn report_facts(cluster: &Cluster) -> Result<(), Failed> {
    let namespace = AgentNamespace::new(cluster, "agent-host", "privileged")?;
    let mut host_plan = plan("node-1", "host", 1);
    host_plan.facts = NodeFactsReading::Once;
    host_plan.responder.ports.clear();
    namespace.start(SecurityLevel::Host, "node-1", "host", &host_plan)?;
    let healthy = facts(&namespace.wait("host", done(1))?);
    let broken = cluster.inject("bridge-netfilter-off", "node-1", "")?;
    host_plan.generation = 2;
    namespace.set_plan("host", &host_plan)?;
    let faulty = facts(&namespace.wait("host", done(2))?);
    broken.heal()?;
    let settings: Vec<_> = faulty
        .iter()
        .map(|facts| facts.bridge_nf_call_iptables)
        .collect();
    let expected = [1, 0].map(|value| Some(SysctlState::Value(value)));
    expect(settings == expected, || format!("{settings:?}"))?;
    let all = healthy.first().ok_or("no facts")?;
    let is_complete = all.unread.is_empty()
        && all.kube_proxy.is_some()
        && all.conntrack_count.is_some()
        && all.fdb.as_ref().is_some_and(|fdb| !fdb.is_empty())
        && all.routes.as_ref().is_some_and(|routes| !routes.is_empty())
        && all.neighbours.as_ref().is_some_and(|all| !all.is_empty())
        && (all.links.iter().flatten()).any(|link| link.name == "flannel.1");
    expect(is_complete, || format!("{all:#?}"))
}

fn refuse_foreign_target(cluster: &Cluster) -> Result<(), Failed> {
    let namespace = AgentNamespace::new(cluster, "agent-refuses", "restricted")?;
    let mut foreign = plan("node-1", "client", 1);
    let target = "169.254.169.254:80".parse()?;
    foreign.probes = vec![probe(1, Method::Connect { echo_bytes: 0 }, target)];
    namespace.start(SecurityLevel::Restricted, "node-1", "client", &foreign)?;
    let refused = |event: &Event| matches!(event, Event::PlanRefused { reason } if reason.contains("169.254.169.254:80"));
    namespace.wait("client", refused)?;
    namespace.set_plan("client", &plan("node-1", "client", 2))?;
    let events = namespace.wait("client", done(2))?;
    let accepted = events
        .iter()
        .filter(|event| matches!(event, Event::PlanAccepted { .. }));
    expect(accepted.count() == 1, || format!("{events:#?}"))
}

fn end_on_signal(cluster: &Cluster) -> Result<(), Failed> {
    let namespace = AgentNamespace::new(cluster, "agent-ends", "baseline")?;
    namespace.start(
        SecurityLevel::Baseline,
        "node-1",
        "client",
        &plan("node-1", "client", 1),
    )?;
    namespace.wait("client", done(1))?;
    // An agent that ignores the signal ends only after the grace period of the pod.
    namespace.kubectl(&["delete", "pod", "client", "--timeout=60s"])?;
    Ok(())
}

/// A namespace for agents, which is deleted when this value is dropped.
struct AgentNamespace<'a> {
    cluster: &'a Cluster,
    namespace: &'static str,
    image: String,
}

impl<'a> AgentNamespace<'a> {
    fn new(cluster: &'a Cluster, namespace: &'static str, level: &str) -> Result<Self, Failed> {
        let image = image_on(cluster)?;
        cluster.apply(&format!(
            "apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}, labels: {{pod-security.kubernetes.io/enforce: {level}}}}}
"
        ))?;
        Ok(Self {
            cluster,
            namespace,
            image,
        })
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String, Failed> {
        let within = [&["-n", self.namespace], arguments].concat();
        self.cluster.kubectl(&within)
    }

    /// Places an agent with its first plan, and waits until it runs.
    fn start(
        &self,
        level: SecurityLevel,
        node: &str,
        name: &str,
        plan: &Plan,
    ) -> Result<(), Failed> {
        let text = serde_json::to_string(&serde_json::to_string(plan)?)?;
        let (image, namespace) = (&self.image, self.namespace);
        let security = match level {
            SecurityLevel::Baseline => {
                "runAsUser: 0, capabilities: {drop: [CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, \
                 SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP]}"
            }
            SecurityLevel::Restricted | SecurityLevel::Host => {
                "runAsUser: 65534, runAsGroup: 65534, runAsNonRoot: true, capabilities: {drop: [ALL]}"
            }
        };
        let host = level == SecurityLevel::Host;
        self.cluster.apply(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, annotations: {{prober.dev/plan: {text}}}}}
spec:
  nodeName: {node}
  hostNetwork: {host}
  restartPolicy: Never
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 120
  volumes:
  - name: plan
    downwardAPI:
      defaultMode: 0444
      items: [{{path: plan, fieldRef: {{fieldPath: \"metadata.annotations['prober.dev/plan']\"}}}}]
  containers:
  - name: agent
    image: {image}
    imagePullPolicy: Never
    args: [--agent, {node}/{name}, --plan, /etc/prober/plan, --run, test, --allow, 10.244.0.0/16]
    volumeMounts: [{{name: plan, mountPath: /etc/prober, readOnly: true}}]
    securityContext:
      {{{security}, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, \
         seccompProfile: {{type: RuntimeDefault}}}}
"
        ))?;
        let pod = format!("pod/{name}");
        self.kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=120s"])?;
        Ok(())
    }

    /// Renamespaces an agent's plan.
    fn set_plan(&self, name: &str, plan: &Plan) -> Result<(), Failed> {
        let plan = format!("prober.dev/plan={}", serde_json::to_string(plan)?);
        self.kubectl(&["annotate", "--overwrite", "pod", name, &plan])?;
        Ok(())
    }

    fn address(&self, name: &str) -> Result<String, Failed> {
        self.kubectl(&["get", "pod", name, "-o", "jsonpath={.status.podIP}"])
    }

    /// Waits until an agent has written an event for which `wanted` returns true, and returns all its events.
    fn wait(&self, name: &str, wanted: impl Fn(&Event) -> bool) -> Result<Vec<Event>, Failed> {
        let mut events = Vec::new();
        wait_until("the agent writes the expected event", || {
            let log = self.kubectl(&["logs", name])?;
            events = log.lines().map(Event::parse).collect::<Result<_, _>>()?;
            Ok(events.iter().any(&wanted))
        })?;
        Ok(events)
    }

    /// The file /proc/PID/status of an agent's process.
    fn status(&self, node: &str, name: &str) -> Result<String, Failed> {
        let agent = format!("^/prober-agent --agent {node}/{name} ");
        let pids = self.cluster.on_node(node, &["pgrep", "-f", &agent])?;
        let status = format!("/proc/{}/status", pids.trim());
        self.cluster.on_node(node, &["cat", &status])
    }
}

impl Drop for AgentNamespace<'_> {
    fn drop(&mut self) {
        let gone = self
            .cluster
            .kubectl(&["delete", "namespace", self.namespace, "--timeout=150s"]);
        if let Err(failed) = gone {
            eprintln!(
                "{}: {}",
                self.namespace,
                failed.message().unwrap_or_default()
            );
        }
    }
}

/// Returns the reference of the agent's image; the first call builds it and imports it on every node of the shared cluster.
fn image_on(cluster: &Cluster) -> Result<String, Failed> {
    static IMPORTED: Mutex<Option<String>> = Mutex::new(None);
    let mut imported = IMPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(reference) = &*imported {
        return Ok(reference.clone());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = Command::new(root.join("scripts/image"))
        .arg("prober-agent")
        .output()?;
    if !built.status.success() {
        return Err(String::from_utf8_lossy(&built.stderr).into_owned().into());
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    cluster.import(&root.join(target).join("image/prober-agent.tar"))?;
    let reference = String::from_utf8(built.stdout)?.trim().to_owned();
    *imported = Some(reference.clone());
    Ok(reference)
}

fn plan(node: &str, name: &str, generation: u32) -> Plan {
    Plan::answering(
        "test",
        generation,
        &AgentId::new(node, name),
        1,
        vec![RESPONDER_PORT],
    )
}

fn probe(path: u32, method: Method, target: std::net::SocketAddr) -> ProbePlan {
    ProbePlan {
        path: PathId(path),
        method,
        target,
        count: 50,
        start_ms: 0,
        interval_ms: 20,
        deadline_ms: 3000,
    }
}

fn done(generation: u32) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Done { generation: done, .. } if *done == generation)
}

fn facts(events: &[Event]) -> Vec<NodeFacts> {
    of_kind(events, |event| {
        if let Event::Facts(facts) = event {
            Some((**facts).clone())
        } else {
            None
        }
    })
}

fn of_kind<T>(events: &[Event], wanted: impl Fn(&Event) -> Option<T>) -> Vec<T> {
    events.iter().filter_map(wanted).collect()
}

fn expect(condition: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failed> {
    if condition {
        Ok(())
    } else {
        Err(otherwise().into())
    }
}
