//! The state of an agent's pod, read from its status: waiting, running, or failed with a reason.
//!
//! The reasons quote the component that keeps the pod from running: scheduler, kubelet, container runtime. None of them is a
//! fault of the network.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, Event, Pod, PodCondition,
    PodStatus,
};
use prober_core::topology::NodeName;

/// The state of an agent's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// It has not started. The reason is the end of a sentence.
    Waiting(String),
    /// Its container runs, and the pod has these addresses.
    Running(Vec<IpAddr>),
    /// It does not run, and will not run again. The reason is a sentence.
    Failed(String),
}

/// A reason of a waiting container that lasts for ever, or longer than a run.
///
/// pkg/kubelet/images/types.go, pkg/kubelet/kuberuntime/kuberuntime_container.go, pkg/kubelet/container/sync_result.go
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StartFailure {
    /// The image cannot be pulled.
    Image,
    /// The container runtime cannot create or start the container.
    Runtime,
}

impl StartFailure {
    fn from_reason(reason: &str) -> Option<Self> {
        match reason {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "InvalidImageName"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed" => Some(Self::Image),
            "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError"
            | "CrashLoopBackOff"
            | "StartError"
            | "PreCreateHookError"
            | "PreStartHookError" => Some(Self::Runtime),
            _ => None,
        }
    }
}

/// Returns the state of the pod of an agent on `node`.
pub fn pod_state(pod: &Pod, node: &NodeName) -> PodState {
    let status = pod.status.clone().unwrap_or_default();
    if let Some(reason) = deletion_reason(pod, &status) {
        return PodState::Failed(reason);
    }
    let state = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| container.state.clone())
        .unwrap_or_default();
    if let Some(reason) = termination_reason(&status, &state, node)
        .or_else(|| unschedulable_reason(&status, node))
        .or_else(|| start_failure_reason(state.waiting.as_ref(), pod, node))
    {
        return PodState::Failed(reason);
    }
    if state.running.is_some() {
        return PodState::Running(pod_ips(&status));
    }
    PodState::Waiting(pending_reason(&status, state.waiting.as_ref(), node))
}

/// Adds the architecture of the node to a reason that says that the image has no program for it.
pub fn with_architecture(reason: String, architecture: &str) -> String {
    // containerd's resolver, its runtime (`exec format error` is ENOEXEC), and CRI-O's library.
    let signs = [
        "no match for platform in manifest",
        "exec format error",
        "no image found in image index for architecture",
    ];
    if architecture.is_empty() || !signs.iter().any(|sign| reason.contains(sign)) {
        return reason;
    }
    format!(
        "{reason}; its node is {architecture}: give an image that was built for {architecture}, too (--image)"
    )
}

/// Whether the condition `Ready` of the pod is `True`.
pub fn is_ready(pod: &Pod) -> bool {
    let ready = (pod.status.as_ref()).and_then(|status| condition(status, "Ready"));
    ready.is_some_and(|condition| condition.status == "True")
}

/// Reasons of warnings about pods that start all the same; the kubelet repeats them at every sync, after the one that matters
/// (pkg/kubelet/network/dns/dns.go).
const HARMLESS_WARNINGS: [&str; 2] = ["MissingClusterDNS", "DNSConfigForming"];

/// The reason why an agent failed whose pod has not started within `seconds`: what the pod waits for, and the last warning
/// among its `events` that may keep it from starting, such as a network plugin's that has no address for it.
pub fn startup_timeout_reason(pending: &str, seconds: u64, events: &[Event]) -> String {
    let warning = events
        .iter()
        .filter(|event| event.type_.as_deref() == Some("Warning"))
        .filter(|event| {
            let reason = event.reason.as_deref().unwrap_or_default();
            !HARMLESS_WARNINGS.contains(&reason)
        })
        .max_by_key(|event| {
            event
                .last_timestamp
                .clone()
                .map(|time| time.0)
                .or(event.event_time.clone().map(|time| time.0))
        });
    match warning {
        Some(event) => format!(
            "not running after {seconds} s: {pending}; {}: {}",
            event.reason.as_deref().unwrap_or("an event"),
            message_or_default(event.message.as_ref())
        ),
        None => format!("not running after {seconds} s: {pending}"),
    }
}

fn deletion_reason(pod: &Pod, status: &PodStatus) -> Option<String> {
    pod.metadata.deletion_timestamp.as_ref()?;
    // Drains, preemption and taints set this condition before they delete a pod.
    let why = condition(status, "DisruptionTarget").and_then(|condition| {
        Some(format!(
            "{}: {}",
            condition.reason.as_ref()?,
            message_or_default(condition.message.as_ref())
        ))
    });
    Some(match why {
        Some(why) => format!("its pod was deleted while the run needed it ({why})"),
        None => "its pod was deleted while the run needed it".to_owned(),
    })
}

