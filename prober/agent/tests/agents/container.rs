//! The agent of the image in the shape of a container: first process, empty root, few or no capabilities.

use std::fs;
use std::path::Path;
use std::process::ExitStatus;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prober_core::node_facts::SysctlState;
use prober_core::plan::{Method, NodeFactsReading};
use prober_core::probe::event::{Event, Hello};
use prober_core::probe::outcome::OutcomeKind;
use prober_core::probe::tier::Tier;

use crate::fixture::{Agent, B4, Namespace, PORT, open_dir, probes, two};
use crate::image;

const PLAIN: Method = Method::Connect { echo_bytes: 0 };
/// The bound of an agent's resident memory, KiB.
const MAX_RESIDENT: u64 = 10 << 10;
/// SIGTERM's bit in the masks of /proc/PID/status.
const SIGTERM_BIT: u64 = 1 << 14;

/// A security context that Pod Security admits, as a container runtime applies it.
#[derive(Clone, Copy)]
enum Shape {
    /// Uid 0 with `CAP_NET_RAW` (13) alone.
    Baseline,
    /// Uid 65534, without capabilities.
    Restricted,
}

/// An agent that runs as a container's first process.
struct Container {
    agent: Agent,
    _root: tempfile::TempDir,
}

impl Container {
    fn start(namespace: &Namespace, shape: Shape, name: &str) -> Self {
        let (root, plans) = (open_dir(), open_dir());
        image::unpack(root.path());
        let (uid, kept) = match shape {
            Shape::Baseline => ("0", "13"),
            Shape::Restricted => ("65534", "-"),
        };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agents/container.py");
        let (root_path, plans_path) = (root.path().to_owned(), plans.path().to_owned());
        let words = [
            "unshare",
            "--mount",
            "--pid",
            "--ipc",
            "--fork",
            "--kill-child=KILL",
            "python3",
            script,
            root_path.to_str().unwrap(),
            plans_path.to_str().unwrap(),
            uid,
            kept,
            "/prober-agent",
        ];
        let plan = Path::new("/etc/prober/plan");
        let agent = Agent::start_in(namespace, plans, &words, plan, name, &["--run", "test"]);
        Self { agent, _root: root }
    }

    fn hello(&mut self) -> Hello {
        self.agent.wait(|event| match event {
            Event::Hello(hello) => Some(hello.clone()),
            _ => None,
        })
    }

    /// The process of the agent: the only child of the process that started it.
    fn pid(&self) -> u32 {
        self.child().unwrap()
    }

    fn child(&self) -> Option<u32> {
        let starter = self.agent.pid();
        let children = format!("/proc/{starter}/task/{starter}/children");
        fs::read_to_string(children).ok()?.trim().parse().ok()
    }

    /// A line of the agent's /proc/PID/status.
    fn status(&self, key: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    }

    /// Sends SIGTERM to the agent, and returns the status that its parent passes on.
    fn terminate(&mut self) -> ExitStatus {
        let pid = self.pid();
        self.agent.end_by(pid)
    }

    fn resident_kib(&self) -> u64 {
        self.status("VmRSS")
            .strip_suffix(" kB")
            .unwrap()
            .parse()
            .unwrap()
    }
}

impl Drop for Container {
    /// A change of uid has cleared the signal that would come with its parent's death (prctl(2), `PR_SET_PDEATHSIG`).
    fn drop(&mut self) {
        if let Some(child) = self.child().and_then(|child| child.try_into().ok()) {
            // It may have ended already.
            let _ended = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
    }
}

#[test]
fn in_a_baseline_pod_it_captures_packets_and_keeps_no_capability() {
    let namespace = Namespace::new();
    let mut pod = Container::start(&namespace, Shape::Baseline, "a");
    let hello = pod.hello();
    assert_eq!(hello.tier, Tier::T1, "{:?}", hello.limits);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(pod.status(set), "0000000000000000", "{set}");
    }
    // What it could have had, were there a way back.
    assert_eq!(pod.status("CapBnd"), "0000000000002000");
    assert_eq!(pod.status("NoNewPrivs"), "1");
    assert_eq!(pod.status("NSpid").split_whitespace().last(), Some("1"));
}

#[test]
fn in_a_restricted_pod_it_reports_that_it_captures_no_packets_and_why() {
    let namespace = Namespace::new();
    let mut pod = Container::start(&namespace, Shape::Restricted, "a");
    let hello = pod.hello();
    assert_eq!(hello.tier, Tier::T0);
    let limits = hello.limits.join("; ");
    assert!(
        limits.contains("tier T0, no packets are captured or crafted")
            && limits.contains("CAP_NET_RAW is missing"),
        "{limits}"
    );
    assert_eq!(pod.status("Uid"), "65534\t65534\t65534\t65534");
}

