//! A canary behind its own NetworkPolicy, which is enforced: all that it needs is open, and nothing else.

use std::process::id;
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};

use super::backends::{Backends, reach_pods};
use super::{Canary, NAMESPACE, installation};
use crate::harness::{Cluster, ENFORCED, wait_until};

/// The API server.
const NEEDED: &str = "10.99.0.10/6443";
/// A kubelet.
const NOT_NEEDED: &str = "10.99.0.11/10250";

pub(super) fn trials() -> Vec<Trial> {
    vec![Trial::test(
        "canary: a canary works behind its own NetworkPolicy",
        works_behind_it,
    )]
}

fn works_behind_it() -> Result<(), Failed> {
    let cluster = Arc::new(Cluster::start(format!("test-policy-{}", id()), ENFORCED)?);
    let canary = Canary::install(&cluster)?;
    reach_pods(&cluster)?;
    is_held_in(&canary)?;
    let backends = Backends::start(&canary)?;
    canary.export_to_collector()?;
    canary.check("default", "{interval: 3s}")?;
    canary.is_healthy("default")?;
    let fault = cluster.inject("bridge-netfilter-off", "node-1", "")?;
    wait_until("the fault is in the status", || {
        Ok(canary.field("{.status.headline}")? == "node-1: bridge-netfilter-off (proven)")
    })?;
    wait_until("the Collector has it", || {
        let node = r#"prober_node_healthy{job="prober-controller",k8s_node_name="node-1"}"#;
        Ok(backends.query(node)? == ["0"])
    })?;
    fault.heal()?;
    canary.is_healthy("default")?;
    canary.delete_checks(&["default"])
}

/// A controller reaches what it needs and is reachable for scrapes, and nothing else, because of the policy.
fn is_held_in(canary: &Canary) -> Result<(), Failed> {
    canary.scale(1)?;
    let own = canary.namespace_of_a_controller()?;
    wait_until("the policy is enforced", || Ok(!own.reaches(NOT_NEEDED)))?;
    if !own.reaches(NEEDED) {
        return Err("the API server cannot be reached".into());
    }
    let mut scrape = canary.cluster.command("bash");
    let metrics = format!("exec 3<>/dev/tcp/{}/9090", own.address);
    if !scrape.args(["-c", &metrics]).status()?.success() {
        return Err("it cannot be scraped".into());
    }
    let policy = ["networkpolicy", "prober-controller", "-n", NAMESPACE];
    canary
        .cluster
        .kubectl(&[&["delete"], &policy[..]].concat())?;
    wait_until("without it all is open", || Ok(own.reaches(NOT_NEEDED)))?;
    canary.cluster.kubectl(&["apply", "-k", &installation()])?;
    wait_until("it is closed again", || Ok(!own.reaches(NOT_NEEDED)))
}

/// The network namespace of a controller's pod.
struct Own<'a> {
    canary: &'a Canary,
    node: String,
    address: String,
}

impl Canary {
    fn namespace_of_a_controller(&self) -> Result<Own<'_>, Failed> {
        let (name, address) = self.pods()?.pop().ok_or("no controller runs")?;
        let node = [
            "get",
            "pod",
            &name,
            "-n",
            NAMESPACE,
            "-o",
            "jsonpath={.spec.nodeName}",
        ];
        Ok(Own {
            canary: self,
            node: self.cluster.kubectl(&node)?,
            address,
        })
    }
}

impl Own<'_> {
    /// Whether it can connect to ADDRESS/PORT.
    fn reaches(&self, target: &str) -> bool {
        let script = format!(
            "for own in /run/netns/*; do \
               nsenter --net=$own ip -o address show dev eth0 | grep -qF ' {}/' || continue; \
               exec nsenter --net=$own timeout 1 bash -c 'exec 3<>/dev/tcp/{target}'; \
             done; exit 1",
            self.address
        );
        self.canary
            .cluster
            .on_node(&self.node, &["bash", "-c", &script])
            .is_ok()
    }
}