/// The reason why the pod has ended; `None` if it has not.
fn termination_reason(
    status: &PodStatus,
    state: &ContainerState,
    node: &NodeName,
) -> Option<String> {
    let has_ended = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    match (status.reason.as_deref(), &state.terminated) {
        (Some("Evicted"), _) if has_ended => Some(format!(
            "it was evicted from {node}: {}",
            message_or_default(status.message.as_ref())
        )),
        // pkg/kubelet/lifecycle/predicate.go: OutOfcpu, OutOfmemory, OutOfpods
        (Some(reason), _) if has_ended && reason.starts_with("OutOf") => Some(format!(
            "the kubelet of {node} lacks resources for it ({reason}): {}",
            message_or_default(status.message.as_ref())
        )),
        (Some(reason), None) if has_ended => Some(format!(
            "the kubelet of {node} ended it ({reason}): {}",
            message_or_default(status.message.as_ref())
        )),
        (_, Some(terminated)) => Some(container_termination_reason(terminated)),
        (None, None) if has_ended => Some(format!(
            "its pod on {node} has ended without a reason: {}",
            message_or_default(status.message.as_ref())
        )),
        (_, None) => None,
    }
}

fn container_termination_reason(terminated: &ContainerStateTerminated) -> String {
    let code = terminated.exit_code;
    let last_line = terminated
        .message
        .as_deref()
        .and_then(|text| text.lines().rfind(|line| !line.trim().is_empty()));
    match (terminated.reason.as_deref(), last_line) {
        (Some("OOMKilled"), _) => "the kernel killed it: it exceeded its memory limit".to_owned(),
        (Some(reason @ ("ContainerStatusUnknown" | "Unknown")), _) => format!(
            "its node lost its container ({reason}): the node or its container runtime was restarted"
        ),
        (_, Some(line)) => format!("it exited with status {code}: {}", line.trim()),
        (Some(reason), None) => format!("it exited with status {code} ({reason})"),
        (None, None) => format!("it exited with status {code}"),
    }
}

fn unschedulable_reason(status: &PodStatus, node: &NodeName) -> Option<String> {
    let condition = condition(status, "PodScheduled")?;
    (condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable")).then(
        || {
            format!(
                "the scheduler cannot place it on {node}: {}",
                message_or_default(condition.message.as_ref())
            )
        },
    )
}

fn start_failure_reason(
    waiting: Option<&ContainerStateWaiting>,
    pod: &Pod,
    node: &NodeName,
) -> Option<String> {
    let reason = waiting?.reason.as_deref()?;
    let message = message_or_default(waiting?.message.as_ref());
    let image = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.containers.first()?.image.clone())
        .unwrap_or_default();
    StartFailure::from_reason(reason).map(|failure| match failure {
        StartFailure::Image => format!(
            "{node} cannot pull the image {image} ({reason}): {message}; --image names another, `make image` builds \
             one to import on the node"
        ),
        StartFailure::Runtime => {
            format!("the container runtime of {node} cannot start it ({reason}): {message}")
        }
    })
}

fn pending_reason(
    status: &PodStatus,
    waiting: Option<&ContainerStateWaiting>,
    node: &NodeName,
) -> String {
    let scheduled = condition(status, "PodScheduled");
    match (scheduled, waiting) {
        (None, _) => format!("no scheduler has tried to place it on {node}"),
        (Some(condition), _) if condition.status != "True" => format!(
            "it waits to be scheduled on {node} ({}): {}",
            condition.reason.as_deref().unwrap_or("no reason given"),
            message_or_default(condition.message.as_ref())
        ),
        (Some(_), None) => format!("the kubelet of {node} has not started it: is the kubelet up?"),
        (Some(_), Some(waiting)) => format!(
            "the kubelet of {node} is starting it ({})",
            waiting.reason.as_deref().unwrap_or("no reason given")
        ),
    }
}

fn pod_ips(status: &PodStatus) -> Vec<IpAddr> {
    status
        .pod_ips
        .iter()
        .flatten()
        .filter_map(|ip| ip.ip.parse().ok())
        .collect()
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == kind)
}