#[test]
fn pods_of_both_kinds_probe_each_other_within_their_bound_of_memory() {
    let (a, b) = two();
    for (client, server) in [
        (Shape::Baseline, Shape::Restricted),
        (Shape::Restricted, Shape::Baseline),
    ] {
        let mut server = Container::start(&b, server, "b");
        server.agent.answer();
        let mut client = Container::start(&a, client, "a");
        let syns = match client.hello().tier {
            Tier::T1 => vec![probes(2, Method::Syn, B4, PORT, 100)],
            Tier::T0 | Tier::T2 => Vec::new(),
        };
        let connects = probes(1, Method::Connect { echo_bytes: 10_000 }, B4, PORT, 100);
        let all = [vec![connects], syns].concat();
        let count: u64 = all.iter().map(|probe| u64::from(probe.count)).sum();
        client.agent.give(&client.agent.plan(1, all));
        client.agent.wait_done(1);
        let established: u64 = client
            .agent
            .events
            .iter()
            .map(|event| match event {
                Event::Tally(tally) => tally.outcomes.of(OutcomeKind::Established),
                _ => 0,
            })
            .sum();
        assert_eq!(established, count, "{:#?}", client.agent.events);
        for pod in [&client, &server] {
            let resident = pod.resident_kib();
            assert!(resident <= MAX_RESIDENT, "{resident} KiB");
        }
    }
}

#[test]
fn a_target_outside_the_run_is_refused_in_a_container_too() {
    let namespace = Namespace::new();
    let mut pod = Container::start(&namespace, Shape::Restricted, "a");
    pod.agent.give(
        &pod.agent
            .plan(1, vec![probes(1, PLAIN, "169.254.169.254", 80, 1)]),
    );
    let reason = pod.agent.wait(|event| match event {
        Event::PlanRefused { reason } => Some(reason.clone()),
        _ => None,
    });
    assert!(
        reason.contains("169.254.169.254:80") && reason.contains("nothing was sent"),
        "{reason}"
    );
}

#[test]
fn a_host_agent_writes_all_facts_of_its_node_without_a_privilege_before_it_probes_and_with_each_plan()
 {
    let (node, other) = two();
    node.ip("link add cni0 type bridge");
    node.ip("link set cni0 up");
    node.ip("link add flannel.1 type vxlan id 1 dstport 8472 dev eth0 nolearning");
    node.ip("link set flannel.1 up");
    let mut server = Agent::start(&other, "b", &["--tier", "T0"]);
    server.answer();
    let mut host = Container::start(&node, Shape::Restricted, "a");
    for generation in [1, 2] {
        let probes = vec![probes(1, PLAIN, B4, PORT, 1)];
        let mut plan = host.agent.plan(generation, probes);
        plan.facts = NodeFactsReading::Once;
        plan.responder.ports.clear();
        host.agent.give(&plan);
        host.agent.wait_done(generation);
    }
    let written: Vec<&str> = host
        .agent
        .events
        .iter()
        .filter_map(|event| match event {
            Event::PlanAccepted { .. } => Some("accepted"),
            Event::Facts(_) => Some("facts"),
            Event::Tally(_) => Some("probed"),
            Event::Notice { .. } => Some("notice"),
            _ => None,
        })
        .collect();
    let once = ["accepted", "facts", "probed"];
    assert_eq!(written, [once, once].concat(), "{:#?}", host.agent.events);
    let facts = host.agent.wait(|event| match event {
        Event::Facts(facts) => Some(facts.clone()),
        _ => None,
    });
    assert_eq!(facts.unread, Vec::new());
    let links = facts.links.unwrap();
    for name in ["cni0", "eth0", "flannel.1"] {
        assert!(links.iter().any(|link| link.name == name), "{links:#?}");
    }
    assert!(!facts.routes.unwrap().is_empty() && !facts.neighbours.unwrap().is_empty());
    assert!(facts.fdb.is_some() && !facts.counters.unwrap().0.is_empty());
    for sysctl in [
        facts.ip_forward,
        facts.ip6_forward,
        facts.bridge_nf_call_iptables,
        facts.bridge_nf_call_ip6tables,
    ] {
        assert_ne!(sysctl.unwrap(), SysctlState::Unreadable);
    }
    let sockets = fs::read_to_string(format!("/proc/{}/net/tcp", host.pid())).unwrap();
    let listening = sockets.lines().filter(|line| line.contains(" 0A "));
    assert_eq!(listening.count(), 0, "{sockets}");
}

#[test]
fn sigterm_ends_the_first_process_of_a_container_which_has_no_default_action() {
    let namespace = Namespace::new();
    for shape in [Shape::Baseline, Shape::Restricted] {
        let mut pod = Container::start(&namespace, shape, "a");
        pod.hello();
        let caught = u64::from_str_radix(&pod.status("SigCgt"), 16).unwrap();
        assert_eq!(caught & SIGTERM_BIT, SIGTERM_BIT);
        let status = pod.terminate();
        assert!(status.success(), "{status}");
    }
}
