//! The start of clusters, the reboot of a node, and the import of an image.

use std::fs::File;
use std::process::Command;
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};

use crate::harness::{self, Cluster, NFTABLES, Shape, USUAL, wait_until};
use crate::prober;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = [USUAL, NFTABLES]
        .into_iter()
        .map(every_connection_works)
        .collect();
    trials.push(harness::on(
        USUAL,
        "a node that booted without br_netfilter is Ready and broken, and is named at once",
        |cluster| {
            reboot(cluster, "node-3", &["--without-bridge-netfilter"])?;
            let diagnosis = prober::report(cluster, &["--node", "node-3"])
                .and_then(|report| report.names(&[("bridge-netfilter-off", "node-3")]));
            let test_pods = cluster.replace_test_pods("node-3")?;
            let broken = test_pods.fail_only(
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
            let test_pods = cluster.replace_test_pods("node-3")?;
            test_pods.fail_only(cluster, "node-3", &[])?;
            broken.and(diagnosis)
        },
    ));
    trials.push(harness::on(
        USUAL,
        "an imported image runs on every node, and its pods are found by their label",
        imported,
    ));
    trials
}

/// Imports and runs an image with a new name.
fn imported(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let parts = cluster.parts()?;
    let program = parts
        .iter()
        .map(|part| part.join("box"))
        .find(|file| file.exists());
    std::fs::copy(
        program.ok_or("the program box was not built")?,
        folder.path().join("other"),
    )?;
    let image = folder.path().join("other.tar");
    let archive = Command::new(harness::folder().join("parts/archive"))
        .args([folder.path().as_os_str(), "other".as_ref()])
        .stdout(File::create(&image)?)
        .status()?;
    if !archive.success() {
        return Err(format!("parts/archive: {archive}").into());
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
  containers: [{{name: other, image: \"prober.dev/test/other:1\", imagePullPolicy: Never}}]
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
        return Err(format!("the label selects {found:?}").into());
    }
    cluster.kubectl(&["delete", "pod", "-l", label])?;
    let left = cluster.objects(label)?;
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("left: {left:?}").into())
    }
}

fn every_connection_works(shape: Shape) -> Trial {
    harness::on(
        shape,
        "every pod reaches every pod and every Service in both families",
        |cluster| {
            let test_pods = cluster.test_pods()?;
            cluster
                .nodes()
                .try_for_each(|node| test_pods.fail_only(cluster, &node, &[]))
        },
    )
}

/// Stops a node as a power failure does, boots it, and waits until it has reported that it is Ready since then.
fn reboot(cluster: &Cluster, node: &str, options: &[&str]) -> Result<(), Failed> {
    cluster.node(&["stop", node])?;
    let before = cluster.readiness(node)?;
    cluster.node(&[&["boot", node], options].concat())?;
    wait_until(&format!("{node} is Ready again"), || {
        let now = cluster.readiness(node)?;
        Ok(now.starts_with("True ") && now != before)
    })
}