/// A message of Kubernetes as the end of a sentence.
fn message_or_default(message: Option<&String>) -> &str {
    message.map_or("no message", |text| text.trim().trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "JSON is written where it is passed"
    )]
    fn state(status: Value) -> PodState {
        state_of_pod(json!({
            "spec": {"containers": [{"name": "agent", "image": "prober.dev/prober-agent:0.1.0"}]},
            "status": status
        }))
    }

    fn state_of_pod(pod: Value) -> PodState {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        pod_state(&pod, &NodeName::new("node-1"))
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "JSON is written where it is passed"
    )]
    fn container(state: Value) -> Value {
        json!({
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{
                "name": "agent", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state
            }]
        })
    }

    #[test]
    fn each_failure_of_a_pod_has_a_reason() {
        let reasons: Vec<String> = [
            container(json!({"waiting": {"reason": "ErrImagePull", "message": "failed to pull and unpack image: dial tcp: lookup prober.dev: no such host"}})),
            container(json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"prober.dev/prober-agent:0.1.0\""}})),
            container(json!({"waiting": {"reason": "CreateContainerError", "message": "seccomp profile is not supported"}})),
            container(json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}})),
            container(json!({"terminated": {"exitCode": 2, "reason": "Error", "message": "{\"event\":\"hello\"}\nprober-agent: cannot read the plan\n"}})),
            container(json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})),
            container(json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": "The container could not be located"}})),
            container(json!({"terminated": {"exitCode": 0, "reason": "Completed"}})),
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match Pod's node affinity/selector."}]}),
            json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory. "}),
            json!({"phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have enough resource: cpu, requested: 20, used: 1990, capacity: 2000"}),
            json!({"phase": "Failed", "reason": "NodeShutdown", "message": "Pod was rejected as the node is shutting down."}),
            json!({"phase": "Failed"}),
        ]
        .into_iter()
        .map(|status| match state(status) {
            PodState::Failed(reason) => reason,
            other @ (PodState::Waiting(_) | PodState::Running(_)) => {
                panic!("{other:?} is no failure")
            },
        })
        .collect();
        insta::assert_snapshot!(reasons.join("\n"));
    }

    #[test]
    fn a_deleted_pod_has_failed_with_the_reason_of_its_disruption() {
        let deleted = |conditions: Value| {
            state_of_pod(json!({
                "metadata": {"deletionTimestamp": "2026-11-24T14:00:00Z"},
                "status": {"phase": "Running", "conditions": conditions}
            }))
        };
        assert_eq!(
            deleted(json!([])),
            PodState::Failed("its pod was deleted while the run needed it".to_owned())
        );
        assert_eq!(
            deleted(json!([{
                "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting"
            }])),
            PodState::Failed(
                "its pod was deleted while the run needed it (EvictionByEvictionAPI: Eviction API: evicting)"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_pod_that_has_not_started_is_waiting_with_a_reason() {
        let reasons: Vec<String> = [
            json!({"phase": "Pending"}),
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates"}]}),
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}),
            container(json!({"waiting": {"reason": "ContainerCreating"}})),
        ]
        .into_iter()
        .map(|status| match state(status) {
            PodState::Waiting(reason) => reason,
            other @ (PodState::Running(_) | PodState::Failed(_)) => panic!("{other:?} does not wait"),
        })
        .collect();
        insta::assert_snapshot!(reasons.join("\n"));
    }

    #[test]
    fn a_running_pod_has_its_addresses() {
        let mut status = container(json!({"running": {"startedAt": "2026-11-24T14:00:00Z"}}));
        status["phase"] = json!("Running");
        status["podIPs"] = json!([{"ip": "10.244.1.7"}, {"ip": "fd00:10:244:1::7"}]);
        let expected = ["10.244.1.7", "fd00:10:244:1::7"].map(|ip| ip.parse().unwrap());
        assert_eq!(state(status), PodState::Running(expected.into()));
    }

    #[test]
    fn a_startup_timeout_quotes_the_last_warning_of_the_pod() {
        let events: Vec<Event> = serde_json::from_value(json!([
            {"type": "Normal", "reason": "Scheduled", "message": "Successfully assigned", "metadata": {}, "involvedObject": {},
             "lastTimestamp": "2026-11-24T14:00:05Z"},
            {"type": "Warning", "reason": "FailedCreatePodSandBox", "message": "plugin type=\"flannel\" failed (add): no such file.",
             "lastTimestamp": "2026-11-24T14:00:03Z", "metadata": {}, "involvedObject": {}},
            {"type": "Warning", "reason": "FailedMount", "message": "older", "lastTimestamp": "2026-11-24T14:00:01Z",
             "metadata": {}, "involvedObject": {}}
        ]))
        .unwrap();
        assert_eq!(
            startup_timeout_reason(
                "the kubelet of node-1 is starting it (ContainerCreating)",
                30,
                &events
            ),
            "not running after 30 s: the kubelet of node-1 is starting it (ContainerCreating); \
             FailedCreatePodSandBox: plugin type=\"flannel\" failed (add): no such file"
        );
        assert_eq!(
            startup_timeout_reason("it waits", 30, &[]),
            "not running after 30 s: it waits"
        );
    }

    #[test]
    fn a_pod_for_which_no_address_is_left_says_so_whatever_the_kubelet_repeats() {
        let events: Vec<Event> = serde_json::from_value(json!([
            {"type": "Warning", "reason": "FailedCreatePodSandBox", "metadata": {}, "involvedObject": {},
             "message": "Failed to create pod sandbox: plugin type=\"host-local\" failed (add): failed to allocate for range 0: no IP addresses available in range set: 10.244.1.1-10.244.1.254",
             "lastTimestamp": "2026-11-24T14:00:03Z"},
            {"type": "Warning", "reason": "MissingClusterDNS", "message": "kubelet does not have ClusterDNS IP configured",
             "lastTimestamp": "2026-11-24T14:00:09Z", "metadata": {}, "involvedObject": {}}
        ]))
        .unwrap();
        let reason = startup_timeout_reason("it waits", 30, &events);
        assert!(
            reason.ends_with("no IP addresses available in range set: 10.244.1.1-10.244.1.254"),
            "{reason}"
        );
    }
}
