//! The rights of the controllers' service account: everything that a canary needs, and nothing else.

use std::collections::BTreeSet;
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::{Canary, NAMESPACE, file, trial};
use crate::harness::wait_until;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("a canary may not do what it has no reason to do", denied),
        trial("a canary uses every right that it has", used),
        trial("a right that is missing is named in the status", missing),
    ]
}

/// Requests that the API server refuses to it.
const REFUSED: &[&[&str]] = &[
    &["get", "secrets", "-A"],
    &["get", "secrets", "-n", NAMESPACE],
    &["get", "configmaps", "-n", NAMESPACE],
    &["get", "pods", "-A"],
    &["get", "pods", "-n", "default"],
    &["get", "jobs", "-n", "kube-system"],
    &["get", "namespaces"],
    &["get", "clusterroles"],
    &["get", "leases", "-n", "kube-node-lease"],
    &["delete", "node", "node-1"],
    &["cordon", "node-1"],
    &["label", "node", "node-1", "a=b"],
    &["annotate", "node", "node-1", "a=b"],
    &["taint", "node", "node-1", "a=b:NoSchedule"],
    &["delete", "pods", "--all", "-n", NAMESPACE],
    &["delete", "services", "--all", "-n", NAMESPACE],
    &["delete", "cc", "default"],
    &[
        "patch",
        "cc",
        "default",
        "--type=merge",
        "-p",
        "{\"spec\": {\"paused\": true}}",
    ],
    &["delete", "crd", "connectivitychecks.prober.dev"],
    &["create", "serviceaccount", "another", "-n", NAMESPACE],
    &["create", "token", "prober-controller", "-n", NAMESPACE],
    &[
        "create",
        "rolebinding",
        "mine",
        "--clusterrole=cluster-admin",
        "--user=me",
        "-n",
        NAMESPACE,
    ],
    &[
        "create",
        "job",
        "mine",
        "--image=prober.dev/test/box:1",
        "-n",
        "default",
    ],
    &[
        "create",
        "--raw",
        "/api/v1/namespaces/prober-system/pods/any/eviction",
        "-f",
        "/dev/null",
    ],
    &["get", "--raw", "/api/v1/nodes/node-1/proxy/pods"],
    &[
        "get",
        "--raw",
        "/api/v1/namespaces/prober-system/pods/any/exec?command=sh",
    ],
];

fn denied(canary: &Canary) -> Result<(), Failed> {
    canary.check("default", "{interval: 10s}")?;
    let token = format!("--token={}", canary.token()?);
    let mut done = Vec::new();
    for command in REFUSED {
        match canary
            .cluster
            .kubectl(&[&[token.as_str()], *command].concat())
        {
            Ok(message) => done.push(format!("{command:?} was done: {message}")),
            Err(refusal) => {
                let message = refusal.message().unwrap_or_default();
                if !message.contains("forbidden") && !message.contains("Forbidden") {
                    done.push(format!(
                        "{command:?} failed, but not since it is forbidden: {message}"
                    ));
                }
            }
        }
    }
    canary.delete_checks(&["default"])?;
    if done.is_empty() {
        return Ok(());
    }
    Err(done.join("\n").into())
}

/// A right: group, resource, verb, and namespace.
type Right = (String, String, String, String);

/// A controller does all that a canary can: it finds agents that do not start, is killed, is succeeded by one that
/// deletes its leftovers, reports a fault and a node condition, replaces its agents, waits for an agent on a node whose
/// kubelet hangs, and stops.
fn used(canary: &Canary) -> Result<(), Failed> {
    canary.scale(0)?;
    let lease = [
        "delete",
        "lease",
        "prober-controller",
        "-n",
        NAMESPACE,
        "--ignore-not-found",
    ];
    canary.cluster.kubectl(&lease)?;
    canary.check("default", "{interval: 2s}")?;
    let mut first = canary.controller("without-image", "prober.dev/nothing:1", &[])?;
    wait_until("it says that agents do not start", || {
        let why = canary.field("{.status.conditions[?(@.type==\"Ready\")].message}")?;
        Ok(why.contains("prober.dev/nothing:1"))
    })
    .map_err(|failed| first.explained(&failed))?;
    first.kill()?;
    canary.free_the_lease()?;
    let mut second = canary.plain("with-image")?;
    canary.check("default", "{interval: 2s, nodeCondition: {enabled: true}}")?;
    canary
        .is_healthy("default")
        .map_err(|failed| second.explained(&failed))?;
    let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    canary.wait_for("default", "it fails", &[("Healthy", "False")])?;
    fault.heal()?;
    canary.is_healthy("default")?;
    let runs = canary.runs("default")?;
    canary.check("default", "{interval: 2s, peersPerNode: 1}")?;
    wait_until("its agents were replaced", || {
        let now = canary.runs("default")?;
        Ok(now.len() == 1 && now != runs)
    })?;
    canary.is_healthy("default")?;
    canary.cluster.node(&["pause", "node-3"])?;
    canary.check("default", "{interval: 2s, peersPerNode: 2}")?;
    let requested = wait_until("it requests why an agent does not start", || {
        let requests = second.requests()?;
        Ok((requests.iter()).any(|request| request.resource == "events" && request.verb == "list"))
    });
    canary.cluster.node(&["resume", "node-3"])?;
    requested.map_err(|failed| second.explained(&failed))?;
    second.end()?;

    let mut done = BTreeSet::<Right>::new();
    for request in first.requests()?.into_iter().chain(second.requests()?) {
        if request.code == 201 {
            // To apply an object that does not exist needs `create` beside `patch`.
            let (group, resource) = (request.group.clone(), request.resource.clone());
            done.insert((
                group,
                resource,
                "create".to_owned(),
                request.namespace.clone(),
            ));
        }
        if request.code < 300 {
            done.insert((
                request.group,
                request.resource,
                request.verb,
                request.namespace,
            ));
        }
    }
    let unused: Vec<Right> = rights(canary)?
        .into_iter()
        .filter(|(group, resource, verb, namespace)| {
            let is_absent = ABSENT_GROUPS.contains(&group.as_str());
            let is_of = |right: &Right| {
                (&right.0, &right.1, &right.2) == (group, resource, verb)
                    && (namespace.is_empty() || right.3 == *namespace)
            };
            !is_absent && !done.iter().any(is_of)
        })
        .collect();
    if unused.is_empty() {
        return Ok(());
    }
    Err(format!("never used: {unused:?}\nused: {done:?}").into())
}

