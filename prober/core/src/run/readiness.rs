//! The conditions that agents wait for before they probe: new Services and pods may not be known to all nodes yet.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use super::PlatformCommand;
use crate::evidence::Matrix;
use crate::plan::{Plan, ProbePlan};
use crate::topology::AccessPath;

/// Makes the plans among these commands wait for `services`, and for the pods that they probe.
pub(super) fn wait_for_readiness(
    commands: &mut VecDeque<PlatformCommand>,
    services: &[SocketAddr],
    matrix: &Matrix,
) {
    let wait = |plan: &mut Plan| {
        plan.wait_for_services = services.to_vec();
        plan.wait_for_pods = pods(plan, matrix);
    };
    for command in commands {
        match command {
            PlatformCommand::SendPlan(plan) => wait(plan),
            PlatformCommand::Place(placements) => {
                for placement in placements {
                    wait(&mut placement.plan);
                }
            }
            PlatformCommand::Publish(_)
            | PlatformCommand::PauseLogs
            | PlatformCommand::ResumeLogs
            | PlatformCommand::Remove => {}
        }
    }
}

/// The targets of a plan that the readiness of the Services does not cover: pods by their own addresses, node ports, whose
/// rules are written separately, and targets that a node probes without a pod in between.
fn pods(plan: &Plan, matrix: &Matrix) -> Vec<SocketAddr> {
    let is_waited_for = |probe: &&ProbePlan| {
        let access_path = matrix
            .paths
            .get(&probe.path)
            .map(|path| path.path.access_path);
        matches!(
            access_path,
            Some(AccessPath::PodIp | AccessPath::NodePort | AccessPath::HostNetwork)
        )
    };
    let probes = plan.probes.iter().filter(is_waited_for);
    let targets: BTreeSet<SocketAddr> = probes.map(|probe| probe.target).collect();
    targets.into_iter().collect()
}
