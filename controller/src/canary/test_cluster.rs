//! A generated cluster for tests: nodes with the pods of their agents, as watch events.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;
use serde_json::{Value, json};

use super::check_state::Moment;
use super::inventory::{Component, Inventory, WatchEvent as Event};
use crate::kubernetes::api_time::time;

/// How long a pod takes to run, and then to be Ready.
const STARTS: Duration = Duration::from_secs(1);
const FIRST_ROUND: Duration = Duration::from_secs(3);

/// A cluster.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) inventory: Inventory,
    /// The wall clock.
    pub(crate) now: Timestamp,
    began: Timestamp,
    nodes: Vec<TestNode>,
    pods: u32,
    /// Whether the API server delivers events.
    pub(crate) is_connected: bool,
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own")]
struct TestNode {
    name: String,
    exists: bool,
    /// Its condition Ready.
    is_ready: bool,
    has_power: bool,
    /// Whether its kubelet starts containers.
    has_kubelet: bool,
    /// Whether its data path works, so that its agents become Ready.
    works: bool,
    created: Timestamp,
    agents: [TestPod; 2],
    /// The address of its server, where it is not the usual one.
    server_address: Option<String>,
}

#[derive(Clone, Debug)]
struct TestPod {
    name: String,
    component: Component,
    created: Timestamp,
    started: Option<Timestamp>,
    ready: (bool, Timestamp),
}

pub(crate) fn node_name(number: usize) -> NodeName {
    NodeName::new(format!("node-{number:05}"))
}

impl Cluster {
    /// A cluster of so many nodes whose agents are Ready, and have had the plan for an hour.
    pub(crate) fn of(nodes: usize) -> Self {
        let began = Timestamp::from_nanos(1_900_000_000 * 1_000_000_000);
        let mut cluster = Self {
            inventory: Inventory::default(),
            now: began,
            began,
            nodes: Vec::new(),
            pods: 0,
            is_connected: true,
        };
        cluster.inventory.set_probing_since(Some(began));
        for _ in 0..nodes {
            cluster.add_node();
        }
        cluster.pass(STARTS);
        cluster.pass(FIRST_ROUND);
        cluster.relist();
        cluster.now = cluster.now + Duration::from_hours(1);
        cluster
    }