/// API groups of policies that the clusters of the tests do not have.
const ABSENT_GROUPS: &[&str] = &[
    "cilium.io",
    "projectcalico.org",
    "crd.projectcalico.org",
    "policy.networking.k8s.io",
];

/// Its rights in the cluster.
fn rights(canary: &Canary) -> Result<BTreeSet<Right>, Failed> {
    let mut rights = BTreeSet::new();
    for (kind, name, namespace) in [
        ("clusterrole", "prober-controller", ""),
        ("role", "prober-controller", NAMESPACE),
        ("role", "prober-controller-events", "default"),
    ] {
        let mut command = vec!["get", kind, name, "-o", "json"];
        if !namespace.is_empty() {
            command.extend(["-n", namespace]);
        }
        let role: Value = serde_json::from_str(&canary.cluster.kubectl(&command)?)?;
        let words = |value: &Value| -> Vec<String> {
            let list = value.as_array().into_iter().flatten();
            list.filter_map(|word| word.as_str().map(str::to_owned))
                .collect()
        };
        for rule in role["rules"].as_array().into_iter().flatten() {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    for verb in words(&rule["verbs"]) {
                        rights.insert((
                            group.clone(),
                            resource.clone(),
                            verb,
                            namespace.to_owned(),
                        ));
                    }
                }
            }
        }
    }
    Ok(rights)
}

/// Verbs that are removed; the status must name each.
const TAKEN: &[(&str, &str, &str)] = &[
    ("batch", "jobs", "create"),
    ("", "pods", "create"),
    ("", "services", "create"),
];

fn missing(canary: &Canary) -> Result<(), Failed> {
    let mut wrong = Vec::new();
    for (group, resource, verb) in TAKEN {
        take_away(canary, group, resource, verb)?;
        canary.check("default", "{interval: 2s}")?;
        let mut message = String::new();
        let reported = wait_until("it is reported", || {
            message = canary.field("{.status.conditions[?(@.type==\"Ready\")].message}")?;
            Ok(message.contains(verb) && message.contains(resource))
        });
        if reported.is_err() {
            wrong.push(format!("without {verb} {resource} it says '{message}'"));
        }
        canary.delete_checks(&["default"])?;
        println!("without {verb} {resource}: {message}");
    }
    canary
        .cluster
        .kubectl(&["apply", "-f", &file("kustomize/default/rbac.yaml")])?;
    canary.check("default", "{interval: 2s}")?;
    canary.is_healthy("default")?;
    canary.delete_checks(&["default"])?;
    if wrong.is_empty() {
        return Ok(());
    }
    Err(wrong.join("\n").into())
}

/// The Role as deployed, without one verb.
fn take_away(canary: &Canary, group: &str, resource: &str, verb: &str) -> Result<(), Failed> {
    canary
        .cluster
        .kubectl(&["apply", "-f", &file("kustomize/default/rbac.yaml")])?;
    let role = [
        "get",
        "role",
        "prober-controller",
        "-n",
        NAMESPACE,
        "-o",
        "json",
    ];
    let mut role: Value = serde_json::from_str(&canary.cluster.kubectl(&role)?)?;
    for rule in role["rules"].as_array_mut().into_iter().flatten() {
        let is_it = rule["apiGroups"][0] == group && rule["resources"][0] == resource;
        if let Some(verbs) = rule["verbs"].as_array_mut().filter(|_| is_it) {
            verbs.retain(|known| known != verb);
        }
    }
    role["metadata"]["managedFields"] = Value::Null;
    let mut replace = canary.cluster.command("kubectl");
    replace.args(["replace", "-f", "-"]);
    piped(replace, &role.to_string())
}

fn piped(mut command: Command, input: &str) -> Result<(), Failed> {
    use std::io::Write as _;
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()?;
    child
        .stdin
        .take()
        .ok_or("no input")?
        .write_all(input.as_bytes())?;
    if child.wait()?.success() {
        return Ok(());
    }
    Err(format!("{command:?} failed").into())
}
