//! Services that are translated inside connect(2), as Cilium does: no packet ever has the Service's address, and crafted
//! packets are not translated.

use super::{Evidence, Matrix, PathEvidence, Source};
use crate::probe::event::TtlProbe;
use crate::probe::outcome::{EngineKind, Errno, Outcome, ProbeResult};
use crate::topology::{AccessPath, Path, PathId};

impl Matrix {
    /// Decides from the probes of a path whether its client's node translates Services inside connect(2). It does where a SYN
    /// of connect() has another destination than its target, whatever its outcome; and where connect() to a Service is refused
    /// without a packet while a crafted SYN to the same address leaves. The result holds for every path from pods of that
    /// node.
    pub fn learn_socket_level(&mut self, id: PathId) {
        let Some(evidence) = self.paths.get(&id) else {
            return;
        };
        let node = &evidence.path.client.node;
        let is_deliberate = match self.source {
            Source::Run => true,
            // A host's rules have already processed its own packets before a capture observes them.
            Source::Host | Source::Capture => false,
        };
        if !is_deliberate
            || self.socket_level.contains(node)
            || !is_from_pod_to_service(&evidence.path)
            || !(is_translated(evidence) || is_refused_inside(evidence))
        {
            return;
        }
        self.socket_level.insert(node.clone());
        self.apply_socket_level();
    }

    /// Applies the result for a client's node to every path from its pods.
    pub(crate) fn apply_socket_level(&mut self) {
        for evidence in self.paths.values_mut() {
            let path = &evidence.path;
            evidence.socket_level =
                is_from_pod_to_service(path) && self.socket_level.contains(&path.client.node);
        }
    }
}

impl PathEvidence {
    /// Whether the outcomes of this engine are evidence of the path.
    pub const fn counts(&self, engine: EngineKind) -> bool {
        match engine {
            EngineKind::Kernel => true,
            EngineKind::Raw => !self.socket_level,
        }
    }

    /// The probes that were reported in full and are evidence of the path, with their indices in `probes`.
    pub fn counted(&self) -> impl Iterator<Item = (usize, &Evidence)> {
        let all = self.probes.iter().enumerate();
        all.filter(|(_, probe)| self.counts(probe.client.engine))
    }

    /// The TTL probe, if it is evidence of the path: its packets are crafted.
    pub fn counted_ttl_probe(&self) -> Option<&TtlProbe> {
        (self.ttl_probe.as_ref()).filter(|_| self.counts(EngineKind::Raw))
    }
}

/// Whether the client is in a pod and probes a Service.
const fn is_from_pod_to_service(path: &Path) -> bool {
    match path.access_path {
        AccessPath::PodIp | AccessPath::HostNetwork => false,
        AccessPath::ClusterIp
        | AccessPath::ClusterIpAny
        | AccessPath::ClusterIpLocal
        | AccessPath::Hairpin
        | AccessPath::NodePort => true,
    }
}

/// Whether a SYN of connect() has another destination than its target. A proxy in the pod's own network (a service mesh)
/// redirects to the loopback by rules that apply to crafted packets as well.
fn is_translated(evidence: &PathEvidence) -> bool {
    let destination = |probe: &Evidence| probe.client.translated_in_connect();
    (evidence.probes.iter())
        .filter_map(destination)
        .any(|address| !address.ip().is_loopback())
}

/// Whether connect() fails for lack of a route without sending a packet, while a crafted SYN has a route.
fn is_refused_inside(evidence: &PathEvidence) -> bool {
    let any = |wanted: fn(&ProbeResult) -> bool| {
        let mut probes = evidence.probes.iter();
        probes.any(|probe| wanted(&probe.client))
    };
    any(|probe| {
        probe.outcome
            == Outcome::RefusedLocally {
                errno: Errno::Ehostunreach,
            }
    }) && any(|probe| probe.engine == EngineKind::Raw && probe.syn_destination() == Some(probe.dst))
}
