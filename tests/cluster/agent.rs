//! The agent's image in real pods: what it may do under each Pod Security level, what it tells of a node, how it ends.

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

/// The bound of what an agent keeps in memory, KiB.
const MOST_RESIDENT: u64 = 10 << 10;

/// How a pod's agent is let in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// As `baseline` admits it: uid 0, of the runtime's capabilities only `NET_RAW` left.
    Baseline,
    /// As `restricted` admits it: nobody, nothing.
    Restricted,
    /// As `Restricted`, in the node's own network.
    Host,
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        harness::on(
            USUAL,
            "an agent in a baseline namespace sees packets and keeps no privilege",
            |cluster| {
                let place = Place::new(cluster, "agent-baseline", "baseline")?;
                let tier = probe_across(&place, Kind::Baseline)?;
                expect(tier == Tier::T1, || format!("{tier:?}"))
            },
        ),
        harness::on(
            USUAL,
            "an agent in a restricted namespace probes by connect() and says that it sees no packet",
            |cluster| {
                let place = Place::new(cluster, "agent-restricted", "restricted")?;
                let tier = probe_across(&place, Kind::Restricted)?;
                expect(tier == Tier::T0, || format!("{tier:?}"))
            },
        ),
        harness::on(
            USUAL,
            "a host agent tells all of its node, and again when told",
            |cluster| tell_facts(cluster),
        ),
        harness::on(
            USUAL,
            "an agent refuses a plan that names a target outside its run, and goes on",
            |cluster| refuse(cluster),
        ),
        harness::on(
            USUAL,
            "a pod that may take two minutes to end ends at once",
            |cluster| end(cluster),
        ),
    ]
}

/// A client on node-1 asks a server on node-2; what tier both say they are of.
fn probe_across(place: &Place<'_>, kind: Kind) -> Result<Tier, Failed> {
    place.start(kind, "node-2", "server", &plan("node-2", "server", 1))?;
    let address = place.address("server")?;
    let mut asks = plan("node-1", "client", 1);
    let target = format!("{address}:{RESPONDER_PORT}").parse()?;
    asks.probes = vec![ask(1, Method::Connect { echo_bytes: 10_000 }, target)];
    if kind == Kind::Baseline {
        asks.probes.push(ask(2, Method::Syn, target));
    }
    let wanted: u64 = asks.probes.iter().map(|probe| u64::from(probe.count)).sum();
    place.start(kind, "node-1", "client", &asks)?;
    let events = place.wait("client", done(1))?;
    let counted = of_kind(&events, |event| {
        if let Event::Tally(tally) = event {
            Some(tally.outcomes.of(OutcomeKind::Established))
        } else {
            None
        }
    });
    let counted: u64 = counted.into_iter().sum();
    expect(counted == wanted, || {
        format!("{counted} of {wanted}: {events:#?}")
    })?;
    let tiers = of_kind(&events, |event| {
        if let Event::Hello(hello) = event {
            Some(hello.tier)
        } else {
            None
        }
    });
    for (node, pod) in [("node-1", "client"), ("node-2", "server")] {
        let status = place.status(node, pod)?;
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
        expect(resident.is_some_and(|kib| kib <= MOST_RESIDENT), || {
            status.clone()
        })?;
    }
    let tier = tiers.first().copied();
    tier.ok_or_else(|| "no first line".into())
}

fn tell_facts(cluster: &Cluster) -> Result<(), Failed> {
    let place = Place::new(cluster, "agent-host", "privileged")?;
    let mut reads = plan("node-1", "host", 1);
    reads.facts = NodeFactsReading::Once;
    reads.responder.ports.clear();
    place.start(Kind::Host, "node-1", "host", &reads)?;
    let healthy = facts(&place.wait("host", done(1))?);
    let broken = cluster.inject("bridge-netfilter-off", "node-1", "")?;
    reads.generation = 2;
    place.give("host", &reads)?;
    let faulty = facts(&place.wait("host", done(2))?);
    broken.heal()?;
    let switches: Vec<_> = faulty
        .iter()
        .map(|facts| facts.bridge_nf_call_iptables)
        .collect();
    let expected = [1, 0].map(|value| Some(SysctlState::Value(value)));
    expect(switches == expected, || format!("{switches:?}"))?;
    let all = healthy.first().ok_or("no facts")?;
    let is_whole = all.unread.is_empty()
        && all.kube_proxy.is_some()
        && all.conntrack_count.is_some()
        && all.fdb.as_ref().is_some_and(|fdb| !fdb.is_empty())
        && all.routes.as_ref().is_some_and(|routes| !routes.is_empty())
        && all.neighbours.as_ref().is_some_and(|all| !all.is_empty())
        && (all.links.iter().flatten()).any(|link| link.name == "flannel.1");
    expect(is_whole, || format!("{all:#?}"))
}

