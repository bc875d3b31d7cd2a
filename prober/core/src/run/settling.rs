//! What has only just been made is waited for before it is probed.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{PlatformCommand, Run};
use crate::evidence::Matrix;
use crate::plan::{Plan, ProbePlan};
use crate::topology::Route;

impl Run {
    /// Lets the plans that are about to be told wait for what has only just been made.
    pub(super) fn settle_first(&mut self, services: &[SocketAddr]) {
        let matrix = &self.collection.matrix;
        let settle = |plan: &mut Plan| {
            plan.wait_for_services = services.to_vec();
            plan.wait_for_pods = greeted(plan, matrix);
        };
        for command in &mut self.commands {
            match command {
                PlatformCommand::SendPlan(plan) => settle(plan),
                PlatformCommand::Place(placements) => {
                    for placement in placements {
                        settle(&mut placement.plan);
                    }
                }
                PlatformCommand::Publish(_)
                | PlatformCommand::PauseLogs
                | PlatformCommand::ResumeLogs
                | PlatformCommand::Remove => {}
            }
        }
    }
}

/// Whom a plan probes by addresses that others answer for: pods by their own, nodes, whose rules come in their own time, and
/// what a node itself asks without a pod between.
fn greeted(plan: &Plan, matrix: &Matrix) -> Vec<SocketAddr> {
    let is_greeted = |probe: &&ProbePlan| {
        let route = matrix.paths.get(&probe.path).map(|path| path.path.route);
        matches!(
            route,
            Some(Route::PodIp | Route::NodePort | Route::HostNetwork)
        )
    };
    let targets = plan
        .probes
        .iter()
        .filter(is_greeted)
        .map(|probe| probe.target);
    targets.collect::<BTreeSet<_>>().into_iter().collect()
}
