//! What the chart renders: the objects of kustomize, and what values add.

use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::chart;
use crate::manifests::{COMPONENTS, NAMESPACE, Objects, of_helm, of_kustomize, output};
use crate::part::part;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for helm in ["helm", "helm3"] {
        let trial = |what: &str, test: fn(&Path) -> Result<(), Failed>| {
            Trial::test(format!("{helm}: {what}"), move || test(&part(helm)?))
        };
        trials.push(trial("Helm finds no fault in the chart", is_linted));
        trials.push(trial(
            "the chart renders what kustomize does",
            equals_kustomize,
        ));
        trials.push(trial("values reach what they are for", values_are_used));
        trials.push(trial("a wrong value is refused", wrong_values_are_refused));
    }
    trials
}

fn is_linted(helm: &Path) -> Result<(), Failed> {
    let mut lint = Command::new(helm);
    output(lint.args(["lint", "--strict"]).arg(chart())).map(drop)
}

/// Each set of components that is tried: none, each alone, and all.
fn selections() -> Vec<Vec<usize>> {
    let alone = (0..COMPONENTS.len()).map(|one| vec![one]);
    let all = (0..COMPONENTS.len()).collect();
    [Vec::new()].into_iter().chain(alone).chain([all]).collect()
}

fn equals_kustomize(helm: &Path) -> Result<(), Failed> {
    let kustomize = part("kustomize")?;
    for selection in selections() {
        let components: Vec<&str> = selection.iter().map(|&at| COMPONENTS[at].0).collect();
        let settings: Vec<String> = (selection.iter())
            .map(|&at| format!("components.{}=true", COMPONENTS[at].1))
            .collect();
        let mut expected = of_kustomize(&kustomize, &components)?;
        // Helm's user creates it, for the release.
        (expected.remove(&("Namespace".to_owned(), NAMESPACE.to_owned())))
            .ok_or("kustomize makes no namespace")?;
        let mut rendered = of_helm(helm, &settings)?;
        for (key, object) in &mut rendered {
            let labels = object["metadata"]["labels"].take();
            let of_kustomize = expected
                .get_mut(key)
                .map(|object| object["metadata"]["labels"].take());
            has_all(key, &labels, &of_kustomize.unwrap_or_default())?;
            let annotations = object["metadata"]["annotations"].as_object_mut();
            let is_kept =
                annotations.is_some_and(|all| all.remove("helm.sh/resource-policy").is_some());
            if is_kept != (key.0 == "CustomResourceDefinition") {
                return Err(format!("{key:?} has another resource policy").into());
            }
        }
        same(&normal(rendered), &normal(expected), &components)?;
    }
    Ok(())
}

/// The chart's labels are those of kustomize, and more.
fn has_all(key: &(String, String), labels: &Value, expected: &Value) -> Result<(), Failed> {
    for (label, value) in expected.as_object().into_iter().flatten() {
        if labels[label] != *value {
            return Err(format!("{key:?}: the label {label} is {}", labels[label]).into());
        }
    }
    Ok(())
}

/// Without empty and absent metadata, which are the same, and with one form of numbers.
fn normal(objects: Objects) -> Objects {
    let normal = |mut object: Value| {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.retain(|_, value| !value.is_null() && *value != json!({}));
        }
        as_floats(&mut object);
        object
    };
    (objects.into_iter())
        .map(|(key, object)| (key, normal(object)))
        .collect()
}

