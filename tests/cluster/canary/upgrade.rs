//! The upgrade of a canary of version 0.1, which placed its agents by itself: nothing of the old kind is left, and outages are
//! carried over.

use libtest_mimic::{Failed, Trial};

use super::{Canary, NAMESPACE, SHARED, installation, trial};
use crate::harness::wait_until;

pub(super) fn trials() -> Vec<Trial> {
    vec![trial(
        "a canary of version 0.1 is upgraded by an apply",
        upgrades,
    )]
}

/// What version 0.1 installed. Its controllers do not run here: of theirs is only what they left.
const INSTALLED: &str = include_str!("upgrade/v0.1.yaml");

/// A check of version 0.1.
const CHECK: &str = "
apiVersion: prober.dev/v1alpha1
kind: ConnectivityCheck
metadata: {name: default}
spec:
  interval: 2s
  maxPairs: 100
  tolerations: [{operator: Exists}]
  nodeFacts: Always
";

/// Its status: an outage of a node that has recovered meanwhile, and one of a node that has left.
const STATUS: &str = r#"{"status": {
    "headline": "node-1: bridge-netfilter-off (proven), and 1 more",
    "coverage": {"pairs": 9, "total": 9, "share": "9/9", "cycle": "2s"},
    "failing": [],
    "outages": [
        {"start": "2026-01-01T00:00:00Z", "cause": "bridge-netfilter-off", "node": "node-1"},
        {"start": "2026-01-02T00:00:00Z", "cause": "route-missing", "node": "node-that-left"}
    ]}}"#;

/// What a controller of version 0.1 placed for it: an owner Job, and objects that it owns.
fn placed(owner: &str) -> String {
    let labels = "{app.kubernetes.io/name: prober-agent, app.kubernetes.io/managed-by: prober, prober.dev/run: prober-k3x9q2, \
                  prober.dev/check: default}";
    let metadata = |name: &str| {
        format!(
            "{{name: {name}, namespace: {NAMESPACE}, labels: {labels}, ownerReferences: [{{apiVersion: batch/v1, kind: Job, \
             name: prober-k3x9q2, uid: {owner}, blockOwnerDeletion: true}}]}}"
        )
    };
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {}, spec: {{restartPolicy: Never, terminationGracePeriodSeconds: 0, \
         containers: [{{name: agent, image: prober.dev/test/box:1, args: [serve, \"8080\", old]}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {}, spec: {{ports: [{{name: slot-0, port: 9000}}]}}}}\n---\n\
         {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {}, addressType: IPv4, endpoints: [], ports: []}}",
        metadata("prober-k3x9q2-node-1-client"),
        metadata("prober-k3x9q2"),
        metadata("prober-k3x9q2-slot-0-ipv4"),
    )
}

/// An owner Job of version 0.1.
pub(super) fn owner_job(run: &str) -> String {
    format!(
        "
apiVersion: batch/v1
kind: Job
metadata:
  name: {run}
  namespace: prober-system
  labels:
    app.kubernetes.io/name: prober-agent
    app.kubernetes.io/managed-by: prober
    prober.dev/run: {run}
    prober.dev/check: default
spec:
  parallelism: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{{name: agent, image: prober.dev/test/box:1}}]
"
    )
}

fn upgrades(canary: &Canary) -> Result<(), Failed> {
    let cluster = &canary.cluster;
    cluster.kubectl(&["delete", "-k", &installation(), "--wait=true"])?;
    let old = INSTALLED.replace("replicas: 2", "replicas: 0");
    cluster.apply(&old)?;
    let established = "--for=condition=Established";
    let crd = "crd/connectivitychecks.prober.dev";
    cluster.kubectl(&["wait", established, "--timeout=60s", crd])?;
    cluster.apply(CHECK)?;
    cluster.kubectl(&[
        "patch",
        "cc",
        "default",
        "--subresource=status",
        "--type=merge",
        "-p",
        STATUS,
    ])?;
    cluster.apply(&owner_job("prober-k3x9q2"))?;
    let uid = [
        "get",
        "job",
        "prober-k3x9q2",
        "-n",
        NAMESPACE,
        "-o",
        "jsonpath={.metadata.uid}",
    ];
    cluster.apply(&placed(&cluster.kubectl(&uid)?))?;

    let upgraded = canary.apply_deployment().and_then(|()| is_upgraded(canary));
    if upgraded.is_err() {
        // The next test installs all of it.
        *SHARED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }
    upgraded
}

fn is_upgraded(canary: &Canary) -> Result<(), Failed> {
    let cluster = &canary.cluster;
    // Version 0.1 was installed by another field manager.
    canary.scale(2)?;
    canary.measures("default", "3/3")?;
    wait_until("nothing of the old kind is left", || {
        let left = cluster.objects("prober.dev/check")?;
        Ok(left.is_empty())
    })?;
    wait_until("the outages that version 0.1 had found have ended", || {
        let ends = "{range .status.outages[*]}{.start} {.node} {.end}{\"\\n\"}{end}";
        let outages = canary.field(ends)?;
        let has_ended = |begin: &str| {
            outages.lines().any(|line| {
                line.strip_prefix(begin)
                    .is_some_and(|end| end.contains("20"))
            })
        };
        Ok(has_ended("2026-01-01T00:00:00Z node-1")
            && has_ended("2026-01-02T00:00:00Z node-that-left"))
    })?;
    let spec = canary.field("{.spec}")?;
    if spec.contains("maxPairs") || spec.contains("tolerations") {
        return Err(format!("the check has fields of version 0.1: {spec}").into());
    }
    let token = format!("--token={}", canary.token()?);
    for (verb, resource) in [
        ("create", "pods"),
        ("create", "jobs"),
        ("create", "services"),
    ] {
        let question = [&token, "auth", "can-i", verb, resource, "-n", NAMESPACE];
        if cluster.kubectl(&question).is_ok() {
            return Err(format!("the controller may still {verb} {resource}").into());
        }
    }
    canary.delete_checks(&["default"])
}
