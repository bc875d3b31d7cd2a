//! Second clients and servers: where no new connection of one pod to other nodes, or of other nodes to one pod, is answered,
//! another pod of its node takes its place on one of these paths. That distinguishes a filter of the pod from one of its node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::paths::pick;
use super::spec::RunSpec;
use crate::evidence::{Backend, Comparison, PathEvidence};
use crate::packet::family::Family;
use crate::plan::{Method, ProbePlan, RESPONDER_PORT};
use crate::topology::{AccessPath, AgentId, Path, PathId, Scope};

/// Maximum number of comparisons of one follow-up.
const MAX_COMPARISONS: usize = 32;

/// Connections of a comparison: the least from which a path is healthy.
const CONNECTS: u32 = 4;

/// Crafted SYNs of a comparison.
const SYNS: u32 = 6;

impl RunSpec {
    /// The comparisons that a follow-up adds: one for each pod and family, without an answer on any of its paths to or from
    /// other nodes. Other failures need none: an answer shows which end it comes from.
    pub(super) fn comparisons(
        &self,
        paths: &BTreeMap<PathId, PathEvidence>,
        addresses: &BTreeMap<AgentId, Vec<IpAddr>>,
    ) -> Vec<(Comparison, PathEvidence)> {
        let candidates = Candidates::of(paths, addresses);
        let clients = candidates.unanswered(|path| Some(&path.client));
        let clients = clients
            .into_iter()
            .filter_map(|evidence| self.second_client(evidence, addresses))
            .map(|evidence| (Comparison::SecondClient, evidence));
        let servers = candidates.unanswered(|path| path.server.as_ref());
        let servers = servers
            .into_iter()
            .filter_map(|evidence| self.second_server(evidence, addresses))
            .map(|evidence| (Comparison::SecondServer, evidence));
        clients.chain(servers).take(MAX_COMPARISONS).collect()
    }

    /// The same path from a server pod of the client's node.
    fn second_client(
        &self,
        evidence: &PathEvidence,
        addresses: &BTreeMap<AgentId, Vec<IpAddr>>,
    ) -> Option<PathEvidence> {
        let path = &evidence.path;
        // A server starts before the addresses of other pods are known.
        if path.access_path == AccessPath::PodIp && !self.may_probe_early(evidence.target.ip()) {
            return None;
        }
        let has_address = |agent: &AgentId| pick(addresses.get(agent), path.family).is_some();
        let client = self.servers_of(&path.client.node).find(has_address)?;
        let path = Path {
            client,
            ..path.clone()
        };
        let mut second = PathEvidence::new(path, evidence.target, evidence.backends.clone());
        second.socket_level = evidence.socket_level;
        Some(second)
    }

    /// A path to the client pod of the server's node, which answers as servers do. A node with several servers needs none: all
    /// of them are probed.
    fn second_server(
        &self,
        evidence: &PathEvidence,
        addresses: &BTreeMap<AgentId, Vec<IpAddr>>,
    ) -> Option<PathEvidence> {
        let path = &evidence.path;
        let node = &path.server.as_ref()?.node;
        if self.servers_per_node.get() > 1 {
            return None;
        }
        let server = self.client_of(node);
        let address = SocketAddr::new(pick(addresses.get(&server), path.family)?, RESPONDER_PORT);
        // Clients start together, before their addresses are known.
        if !self.may_probe_early(address.ip()) {
            return None;
        }
        let backend = Backend {
            agent: Some(server.clone()),
            address,
            ready: true,
        };
        let path = Path {
            server: Some(server),
            access_path: AccessPath::PodIp,
            ..path.clone()
        };
        Some(PathEvidence::new(path, address, vec![backend]))
    }

    /// The probes of comparisons, by both engines.
    pub(super) fn comparison_probes<'a>(
        &self,
        comparisons: impl Iterator<Item = (PathId, &'a PathEvidence)>,
    ) -> Vec<(AgentId, ProbePlan)> {
        let mut probes = Vec::new();
        for (id, evidence) in comparisons {
            let mut add = |method, count| {
                let probe = self.probe(id, method, evidence.target, count, 0, 400 / count);
                probes.push((evidence.path.client.clone(), probe));
            };
            add(Method::Connect { echo_bytes: 0 }, CONNECTS);
            if self.is_crafted(evidence.path.access_path) {
                add(Method::Syn, SYNS);
            }
        }
        probes
    }
}

/// The paths between pods of two nodes.
struct Candidates<'a> {
    paths: Vec<&'a PathEvidence>,
    /// The agents with an answer on one of these paths.
    answered: BTreeSet<(&'a AgentId, Family)>,
}

impl<'a> Candidates<'a> {
    /// Those of running agents.
    fn of(
        paths: &'a BTreeMap<PathId, PathEvidence>,
        addresses: &BTreeMap<AgentId, Vec<IpAddr>>,
    ) -> Self {
        let is_candidate = |evidence: &&PathEvidence| {
            let path = &evidence.path;
            let mut ends = std::iter::once(&path.client).chain(&path.server);
            path.scope() == Scope::CrossNode
                && matches!(path.access_path, AccessPath::PodIp | AccessPath::ClusterIp)
                && ends.all(|end| addresses.contains_key(end))
        };
        let paths: Vec<&PathEvidence> = paths.values().filter(is_candidate).collect();
        let answered = paths.iter().filter(|evidence| !is_unanswered(evidence));
        let answered = answered.flat_map(|evidence| {
            let path = &evidence.path;
            let ends = std::iter::once(&path.client).chain(&path.server);
            ends.map(|end| (end, path.family))
        });
        Self {
            answered: answered.collect(),
            paths,
        }
    }

    /// One path of each agent and family without an answer on any of its paths, at one end of these. Its other end is one with
    /// answers, if there is one; its target is a pod's own address rather than a Service's.
    fn unanswered(&self, end: impl Fn(&'a Path) -> Option<&'a AgentId>) -> Vec<&'a PathEvidence> {
        let key = |path: &'a Path| Some((end(path)?, path.family));
        let answered = self.paths.iter().filter(|one| !is_unanswered(one));
        let answered: BTreeSet<_> = answered.filter_map(|one| key(&one.path)).collect();
        let mut chosen: BTreeMap<(&AgentId, Family), &'a PathEvidence> = BTreeMap::new();
        for evidence in &self.paths {
            let Some(key) = key(&evidence.path).filter(|key| !answered.contains(key)) else {
                continue;
            };
            let order = |evidence: &PathEvidence| {
                let path = &evidence.path;
                let mut ends = std::iter::once(&path.client).chain(&path.server);
                let is_answered = ends.any(|end| self.answered.contains(&(end, path.family)));
                (!is_answered, path.access_path)
            };
            let best = chosen.entry(key).or_insert(evidence);
            if order(evidence) < order(best) {
                *best = evidence;
            }
        }
        chosen.into_values().collect()
    }
}

/// Whether no probe of a path has been answered, by anything.
fn is_unanswered(evidence: &PathEvidence) -> bool {
    let outcomes = evidence.total().outcomes;
    outcomes.total() == outcomes.timeout
}
