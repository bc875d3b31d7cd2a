//! A cluster comes up in every shape, and its nodes live through what nodes go through.

use std::fs::File;
use std::process::Command;
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};

use crate::harness::{self, Cluster, NFTABLES, Shape, USUAL, wait_until};
use crate::prober;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = [USUAL, NFTABLES].into_iter().map(every_way_works).collect();
    trials.push(harness::on(
        USUAL,
        "a node that was booted without its bridge switches is Ready, broken, and named at once",
        |cluster| {
            reboot(cluster, "node-3", &["--without-bridge-netfilter"])?;
            let told = prober::report(cluster, &["--node", "node-3"])
                .and_then(|report| report.names(&[("bridge-netfilter-off", "node-3")]));
            let boxes = cluster.replace_boxes("node-3")?;
            let broken = boxes.fail_only(
                cluster,
                "node-3",
                &[
                    "cluster-ip local ipv4 timeout",
                    "cluster-ip local ipv6 timeout",
                    "cluster-ip node-3 ipv4 timeout",
                    "cluster-ip node-3 ipv6 timeout",
                ],
            );
            reboot(cluster, "node-3", &[])?;
            let boxes = cluster.replace_boxes("node-3")?;
            boxes.fail_only(cluster, "node-3", &[])?;
            broken.and(told)
        },
    ));
    trials.push(harness::on(
        USUAL,
        "an image that is imported runs on every node, and what it ran as is found by its label",
        imported,
    ));
    trials
}

/// Runs an image of another name than any that the cluster came with.
fn imported(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let parts = cluster.parts()?;
    let program = parts
        .iter()
        .map(|part| part.join("box"))
        .find(|file| file.exists());
    std::fs::copy(
        program.ok_or("no box was built")?,
        folder.path().join("other"),
    )?;
    let image = folder.path().join("other.tar");
    let archived = Command::new(harness::folder().join("parts/archive"))
        .args([folder.path().as_os_str(), "other".as_ref()])
        .stdout(File::create(&image)?)
        .status()?;
    if !archived.success() {
        return Err(format!("parts/archive: {archived}").into());
    }
    cluster.import(&image)?;
    for node in cluster.nodes() {
        let pod = format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: other-{node}, namespace: default, labels: {{test: imported}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  containers: [{{name: other, image: \"prober.dev/bench/other:1\", imagePullPolicy: Never}}]
"
        );
        cluster.apply(&pod)?;
    }
    let label = "test=imported";
    cluster.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod",
        "-l",
        label,
        "--timeout=120s",
    ])?;
    let found = cluster.objects(label)?;
    if found.len() != cluster.nodes().count() {
        return Err(format!("by their label are found {found:?}").into());
    }
    cluster.kubectl(&["delete", "pod", "-l", label])?;
    let left = cluster.objects(label)?;
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("left: {left:?}").into())
    }
}

fn every_way_works(shape: Shape) -> Trial {
    harness::on(
        shape,
        "every pod reaches every pod and every Service in both families",
        |cluster| {
            let boxes = cluster.boxes()?;
            cluster
                .nodes()
                .try_for_each(|node| boxes.fail_only(cluster, &node, &[]))
        },
    )
}

/// Cuts the node's power, starts it, and waits until it is Ready. What it said of that before is not believed.
fn reboot(cluster: &Cluster, node: &str, how: &[&str]) -> Result<(), Failed> {
    cluster.node(&["stop", node])?;
    let before = cluster.readiness(node)?;
    cluster.node(&[&["boot", node], how].concat())?;
    wait_until(&format!("{node} is Ready again"), || {
        let now = cluster.readiness(node)?;
        Ok(now.starts_with("True ") && now != before)
    })
}
