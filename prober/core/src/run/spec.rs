//! What a run is to do, and the paths and plans that follow from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Endpoints, Placement, Published};
use crate::evidence::{Backend, PathEvidence};
use crate::family::Family;
use crate::observation::{OutcomeKind, Tier};
use crate::pairing::{NodePair, pairs};
use crate::plan::{
    Accept, Method, OTHER_RESPONDER_PORT, PLAN_SCHEMA, Plan, ProbePlan, RESPONDER_PORT,
    ResponderPlan,
};
use crate::topology::{AgentId, NodeName, Path, PathId, Role, Route, Scope};

/// Probes of a server pod's other port carry the path's number plus this.
pub(super) const OTHER_PORT: u32 = 1_000_000;

/// Most slots of the test Service.
pub const MAX_SLOTS: usize = 16;

/// Most failing paths that are looked at more closely in one run.
const MAX_SUSPECTS: usize = 48;

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// The run's name, which marks everything that it places.
    pub run: String,
    /// What banners must carry.
    pub nonce: u64,
    /// Every node that could be probed.
    pub nodes: Vec<NodeName>,
    /// The nodes under test.
    pub selected: Vec<NodeName>,
    /// How many other nodes each of them is paired with.
    pub peers: usize,
    /// The families to probe.
    pub families: Vec<Family>,
    /// The most evidence to gather.
    pub tier: Tier,
    /// Kernel probes per path.
    pub kernel_probes: u32,
    /// Raw probes per path.
    pub raw_probes: u32,
    /// Bytes that a kernel probe has echoed.
    pub echo_bytes: u32,
    /// When a probe without an answer has failed.
    pub deadline: Duration,
    /// When placing and publishing have failed.
    pub patience: Duration,
}

impl RunSpec {
    fn pairs(&self) -> BTreeSet<NodePair> {
        pairs(&self.nodes, &self.selected, self.peers, 0)
    }

    /// The nodes on which agents are placed: those under test and their peers.
    pub(super) fn placed_nodes(&self) -> Vec<NodeName> {
        let all: BTreeSet<_> = self.pairs().into_iter().map(|(client, _)| client).collect();
        all.into_iter().collect()
    }

    pub(super) fn placements(&self) -> Vec<Placement> {
        self.placed_nodes()
            .iter()
            .flat_map(|node| {
                [
                    (client_of(node), Role::Client),
                    (server_of(node), Role::Server),
                ]
                .map(|(agent, role)| Placement { agent, role })
            })
            .collect()
    }

    /// Who stands behind the Service, without agents that could not be started.
    pub(super) fn endpoints(&self, addresses: &BTreeMap<AgentId, Vec<IpAddr>>) -> Endpoints {
        let servers: Vec<_> = self
            .placed_nodes()
            .iter()
            .map(server_of)
            .filter(|server| addresses.contains_key(server))
            .take(MAX_SLOTS)
            .collect();
        Endpoints {
            slots: servers.clone(),
            any: servers,
        }
    }

    /// Every path of the run, in the order in which people read them.
    pub(super) fn paths(
        &self,
        endpoints: &Endpoints,
        published: &Published,
        addresses: &BTreeMap<AgentId, Vec<IpAddr>>,
    ) -> BTreeMap<PathId, PathEvidence> {
        let map = Map {
            endpoints,
            published,
            addresses,
        };
        let mut paths = Vec::new();
        for &family in &self.families {
            for (client, server) in self.pairs() {
                let (client, server) = (client_of(&client), server_of(&server));
                paths.extend(map.path(&client, Some(&server), Route::PodIp, family));
                paths.extend(map.path(&client, Some(&server), Route::ClusterIp, family));
            }
            for node in self.placed_nodes() {
                let (client, server) = (client_of(&node), server_of(&node));
                paths.extend(map.path(&client, Some(&server), Route::ProberLocal, family));
                paths.extend(map.path(&client, None, Route::ClusterIpAny, family));
                paths.extend(map.path(&server, Some(&server), Route::Hairpin, family));
            }
        }
        (0..).map(PathId).zip(paths).collect()
    }