    /// The present moment; the steady clock began with the cluster.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            wall: self.now,
            steady: Timestamp::from_nanos(1) + self.now.since(self.began),
        }
    }

    /// A node joins: its number.
    pub(crate) fn add_node(&mut self) -> usize {
        let number = self.nodes.len();
        let agents =
            [Component::Client, Component::Server].map(|component| self.new_pod(component));
        self.nodes.push(TestNode {
            name: node_name(number).to_string(),
            exists: true,
            is_ready: true,
            has_power: true,
            has_kubelet: true,
            works: true,
            created: self.now,
            agents,
            server_address: None,
        });
        self.publish(number);
        number
    }

    /// A node joins whose server has this address.
    pub(crate) fn add_server_with(&mut self, address: &str) {
        let number = self.add_node();
        self.nodes[number].server_address = Some(address.to_owned());
        self.pass(STARTS);
    }

    /// A node's agents are given a plan: their gates close for the first round.
    pub(crate) fn close_gates(&mut self, number: usize) {
        let now = self.now;
        for agent in &mut self.nodes[number].agents {
            agent.ready = (false, now);
        }
        self.publish(number);
    }

    /// A node is deleted, with its pods.
    pub(crate) fn remove_node(&mut self, number: usize) {
        self.nodes[number].exists = false;
        if !self.is_connected {
            return;
        }
        for pod in self.pods_of(number) {
            self.inventory.apply_pod(Event::Deleted(pod));
        }
        let node = self.node(number);
        self.inventory.apply_node(Event::Deleted(node));
    }

    /// Whether the data path of a node works from now on; its client notices at once.
    pub(crate) fn set_works(&mut self, number: usize, works: bool) {
        let now = self.now;
        let node = &mut self.nodes[number];
        node.works = works;
        let client = &mut node.agents[0];
        if client.ready.0 != works {
            client.ready = (works, now);
        }
        self.publish(number);
    }

    /// The condition Ready of a node; where it is false, its pods are not Ready either.
    pub(crate) fn set_node_ready(&mut self, number: usize, is_ready: bool) {
        let now = self.now;
        let node = &mut self.nodes[number];
        node.is_ready = is_ready;
        node.has_power |= is_ready;
        if !is_ready {
            for agent in &mut node.agents {
                agent.ready = (false, now);
            }
        }
        self.publish(number);
    }

    /// A node loses its power: nothing runs there, and its pods are reported as they were.
    pub(crate) fn lose_power(&mut self, number: usize) {
        self.nodes[number].has_power = false;
    }

    /// The data path of a node works again; its client becomes Ready with time.
    pub(crate) fn restore_data_path(&mut self, number: usize) {
        self.nodes[number].works = true;
    }

    /// The kubelet of a node starts no container any more.
    pub(crate) fn stop_kubelet(&mut self, number: usize) {
        self.nodes[number].has_kubelet = false;
    }

    /// The Node object of a node.
    pub(crate) fn node_object(&self, number: usize) -> Node {
        self.node(number)
    }

    /// The containers of a node's agents start again.
    pub(crate) fn restart_pods(&mut self, number: usize) {
        for agent in &mut self.nodes[number].agents {
            agent.started = None;
            agent.ready.0 = false;
        }
        self.publish(number);
    }

    /// A pod is deleted, and its DaemonSet makes another.
    pub(crate) fn replace_pod(&mut self, name: &str) {
        let has = |node: &TestNode| node.agents.iter().any(|agent| agent.name == name);
        let number = self.nodes.iter().position(has).unwrap();
        let old = self.pods_of(number);
        let place = (self.nodes[number].agents.iter())
            .position(|agent| agent.name == name)
            .unwrap();
        let component = self.nodes[number].agents[place].component;
        self.nodes[number].agents[place] = self.new_pod(component);
        if self.is_connected {
            let deleted = old
                .into_iter()
                .find(|pod| pod.metadata.name.as_deref() == Some(name));
            self.inventory.apply_pod(Event::Deleted(deleted.unwrap()));
        }
        self.publish(number);
    }

    /// Time passes: pods start, and become Ready where the data path works.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        let now = self.now;
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            let mut has_changed = false;
            if !(node.exists && node.is_ready && node.has_power && node.has_kubelet) {
                continue;
            }
            for agent in &mut node.agents {
                if agent.started.is_none() {
                    agent.started = Some(now);
                    has_changed = true;
                } else if !agent.ready.0
                    && node.works
                    && agent.started.is_some_and(|at| now.since(at) >= FIRST_ROUND)
                {
                    agent.ready = (true, now);
                    has_changed = true;
                }
            }
            if has_changed {
                self.publish(number);
            }
        }
    }

    /// The watches begin again, as after an API server was away.
    pub(crate) fn relist(&mut self) {
        self.is_connected = true;
        self.inventory.apply_node(Event::ListBegins);
        self.inventory.apply_pod(Event::ListBegins);
        for number in 0..self.nodes.len() {
            if self.nodes[number].exists {
                let node = self.node(number);
                self.inventory.apply_node(Event::Listed(node));
                for pod in self.pods_of(number) {
                    self.inventory.apply_pod(Event::Listed(pod));
                }
            }
        }
        self.inventory.apply_node(Event::ListEnds);
        self.inventory.apply_pod(Event::ListEnds);
    }

    /// The number of nodes that were ever there.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether a node has power: its agents run.
    pub(crate) fn runs(&self, node: &NodeName) -> bool {
        self.find(node).is_some_and(|node| {
            let mut agents = node.agents.iter();
            node.exists && node.has_power && agents.all(|agent| agent.started.is_some())
        })
    }

    /// Whether the data path of a node works.
    pub(crate) fn works(&self, node: &NodeName) -> bool {
        self.find(node).is_some_and(|node| node.works)
    }

    fn find(&self, node: &NodeName) -> Option<&TestNode> {
        let number = node.as_str().strip_prefix("node-")?;
        self.nodes.get(number.parse::<usize>().ok()?)
    }

    fn publish(&mut self, number: usize) {
        if !self.is_connected || !self.nodes[number].exists {
            return;
        }
        let node = self.node(number);
        self.inventory.apply_node(Event::Applied(node));
        for pod in self.pods_of(number) {
            self.inventory.apply_pod(Event::Applied(pod));
        }
    }

    fn new_pod(&mut self, component: Component) -> TestPod {
        self.pods += 1;
        TestPod {
            name: format!("prober-{}-{:05}", component.as_str(), self.pods),
            component,
            created: self.now,
            started: None,
            ready: (false, self.now),
        }
    }

    fn node(&self, number: usize) -> Node {
        let node = &self.nodes[number];
        let ready = if node.is_ready { "True" } else { "Unknown" };
        parsed(json!({
            "metadata": {
                "name": node.name, "uid": format!("uid-{number}"), "labels": {"pool": "a"},
                "creationTimestamp": time(node.created)
            },
            "spec": {"podCIDRs": [format!("10.{}.{}.0/24", number / 256, number % 256)]},
            "status": {
                "conditions": [{"type": "Ready", "status": ready, "message": "Kubelet stopped posting node status."}],
                "addresses": [{"type": "InternalIP", "address": format!("172.16.{}.{}", number / 256, number % 256)}]
            }
        }))
    }

    fn pods_of(&self, number: usize) -> Vec<Pod> {
        let node = &self.nodes[number];
        let pods = node.agents.iter().map(|agent| pod(node, number, agent));
        pods.collect()
    }
}

fn pod(node: &TestNode, number: usize, agent: &TestPod) -> Pod {
    let (is_ready, since) = agent.ready;
    let state = match agent.started {
        Some(at) => json!({"running": {"startedAt": time(at)}}),
        None => json!({"waiting": {"reason": "ContainerCreating"}}),
    };
    let own = |last: u8| format!("10.{}.{}.{last}", number / 256, number % 256);
    let ip = match (agent.component, &node.server_address) {
        (Component::Server, Some(address)) => address.clone(),
        (Component::Client, _) => own(2),
        (Component::Server | Component::Node, _) => own(3),
    };
    parsed(json!({
        "metadata": {
            "name": agent.name, "uid": format!("uid-{}", agent.name), "creationTimestamp": time(agent.created),
            "labels": {"app.kubernetes.io/component": agent.component.as_str()}
        },
        "spec": {"nodeName": node.name, "containers": []},
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }, "lastTransitionTime": time(since)}],
            "containerStatuses": [{
                "name": "agent", "image": "", "imageID": "", "ready": is_ready, "restartCount": 0, "state": state
            }]
        }
    }))
}

fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}
