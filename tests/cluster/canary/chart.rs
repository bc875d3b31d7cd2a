//! The Helm chart on a real cluster: installed, tested, upgraded, rolled back and uninstalled by Helm 4 and Helm 3.
//!
//! Helm takes a quarter of an hour to build, so these tests need `PROBER_HELM`, which `make test-chart` sets.

use std::sync::PoisonError;

use libtest_mimic::{Failed, Trial};

use super::{Canary, NAMESPACE, SHARED, file, installation, trial};
use crate::harness::wait_until;
use crate::part::part;

pub(super) fn trials() -> Vec<Trial> {
    if std::env::var_os("PROBER_HELM").is_none() {
        return Vec::new();
    }
    let of = |helm: &'static str| {
        trial(
            &format!("the chart is installed, upgraded and removed by {helm}"),
            move |canary| {
                let installed = lives(canary, helm);
                // The next test installs what it needs.
                *SHARED.lock().unwrap_or_else(PoisonError::into_inner) = None;
                installed
            },
        )
    };
    vec![of("helm"), of("helm3")]
}

/// Runs Helm for the release.
fn run(canary: &Canary, helm: &str, command: &[&str]) -> Result<String, Failed> {
    let namespace = ["--namespace", NAMESPACE];
    let output = (canary.cluster.command(part(helm)?))
        .args(command)
        .args(namespace)
        .output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{helm} {}: {why}", command.join(" ")).into())
}

fn lives(canary: &Canary, helm: &str) -> Result<(), Failed> {
    let cluster = &canary.cluster;
    let delete = ["delete", "--ignore-not-found", "--wait=true", "-k"];
    cluster.kubectl(&[&delete[..], &[&installation()]].concat())?;
    let chart = file("chart/prober");
    let waits = ["--wait", "--timeout=3m"];
    let install = ["install", "prober", &chart, "--create-namespace"];
    run(canary, helm, &[&install[..], &waits].concat())?;
    run(canary, helm, &["test", "prober", "--timeout=5m"])?;
    canary.measures("default", "3/3")?;
    let uid = canary.field("{.metadata.uid}")?;

    let components =
        "components.nodePorts=true,components.nodeFacts=true,components.nodeCondition=true";
    let upgrade = ["upgrade", "prober", &chart, "--set", components];
    run(canary, helm, &[&upgrade[..], &waits].concat())?;
    has_type(canary, "NodePort")?;
    canary.measures("default", "3/3")?;
    run(
        canary,
        helm,
        &[&["rollback", "prober", "1"][..], &waits].concat(),
    )?;
    has_type(canary, "ClusterIP")?;
    canary.measures("default", "3/3")?;
    if canary.field("{.metadata.uid}")? != uid {
        return Err("the check is another one after an upgrade".into());
    }

    run(canary, helm, &["uninstall", "prober", "--wait"])?;
    wait_until("the release is gone, and the check stays", || {
        let names = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
        let found = cluster.kubectl(&["get", names, "-o", "name"])?;
        let agents = cluster.objects("app.kubernetes.io/name=prober-agent")?;
        Ok(!found.contains("prober") && agents.is_empty())
    })?;
    if canary.field("{.metadata.uid}")? != uid {
        return Err("the check is gone with the release".into());
    }
    cluster.kubectl(&["delete", "crd", "connectivitychecks.prober.dev"])?;
    cluster.kubectl(&["delete", "namespace", NAMESPACE, "--wait=true"])?;
    Ok(())
}

fn has_type(canary: &Canary, wanted: &str) -> Result<(), Failed> {
    let path = "jsonpath={.spec.type}";
    let get = ["get", "service", "prober", "-n", NAMESPACE, "-o", path];
    let found = canary.cluster.kubectl(&get)?;
    if found == wanted {
        return Ok(());
    }
    Err(format!("the Service is of type {found} instead of {wanted}").into())
}