    /// The first look: every path, by both engines.
    pub(super) fn first_look(&self, paths: &BTreeMap<PathId, PathEvidence>) -> Vec<AgentProbes> {
        // A thousand a second from each agent: its own kernel and its neighbours' have other work.
        let mut paths_of: BTreeMap<&AgentId, u32> = BTreeMap::new();
        for evidence in paths.values() {
            *paths_of.entry(&evidence.path.client).or_default() += 1;
        }
        let mut probes = Vec::new();
        for (at, (&path, evidence)) in (0_u32..).zip(paths) {
            let any = evidence.path.scope() == Scope::Any;
            let start_ms = at * 7 % 100;
            let mut add = |method, count, interval_ms| {
                probes.push((
                    evidence.path.client.clone(),
                    self.probe(path, method, evidence.target, count, start_ms, interval_ms),
                ));
            };
            let connects = if any {
                self.kernel_probes * 4
            } else {
                self.kernel_probes
            };
            add(
                Method::Connect {
                    echo_bytes: self.echo_bytes,
                },
                connects,
                600 / connects.max(1),
            );
            if self.tier >= Tier::T1 {
                let interval_ms = paths_of.get(&evidence.path.client).copied().unwrap_or(1);
                add(Method::Syn, self.raw_probes, interval_ms.max(2));
            }
        }
        group(probes)
    }

    /// The closer look at failing paths: the TTL ladder, the other port, and fresh failures
    /// between two readings of the node facts.
    pub(super) fn closer_look(
        &self,
        suspects: &BTreeMap<PathId, Option<OutcomeKind>>,
        paths: &BTreeMap<PathId, PathEvidence>,
        addresses: &BTreeMap<AgentId, Vec<IpAddr>>,
    ) -> Vec<AgentProbes> {
        let mut probes = Vec::new();
        for (at, (&path, outcome)) in (0_u32..).zip(suspects).take(MAX_SUSPECTS) {
            let Some(evidence) = paths.get(&path) else {
                continue;
            };
            let start_ms = at * 11 % 150;
            let mut add = |path, method, target, count, interval_ms| {
                probes.push((
                    evidence.path.client.clone(),
                    self.probe(path, method, target, count, start_ms, interval_ms),
                ));
            };
            // A packet that is answered, if from the wrong address, is told by its first hops.
            let (unanswered, hop_limits) = match outcome {
                Some(OutcomeKind::Timeout) | None => (true, vec![1, 2, 3, 64]),
                Some(OutcomeKind::Mismatched) => (false, vec![1, 2]),
                Some(OutcomeKind::Established | OutcomeKind::Reset | OutcomeKind::Unreachable) => {
                    (false, vec![1, 2, 3, 64])
                }
            };
            if unanswered {
                add(
                    path,
                    Method::Connect { echo_bytes: 0 },
                    evidence.target,
                    2,
                    1_100,
                );
            }
            if self.tier >= Tier::T1 && !is_covered(evidence, suspects, paths) {
                let ladder = Method::Ladder {
                    hop_limits,
                    tries: 3,
                };
                add(path, ladder, evidence.target, 1, 0);
            }
            let server = evidence
                .path
                .server
                .as_ref()
                .and_then(|server| addresses.get(server));
            if let Some(address) = pick(server, evidence.path.family)
                && evidence.path.route != Route::Hairpin
            {
                let other = SocketAddr::new(address, OTHER_RESPONDER_PORT);
                let method = Method::Connect { echo_bytes: 0 };
                add(PathId(path.0 + OTHER_PORT), method, other, 1, 0);
            }
        }
        group(probes)
    }

    /// A plan of this run.
    pub(super) fn plan(&self, agent: AgentId, generation: u32, probes: Vec<ProbePlan>) -> Plan {
        Plan {
            schema: PLAN_SCHEMA.to_owned(),
            run: self.run.clone(),
            generation,
            agent,
            nonce: self.nonce,
            responder: ResponderPlan {
                ports: vec![RESPONDER_PORT, OTHER_RESPONDER_PORT],
                accept: Accept::Running,
            },
            probes,
        }
    }

    fn probe(
        &self,
        path: PathId,
        method: Method,
        target: SocketAddr,
        count: u32,
        start_ms: u32,
        interval_ms: u32,
    ) -> ProbePlan {
        let deadline_ms = u32::try_from(self.deadline.as_millis()).unwrap_or(u32::MAX);
        ProbePlan {
            path,
            method,
            target,
            count,
            start_ms,
            interval_ms,
            deadline_ms,
        }
    }
}

