//! The rights of the controllers' service account: everything that a canary needs, and nothing else. Its token starts no program on
//! a node: RBAC denies that verb by verb, and admission denies every change of a pod but that of its plan.

use std::collections::BTreeSet;
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::controllers::Controller;
use super::{Canary, NAMESPACE, file, trial};
use crate::harness::wait_until;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("a canary may not do what it has no reason to do", denied),
        trial(
            "a canary changes nothing of a pod but its plan, and of a node but its taint and condition",
            changes_nothing_else,
        ),
        trial("a canary uses every right that it has", used),
        trial("a right that is missing is named in the log", missing),
    ]
}

/// Requests that the API server refuses to it.
const REFUSED: &[&[&str]] = &[
    &["get", "secrets", "-A"],
    &["get", "secrets", "-n", NAMESPACE],
    &["get", "configmaps", "-n", NAMESPACE],
    &["get", "services", "-n", NAMESPACE],
    &["get", "pods", "-A"],
    &["get", "pods", "-n", "default"],
    &["get", "jobs", "-n", "kube-system"],
    &["get", "namespaces"],
    &["get", "clusterroles"],
    &["get", "leases", "-n", "kube-node-lease"],
    &["delete", "node", "node-1"],
    &["delete", "services", "--all", "-n", NAMESPACE],
    &["delete", "daemonset", "prober-client", "-n", NAMESPACE],
    &["delete", "cc", "default"],
    &["delete", "crd", "connectivitychecks.prober.dev"],
    &["delete", "validatingadmissionpolicy", "prober-controller"],
    &[
        "run",
        "mine",
        "--image=prober.dev/test/box:1",
        "-n",
        NAMESPACE,
    ],
    &[
        "create",
        "deployment",
        "mine",
        "--image=prober.dev/test/box:1",
        "-n",
        NAMESPACE,
    ],
    &[
        "create",
        "job",
        "mine",
        "--image=prober.dev/test/box:1",
        "-n",
        NAMESPACE,
    ],
    &["create", "serviceaccount", "another", "-n", NAMESPACE],
    &["create", "token", "prober-controller", "-n", NAMESPACE],
    &["create", "configmap", "another", "-n", NAMESPACE],
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

/// Verbs and resources of the namespace that it may not use, each of which would start a program on a node, or get it more rights.
const NOT_ALLOWED: &[(&str, &[&str])] = &[
    (
        "create",
        &[
            "pods",
            "pods/exec",
            "pods/attach",
            "pods/portforward",
            "pods/eviction",
            "pods/binding",
            "pods/proxy",
            "jobs",
            "cronjobs",
            "deployments",
            "daemonsets",
            "replicasets",
            "statefulsets",
            "replicationcontrollers",
            "services",
            "secrets",
            "serviceaccounts",
            "serviceaccounts/token",
            "roles",
            "rolebindings",
            "clusterroles",
            "clusterrolebindings",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "mutatingwebhookconfigurations",
            "certificatesigningrequests",
        ],
    ),
    (
        "get",
        &[
            "pods",
            "pods/exec",
            "pods/attach",
            "pods/portforward",
            "secrets",
            "nodes/proxy",
        ],
    ),
    (
        "update",
        &[
            "pods",
            "pods/ephemeralcontainers",
            "pods/resize",
            "nodes",
            "nodes/status",
            "configmaps",
            "daemonsets",
        ],
    ),
    (
        "patch",
        &[
            "pods/ephemeralcontainers",
            "pods/resize",
            "pods/status",
            "daemonsets",
            "deployments",
            "jobs",
            "services",
            "secrets",
            "serviceaccounts",
            "roles",
            "rolebindings",
            "connectivitychecks",
            "namespaces",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
        ],
    ),
    (
        "deletecollection",
        &["pods", "services", "configmaps", "nodes"],
    ),
    (
        "delete",
        &[
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "namespaces",
        ],
    ),
    ("impersonate", &["users", "groups", "serviceaccounts"]),
    ("escalate", &["roles", "clusterroles"]),
    ("bind", &["roles", "clusterroles"]),
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
    for (verb, resources) in NOT_ALLOWED {
        for resource in *resources {
            let question = [&token, "auth", "can-i", verb, resource, "-n", NAMESPACE];
            // A right in a resource of the whole cluster would be answered, too. `no` is an exit code of 1.
            if canary.cluster.kubectl(&question).is_ok() {
                done.push(format!("it may {verb} {resource}"));
            }
        }
    }
    canary.delete_checks(&["default"])?;
    if done.is_empty() {
        return Ok(());
    }
    Err(done.join("\n").into())
}

/// Rights to read what it changes. `kubectl patch` reads the object first; a controller does not.
const READING: &[&[&str]] = &[
    &[
        "create",
        "clusterrole",
        "prober-test-reading",
        "--verb=get",
        "--resource=pods,nodes",
    ],
    &[
        "create",
        "clusterrolebinding",
        "prober-test-reading",
        "--clusterrole=prober-test-reading",
        "--serviceaccount=prober-system:prober-controller",
    ],
];

/// Changes of an agent's pod that admission denies.
const DENIED_OF_PODS: &[&str] = &[
    r#"{"spec": {"containers": [{"name": "agent", "image": "prober.dev/test/box:1"}]}}"#,
    r#"{"spec": {"activeDeadlineSeconds": 60}}"#,
    r#"{"metadata": {"annotations": {"other": "value"}}}"#,
    r#"{"metadata": {"annotations": {"linkerd.io/inject": null}}}"#,
    r#"{"metadata": {"annotations": {"linkerd.io/inject": "enabled"}}}"#,
    r#"{"metadata": {"annotations": null}}"#,
    r#"{"metadata": {"labels": {"other": "value"}}}"#,
    r#"{"metadata": {"labels": {"app.kubernetes.io/component": "client-no-more"}}}"#,
    r#"{"metadata": {"finalizers": ["prober.dev/held"]}}"#,
    r#"{"metadata": {"ownerReferences": null}}"#,
];

/// Changes of a node that admission denies.
const DENIED_OF_NODES: &[&str] = &[
    r#"{"metadata": {"labels": {"other": "value"}}}"#,
    r#"{"metadata": {"annotations": {"other": "value"}}}"#,
    r#"{"spec": {"unschedulable": true}}"#,
    r#"{"spec": {"taints": [{"key": "prober.dev/unverified", "effect": "NoExecute"}]}}"#,
    r#"{"spec": {"taints": null}}"#,
];

/// Changes of a node's status that admission denies.
const DENIED_OF_STATUS: &[&str] = &[
    r#"{"status": {"conditions": [{"type": "Ready", "status": "False"}]}}"#,
    r#"{"status": {"capacity": {"cpu": "1"}}}"#,
    r#"{"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}"#,
];

fn changes_nothing_else(canary: &Canary) -> Result<(), Failed> {
    let cluster = &canary.cluster;
    for command in READING {
        cluster.kubectl(command)?;
    }
    cluster.kubectl(&[
        "taint",
        "node",
        "node-2",
        "prober.dev/test=:PreferNoSchedule",
        "--overwrite",
    ])?;
    let tried = tries_changes(canary);
    cluster.kubectl(&["taint", "node", "node-2", "prober.dev/test-"])?;
    for kind in ["clusterrole", "clusterrolebinding"] {
        cluster.kubectl(&["delete", kind, "prober-test-reading"])?;
    }
    tried
}

fn tries_changes(canary: &Canary) -> Result<(), Failed> {
    let cluster = &canary.cluster;
    let token = format!("--token={}", canary.token()?);
    let pod = |selector: &str| {
        let name = "jsonpath={.items[0].metadata.name}";
        cluster.kubectl(&["get", "pods", "-n", NAMESPACE, "-l", selector, "-o", name])
    };
    let agent = pod("app.kubernetes.io/component=client")?;
    let controller = pod("app.kubernetes.io/name=prober-controller")?;
    let patch = |object: &[&str], patch: &str| {
        let how = [
            &token,
            "patch",
            "--type=strategic",
            "-n",
            NAMESPACE,
            "-p",
            patch,
        ];
        cluster.kubectl(&[&how, object].concat())
    };
    let mut wrong = Vec::new();
    let mut must_be_denied = |what: String, result: Result<String, Failed>| match result {
        Ok(done) => wrong.push(format!("{what} was done: {done}")),
        Err(refusal) => {
            let message = refusal.message().unwrap_or_default();
            if !message.contains("denied request: the controller may change") {
                wrong.push(format!("{what} failed otherwise: {message}"));
            }
        }
    };
    let plan = r#"{"metadata": {"annotations": {"prober.dev/plan": "{}"}}}"#;
    for change in DENIED_OF_PODS {
        must_be_denied(format!("pod {change}"), patch(&["pod", &agent], change));
    }
    must_be_denied(
        "a controller's pod".to_owned(),
        patch(&["pod", &controller], plan),
    );
    let deletion = cluster.kubectl(&[&token, "delete", "pod", &controller, "-n", NAMESPACE]);
    must_be_denied("deletion of a controller".to_owned(), deletion);
    for change in DENIED_OF_NODES {
        must_be_denied(format!("node {change}"), patch(&["node", "node-2"], change));
    }
    for change in DENIED_OF_STATUS {
        let object = ["node", "node-2", "--subresource=status"];
        must_be_denied(format!("status {change}"), patch(&object, change));
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n").into());
    }
    patch(&["pod", &agent], plan)?;
    patch(
        &["pod", &agent],
        r#"{"metadata": {"annotations": {"prober.dev/plan": null}}}"#,
    )?;
    let unverified = "prober.dev/unverified=:NoSchedule";
    cluster.kubectl(&["taint", "node", "node-2", unverified, "--overwrite"])?;
    let removal = r#"{"spec": {"taints": [{"$patch": "delete", "key": "prober.dev/unverified"}]}}"#;
    // The controllers that run may have removed it already.
    patch(&["node", "node-2"], removal)?;
    let condition = r#"{"status": {"conditions": [{"type": "prober.dev/ServiceConnectivity", "status": "Unknown"}]}}"#;
    patch(&["node", "node-2", "--subresource=status"], condition)?;
    Ok(())
}

/// A right: group, resource, verb, and namespace.
type Right = (String, String, String, String);

/// A controller does all that a canary can: it deletes the leftovers of an earlier version, removes a start-up taint, examines a
/// fault, writes a node condition, replaces agents, is killed, and is succeeded.
fn used(canary: &Canary) -> Result<(), Failed> {
    let cluster = &canary.cluster;
    canary.scale(0)?;
    let lease = [
        "delete",
        "lease",
        "prober-controller",
        "-n",
        NAMESPACE,
        "--ignore-not-found",
    ];
    cluster.kubectl(&lease)?;
    cluster.apply(&super::upgrade::owner_job("prober-leftov"))?;
    cluster.kubectl(&[
        "taint",
        "node",
        "node-3",
        "prober.dev/unverified=:NoSchedule",
        "--overwrite",
    ])?;
    canary.check(
        "default",
        "{interval: 2s, agentLifetime: 1m, nodeCondition: {enabled: true}}",
    )?;
    let mut first = canary.plain("first")?;
    uses_its_rights(canary, &first).map_err(|failed| first.explained(&failed))?;
    first.kill()?;
    canary.free_the_lease()?;
    let mut second = canary.plain("second")?;
    second.leads()?;
    (canary.is_healthy("default")).map_err(|failed| second.explained(&failed))?;
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
        ("clusterrole", "prober-controller-node-condition", ""),
        ("clusterrole", "prober-controller-startup-taint", ""),
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

fn uses_its_rights(canary: &Canary, controller: &Controller<'_>) -> Result<(), Failed> {
    let cluster = &canary.cluster;
    canary.measures("default", "3/3")?;
    wait_until("the leftover is gone", || {
        let jobs = cluster.kubectl(&["get", "jobs", "-n", NAMESPACE, "-o", "name"])?;
        Ok(jobs.is_empty())
    })?;
    wait_until("the start-up taint is removed", || {
        let taints =
            cluster.kubectl(&["get", "node", "node-3", "-o", "jsonpath={.spec.taints}"])?;
        Ok(!taints.contains("prober.dev/unverified"))
    })?;
    let fault = cluster.inject("bridge-netfilter-off", "node-1", "")?;
    canary.wait_for("default", "it fails", &[("Healthy", "False")])?;
    fault.heal()?;
    canary.is_healthy("default")?;
    wait_until("an agent is replaced", || {
        let requests = controller.requests()?;
        Ok((requests.iter()).any(|request| request.verb == "delete" && request.resource == "pods"))
    })
}

/// Verbs that are removed; the log must name each.
const TAKEN: &[(&str, &str, &str)] = &[
    ("", "services", "get"),
    ("", "configmaps", "get"),
    ("discovery.k8s.io", "endpointslices", "list"),
];

fn missing(canary: &Canary) -> Result<(), Failed> {
    canary.scale(0)?;
    let mut wrong = Vec::new();
    for (group, resource, verb) in TAKEN {
        take_away(canary, group, resource, verb)?;
        canary.check("default", "{interval: 2s}")?;
        let mut controller = canary.plain("without-a-right")?;
        let refusal = format!("cannot {verb} resource \\\"{resource}\\\"");
        let named = wait_until("it is named", || Ok(controller.log().contains(&refusal)));
        if named.is_err() {
            let log = controller.log();
            wrong.push(format!("without {verb} {resource} it writes:\n{log}"));
        }
        controller.end()?;
        canary.delete_checks(&["default"])?;
    }
    canary
        .cluster
        .kubectl(&["apply", "-f", &file("kustomize/default/rbac.yaml")])?;
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
