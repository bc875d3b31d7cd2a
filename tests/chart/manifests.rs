//! Manifests as kustomize and Helm render them, as objects that can be compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::{chart, checkout};

/// The objects by kind and name.
pub(crate) type Objects = BTreeMap<(String, String), Value>;

/// What is optional: a component of kustomize, and a value of the chart.
pub(crate) const COMPONENTS: [(&str, &str); 4] = [
    ("node-facts", "nodeFacts"),
    ("node-ports", "nodePorts"),
    ("node-condition", "nodeCondition"),
    ("startup-taint", "startupTaint"),
];

/// The namespace of `deploy/kustomize`.
pub(crate) const NAMESPACE: &str = "prober-system";

/// The output of a command.
pub(crate) fn output(command: &mut Command) -> Result<String, Failed> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}

/// What kustomize renders with these components.
pub(crate) fn of_kustomize(kustomize: &Path, components: &[&str]) -> Result<Objects, Failed> {
    let folder = tempfile::tempdir()?;
    let depth = folder.path().canonicalize()?.components().count() - 1;
    let deploy = checkout().canonicalize()?.join("deploy/kustomize");
    // kustomize takes relative paths only.
    let base = format!(
        "{}{}",
        "../".repeat(depth),
        deploy.strip_prefix("/")?.display()
    );
    let of_components: Vec<String> = (components.iter())
        .map(|component| format!("{base}/components/{component}"))
        .collect();
    let kustomization = serde_json::json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [format!("{base}/default")],
        "components": of_components,
    });
    let file = folder.path().join("kustomization.yaml");
    std::fs::write(file, kustomization.to_string())?;
    objects(&output(
        Command::new(kustomize).arg("build").arg(folder.path()),
    )?)
}

/// What Helm renders with these settings, without hooks.
pub(crate) fn of_helm(helm: &Path, settings: &[String]) -> Result<Objects, Failed> {
    let mut command = Command::new(helm);
    command.args(["template", "prober"]).arg(chart()).args([
        "--namespace",
        NAMESPACE,
        "--kube-version",
        "1.34.4",
    ]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    objects(&output(&mut command)?)
}

/// The objects of YAML documents, without hooks of Helm.
fn objects(text: &str) -> Result<Objects, Failed> {
    let mut found = Objects::new();
    for document in format!("\n{text}").split("\n---\n") {
        let has_content = |line: &str| !line.trim().is_empty() && !line.starts_with('#');
        if !document.lines().any(has_content) {
            continue;
        }
        let object: Value = serde_saphyr::from_str(document)?;
        if object["metadata"]["annotations"]
            .get("helm.sh/hook")
            .is_some()
        {
            continue;
        }
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = (word(&object["kind"]), word(&object["metadata"]["name"]));
        if let Some(first) = found.insert(key, object) {
            return Err(format!("rendered twice: {}", first["metadata"]["name"]).into());
        }
    }
    Ok(found)
}
