//! Services that are translated inside connect(2), as Cilium does: no packet ever has the Service's address, and nothing
//! translates a crafted one.

use super::{Evidence, Matrix, PathEvidence, Source};
use crate::probe::event::TtlProbe;
use crate::probe::outcome::{EngineKind, Errno, Outcome, ProbeResult};
use crate::topology::{AccessPath, Path, PathId};

impl Matrix {
    /// Decides by the probes of a path whether its client's node translates Services inside connect(2). It does where a SYN
    /// of connect() goes to another address than was asked, whatever came of it; and where connect() to a Service is refused
    /// without a packet while a crafted SYN to the same address leaves. Once found, it holds for every path from pods of that
    /// node.
    pub fn learn_socket_level(&mut self, id: PathId) {
        let Some(evidence) = self.paths.get(&id) else {
            return;
        };
        let node = &evidence.path.client.node;
        let is_asked_on_purpose = match self.source {
            Source::Run => true,
            // A host's own packets have met its rules before a capture sees them.
            Source::Host | Source::Capture => false,
        };
        if !is_asked_on_purpose
            || self.socket_level.contains(node)
            || !is_from_pod_to_service(&evidence.path)
            || !(is_translated(evidence) || is_refused_inside(evidence))
        {
            return;
        }
        self.socket_level.insert(node.clone());
        self.apply_socket_level();
    }

    /// Has every path judged by what is known of its client's node.
    pub(crate) fn apply_socket_level(&mut self) {
        for evidence in self.paths.values_mut() {
            let path = &evidence.path;
            evidence.socket_level =
                is_from_pod_to_service(path) && self.socket_level.contains(&path.client.node);
        }
    }
}

impl PathEvidence {
    /// Whether what this engine met says something of the path.
    pub const fn believes(&self, engine: EngineKind) -> bool {
        match engine {
            EngineKind::Kernel => true,
            EngineKind::Raw => !self.socket_level,
        }
    }

    /// The probes that were reported in full and are evidence of the path, with their places in `probes`.
    pub fn believed(&self) -> impl Iterator<Item = (usize, &Evidence)> {
        let all = self.probes.iter().enumerate();
        all.filter(|(_, probe)| self.believes(probe.client.engine))
    }

    /// The TTL probe, where it says something of the path: its packets are crafted.
    pub fn believed_ttl_probe(&self) -> Option<&TtlProbe> {
        (self.ttl_probe.as_ref()).filter(|_| self.believes(EngineKind::Raw))
    }
}

/// Whether the client is in a pod, and asks a Service.
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

/// Whether a SYN of connect() asks another address. A proxy in the pod's own network (a service mesh) leads to the loopback
/// by rules that crafted packets meet as well.
fn is_translated(evidence: &PathEvidence) -> bool {
    let led_to = |probe: &Evidence| probe.client.translated_in_connect();
    (evidence.probes.iter())
        .filter_map(led_to)
        .any(|address| !address.ip().is_loopback())
}

/// Whether connect() says that there is no host without sending a packet, while a crafted SYN has a route.
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