/// Whether another suspect climbs the same stairs, to a server that is known. Nodes send one ICMP
/// error a second to an address: ladders that tell nothing new would silence those that do.
fn is_covered(
    evidence: &PathEvidence,
    suspects: &BTreeMap<PathId, Option<OutcomeKind>>,
    paths: &BTreeMap<PathId, PathEvidence>,
) -> bool {
    match evidence.path.route {
        Route::PodIp | Route::ClusterIp | Route::Hairpin => false,
        Route::ClusterIpAny | Route::ProberLocal => {
            suspects.keys().filter_map(|id| paths.get(id)).any(|other| {
                other.path.route == Route::ClusterIp
                    && other.path.client == evidence.path.client
                    && other.path.family == evidence.path.family
            })
        }
    }
}

/// The probes of one agent.
pub(super) type AgentProbes = (AgentId, Vec<ProbePlan>);

fn group(probes: Vec<(AgentId, ProbePlan)>) -> Vec<AgentProbes> {
    let mut grouped: BTreeMap<AgentId, Vec<ProbePlan>> = BTreeMap::new();
    for (agent, probe) in probes {
        grouped.entry(agent).or_default().push(probe);
    }
    grouped.into_iter().collect()
}

/// The client agent of a node.
fn client_of(node: &NodeName) -> AgentId {
    AgentId {
        node: node.clone(),
        pod: format!("{node}-client"),
    }
}

/// The server agent of a node.
fn server_of(node: &NodeName) -> AgentId {
    AgentId {
        node: node.clone(),
        pod: format!("{node}-server"),
    }
}

fn pick(addresses: Option<&Vec<IpAddr>>, family: Family) -> Option<IpAddr> {
    addresses?
        .iter()
        .copied()
        .find(|address| Family::of(*address) == family)
}

/// Who is where, once everything is published.
struct Map<'a> {
    endpoints: &'a Endpoints,
    published: &'a Published,
    addresses: &'a BTreeMap<AgentId, Vec<IpAddr>>,
}

impl Map<'_> {
    /// One path, if its ends and its Service exist in this family.
    fn path(
        &self,
        client: &AgentId,
        server: Option<&AgentId>,
        route: Route,
        family: Family,
    ) -> Option<PathEvidence> {
        pick(self.addresses.get(client), family)?;
        let of_family = |list: &[SocketAddr]| {
            list.iter()
                .copied()
                .find(|address| Family::of(address.ip()) == family)
        };
        let target = match route {
            Route::PodIp => {
                SocketAddr::new(pick(self.addresses.get(server?), family)?, RESPONDER_PORT)
            }
            Route::ClusterIp | Route::Hairpin => {
                let slot = self
                    .endpoints
                    .slots
                    .iter()
                    .position(|slot| Some(slot) == server)?;
                of_family(self.published.slots.get(slot)?)?
            }
            Route::ClusterIpAny => of_family(&self.published.any)?,
            Route::ProberLocal => {
                self.endpoints
                    .any
                    .iter()
                    .find(|endpoint| Some(*endpoint) == server)?;
                of_family(&self.published.local)?
            }
        };
        let path = Path {
            client: client.clone(),
            server: server.cloned(),
            route,
            family,
        };
        Some(PathEvidence {
            backends: self.backends(&path),
            path,
            target,
            asked: 0,
            tallies: BTreeMap::new(),
            probes: Vec::new(),
            ladder: None,
            other_port: None,
        })
    }

    /// Who may answer: what the slices say, or who was meant to where they were not read.
    fn backends(&self, path: &Path) -> Vec<Backend> {
        let slot_of = |server| self.endpoints.slots.iter().position(|slot| slot == server);
        let slot = path.server.as_ref().and_then(slot_of);
        let slices = self.published.slices.as_ref();
        if let Some(said) = slices.and_then(|said| said.behind(path, slot, self.addresses)) {
            return said;
        }
        let meant =
            (path.server.as_ref()).map_or(self.endpoints.any.as_slice(), std::slice::from_ref);
        let backend = |agent: &AgentId| {
            let address = pick(self.addresses.get(agent), path.family)?;
            Some(Backend {
                agent: Some(agent.clone()),
                address: SocketAddr::new(address, RESPONDER_PORT),
                ready: true,
            })
        };
        meant.iter().filter_map(backend).collect()
    }
}