fn refuse(cluster: &Cluster) -> Result<(), Failed> {
    let place = Place::new(cluster, "agent-refuses", "restricted")?;
    let mut foreign = plan("node-1", "client", 1);
    let target = "169.254.169.254:80".parse()?;
    foreign.probes = vec![ask(1, Method::Connect { echo_bytes: 0 }, target)];
    place.start(Kind::Restricted, "node-1", "client", &foreign)?;
    let refused = |event: &Event| matches!(event, Event::PlanRefused { reason } if reason.contains("169.254.169.254:80"));
    place.wait("client", refused)?;
    place.give("client", &plan("node-1", "client", 2))?;
    let events = place.wait("client", done(2))?;
    let accepted = events
        .iter()
        .filter(|event| matches!(event, Event::PlanAccepted { .. }));
    expect(accepted.count() == 1, || format!("{events:#?}"))
}

fn end(cluster: &Cluster) -> Result<(), Failed> {
    let place = Place::new(cluster, "agent-ends", "baseline")?;
    place.start(
        Kind::Baseline,
        "node-1",
        "client",
        &plan("node-1", "client", 1),
    )?;
    place.wait("client", done(1))?;
    // Were the signal lost, this would wait for the grace period of the pod.
    place.kubectl(&["delete", "pod", "client", "--timeout=60s"])?;
    Ok(())
}

/// A namespace for agents; it is gone with this value.
struct Place<'a> {
    cluster: &'a Cluster,
    namespace: &'static str,
    image: String,
}

impl<'a> Place<'a> {
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
    fn start(&self, kind: Kind, node: &str, name: &str, plan: &Plan) -> Result<(), Failed> {
        let text = serde_json::to_string(&serde_json::to_string(plan)?)?;
        let (image, namespace) = (&self.image, self.namespace);
        let security = match kind {
            Kind::Baseline => {
                "runAsUser: 0, capabilities: {drop: [CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, \
                 SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP]}"
            }
            Kind::Restricted | Kind::Host => {
                "runAsUser: 65534, runAsGroup: 65534, runAsNonRoot: true, capabilities: {drop: [ALL]}"
            }
        };
        let host = kind == Kind::Host;
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

    /// Replaces an agent's plan.
    fn give(&self, name: &str, plan: &Plan) -> Result<(), Failed> {
        let plan = format!("prober.dev/plan={}", serde_json::to_string(plan)?);
        self.kubectl(&["annotate", "--overwrite", "pod", name, &plan])?;
        Ok(())
    }

    fn address(&self, name: &str) -> Result<String, Failed> {
        self.kubectl(&["get", "pod", name, "-o", "jsonpath={.status.podIP}"])
    }

    /// All that an agent has written by the time that it has written what is `wanted`.
    fn wait(&self, name: &str, wanted: impl Fn(&Event) -> bool) -> Result<Vec<Event>, Failed> {
        let mut events = Vec::new();
        wait_until("the agent writes what is waited for", || {
            let log = self.kubectl(&["logs", name])?;
            events = log.lines().map(Event::parse).collect::<Result<_, _>>()?;
            Ok(events.iter().any(&wanted))
        })?;
        Ok(events)
    }

    /// What the kernel says of an agent's process.
    fn status(&self, node: &str, name: &str) -> Result<String, Failed> {
        let agent = format!("^/prober-agent --agent {node}/{name} ");
        let pids = self.cluster.on_node(node, &["pgrep", "-f", &agent])?;
        let status = format!("/proc/{}/status", pids.trim());
        self.cluster.on_node(node, &["cat", &status])
    }
}

impl Drop for Place<'_> {
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

/// The agent's image, made and put on every node of the shared cluster by the first test that wants it.
fn image_on(cluster: &Cluster) -> Result<String, Failed> {
    static IMPORTED: Mutex<Option<String>> = Mutex::new(None);
    let mut imported = IMPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(reference) = &*imported {
        return Ok(reference.clone());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let made = Command::new(root.join("scripts/image"))
        .arg("prober-agent")
        .output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into_owned().into());
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    cluster.import(&root.join(target).join("image/prober-agent.tar"))?;
    let reference = String::from_utf8(made.stdout)?.trim().to_owned();
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

fn ask(path: u32, method: Method, target: std::net::SocketAddr) -> ProbePlan {
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

fn expect(is_so: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failed> {
    if is_so {
        Ok(())
    } else {
        Err(otherwise().into())
    }
}