/// kustomize writes `0.0` as `0`.
fn as_floats(value: &mut Value) {
    match value {
        Value::Number(number) => *value = json!(number.as_f64()),
        Value::Array(values) => values.iter_mut().for_each(as_floats),
        Value::Object(fields) => fields.values_mut().for_each(as_floats),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn same(rendered: &Objects, expected: &Objects, components: &[&str]) -> Result<(), Failed> {
    for key in rendered.keys().chain(expected.keys()) {
        let (of_helm, of_kustomize) = (rendered.get(key), expected.get(key));
        if of_helm != of_kustomize {
            let show =
                |object: Option<&Value>| object.map_or("nothing".to_owned(), Value::to_string);
            return Err(format!(
                "with {components:?}, {key:?} is {} by Helm and {} by kustomize",
                show(of_helm),
                show(of_kustomize)
            )
            .into());
        }
    }
    Ok(())
}

fn values_are_used(helm: &Path) -> Result<(), Failed> {
    let digest = format!("sha256:{}", "a".repeat(64));
    let settings = [
        &format!("image.agentDigest={digest}"),
        "image.tag=2.0.0",
        "image.pullSecrets[0].name=registry",
        "components.nodeFacts=true",
        "agents.nodeSelector.pool=a",
        "agents.priorityClassName=system-node-critical",
        "agents.allow[0]=10.0.0.0/8",
        "controller.podCidrs={10.0.0.0/8,fd00::/8}",
        "controller.logLevel=debug",
        "controller.extraArgs[0]=--metrics-address=[::]:9090",
        "otlp.endpoint=http://collector:4318",
        "otlp.metricInterval=10000",
        "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring",
        "prometheus.podMonitor=true",
        "prometheus.agentPodMonitor=true",
        "prometheus.serviceMonitor=true",
        "prometheus.rules=true",
        "prometheus.interval=15s",
        "prometheus.labels.release=stack",
        "prometheus.runbooks=https://example.org/docs",
        "dashboard.enabled=true",
    ]
    .map(str::to_owned);
    let objects = of_helm(helm, &settings)?;
    let pod = |kind: &str, name: &str| &object(&objects, kind, name)["spec"]["template"]["spec"];
    for component in ["client", "server", "node"] {
        let spec = pod("DaemonSet", &format!("prober-{component}"));
        is(
            &spec["containers"][0]["image"],
            &json!(format!("prober.dev/prober-agent@{digest}")),
        )?;
        is(&spec["imagePullSecrets"], &json!([{"name": "registry"}]))?;
        is(&spec["priorityClassName"], &json!("system-node-critical"))?;
        is(
            &spec["nodeSelector"],
            &json!({"kubernetes.io/os": "linux", "pool": "a"}),
        )?;
        has(&spec["containers"][0]["args"], &json!("--allow=10.0.0.0/8"))?;
    }
    let controller = &pod("Deployment", "prober-controller")["containers"][0];
    is(
        &controller["image"],
        &json!("prober.dev/prober-controller:2.0.0"),
    )?;
    has(
        &controller["args"],
        &json!("--pod-cidrs=10.0.0.0/8,fd00::/8"),
    )?;
    has(&controller["args"], &json!("--metrics-address=[::]:9090"))?;
    for (name, value) in [
        ("RUST_LOG", "debug"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "10000"),
    ] {
        has(&controller["env"], &json!({"name": name, "value": value}))?;
    }
    let policy = object(&objects, "NetworkPolicy", "prober-controller");
    let from = json!([{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]);
    is(&policy["spec"]["ingress"][0]["from"], &from)?;
    for (kind, name) in [
        ("PodMonitor", "prober-controller"),
        ("PodMonitor", "prober-agent"),
        ("ServiceMonitor", "prober-controller"),
        ("PrometheusRule", "prober"),
    ] {
        let monitor = object(&objects, kind, name);
        is(&monitor["metadata"]["labels"]["release"], &json!("stack"))?;
    }
    let rules = object(&objects, "PrometheusRule", "prober")["spec"].to_string();
    if !rules.contains("https://example.org/docs/") || rules.contains("github.com") {
        return Err(format!("the runbooks are elsewhere: {rules}").into());
    }
    let dashboard = &object(&objects, "ConfigMap", "prober-dashboard")["data"]["prober.json"];
    let dashboard: Value = serde_json::from_str(dashboard.as_str().unwrap_or_default())?;
    is(&dashboard["uid"], &json!("prober"))
}

/// The object of this kind and name; null where it is not rendered.
fn object<'a>(objects: &'a Objects, kind: &str, name: &str) -> &'a Value {
    let found = objects.get(&(kind.to_owned(), name.to_owned()));
    found.unwrap_or(&Value::Null)
}

fn is(found: &Value, expected: &Value) -> Result<(), Failed> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{found} instead of {expected}").into())
}

fn has(list: &Value, expected: &Value) -> Result<(), Failed> {
    let mut values = list.as_array().into_iter().flatten();
    if values.any(|value| value == expected) {
        return Ok(());
    }
    Err(format!("{list} has no {expected}").into())
}

fn wrong_values_are_refused(helm: &Path) -> Result<(), Failed> {
    let Err(refusal) = of_helm(helm, &["controller.replica=3".to_owned()]) else {
        return Err("controller.replica is rendered".into());
    };
    let message = refusal.message().unwrap_or_default();
    if message.contains("replica") {
        return Ok(());
    }
    Err(format!("the message does not name the value: {message}").into())
}
