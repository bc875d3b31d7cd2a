//! The objects that past runs left in a cluster, grouped by run.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kubernetes::labels::RUN;

/// The kinds of a run's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// The owner Job.
    Job,
    /// The pods of agents.
    Pod,
    /// The test Services.
    Service,
    /// The endpoints of the test Services.
    EndpointSlice,
}

impl ObjectKind {
    /// The name of the kind in Kubernetes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "Job",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One object of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftoverObject {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The uids of its owners.
    pub owners: Vec<String>,
}

/// The state of a run, derived from its owner Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Its owner Job is active: the run may be in progress, or its objects are kept.
    Active,
    /// Its owner Job has ended, or is being deleted.
    Finished,
    /// It has no owner Job, but other objects.
    Orphaned,
}

impl RunState {
    /// The name used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Finished => "finished",
            Self::Orphaned => "orphaned",
        }
    }
}

/// The objects of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Their namespace.
    pub namespace: String,
    /// The name of the run.
    pub run: String,
    /// The state of the run.
    pub state: RunState,
    /// The objects, the owner Job first.
    pub objects: Vec<LeftoverObject>,
}

impl Leftover {
    /// The owner Job.
    pub fn owner_job(&self) -> Option<&LeftoverObject> {
        self.objects
            .iter()
            .find(|object| object.kind == ObjectKind::Job)
    }

    /// The objects that the owner Job does not own, so that the garbage collector does not remove them with it.
    pub fn unowned(&self) -> impl Iterator<Item = &LeftoverObject> {
        let owner = self.owner_job();
        self.objects.iter().filter(move |object| {
            object.kind != ObjectKind::Job
                && !owner.is_some_and(|owner| object.owners.contains(&owner.uid))
        })
    }
}

/// Groups objects by run, sorted by namespace and name. Objects without the label of a run are ignored.
pub fn group_by_run(jobs: &[Job], others: &[(ObjectKind, ObjectMeta)]) -> Vec<Leftover> {
    let mut runs: BTreeMap<(String, String), Leftover> = BTreeMap::new();
    let jobs = jobs
        .iter()
        .map(|job| (ObjectKind::Job, &job.metadata, run_state(job)));
    let others = others
        .iter()
        .map(|(kind, meta)| (*kind, meta, RunState::Orphaned));
    for (kind, meta, state) in jobs.chain(others) {
        let run = meta.labels.as_ref().and_then(|labels| labels.get(RUN));
        let (Some(run), Some(namespace), Some(name)) = (run, &meta.namespace, &meta.name) else {
            continue;
        };
        let entry = runs
            .entry((namespace.clone(), run.clone()))
            .or_insert_with(|| Leftover {
                namespace: namespace.clone(),
                run: run.clone(),
                state,
                objects: Vec::new(),
            });
        entry.objects.push(LeftoverObject {
            kind,
            name: name.clone(),
            uid: meta.uid.clone().unwrap_or_default(),
            owners: meta
                .owner_references
                .iter()
                .flatten()
                .map(|owner| owner.uid.clone())
                .collect(),
        });
    }
    let mut runs: Vec<Leftover> = runs.into_values().collect();
    for run in &mut runs {
        run.objects.sort();
    }
    runs
}

/// Derives the state of a run from its owner Job.
///
/// <https://kubernetes.io/docs/concepts/workloads/controllers/job/#terminal-job-conditions>
fn run_state(job: &Job) -> RunState {
    let conditions = job
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let has_ended = conditions.into_iter().flatten().any(|condition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    });
    if has_ended || job.metadata.deletion_timestamp.is_some() {
        RunState::Finished
    } else {
        RunState::Active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "JSON is written where it is passed"
    )]
    fn job(run: &str, status: serde_json::Value) -> Job {
        serde_json::from_value(serde_json::json!({
            "metadata": meta(run, run, &[]),
            "status": status,
        }))
        .expect("a Job")
    }

    fn meta(run: &str, name: &str, owners: &[&str]) -> serde_json::Value {
        let owners: Vec<_> = owners
            .iter()
            .map(|owner| {
                serde_json::json!({
                    "apiVersion": "batch/v1", "kind": "Job", "name": owner, "uid": format!("uid-of-{owner}"),
                })
            })
            .collect();
        serde_json::json!({
            "namespace": "prod", "name": name, "uid": format!("uid-of-{name}"), "ownerReferences": owners,
            "labels": {"prober.dev/run": run},
        })
    }

    fn object(
        kind: ObjectKind,
        run: &str,
        name: &str,
        owners: &[&str],
    ) -> (ObjectKind, ObjectMeta) {
        let meta = serde_json::from_value(meta(run, name, owners)).expect("metadata");
        (kind, meta)
    }

    #[test]
    fn a_run_is_active_as_long_as_its_owner_job_is() {
        let ended = |kind: &str, status: &str| serde_json::json!({"conditions": [{"type": kind, "status": status}]});
        for (status, expected) in [
            (serde_json::json!({}), RunState::Active),
            (serde_json::json!({"active": 1}), RunState::Active),
            (ended("Failed", "True"), RunState::Finished),
            (ended("Complete", "True"), RunState::Finished),
            (ended("Complete", "False"), RunState::Active),
            (ended("Suspended", "True"), RunState::Active),
        ] {
            let found = group_by_run(&[job("prober-a", status.clone())], &[]);
            assert_eq!(found[0].state, expected, "{status}");
        }
    }

    #[test]
    fn a_run_without_owner_job_is_orphaned_and_objects_without_owner_are_unowned() {
        let found = group_by_run(
            &[job("prober-b", serde_json::json!({}))],
            &[
                object(ObjectKind::Service, "prober-b", "prober-b", &["prober-b"]),
                object(
                    ObjectKind::Pod,
                    "prober-b",
                    "prober-b-node-1-client",
                    &["other"],
                ),
                object(
                    ObjectKind::Pod,
                    "prober-a",
                    "prober-a-node-1-client",
                    &["prober-a"],
                ),
            ],
        );
        let states: Vec<_> = found
            .iter()
            .map(|run| (run.run.as_str(), run.state))
            .collect();
        assert_eq!(
            states,
            [
                ("prober-a", RunState::Orphaned),
                ("prober-b", RunState::Active)
            ]
        );
        let unowned = |run: &Leftover| {
            run.unowned()
                .map(|object| object.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(unowned(&found[0]), ["prober-a-node-1-client"]);
        assert_eq!(unowned(&found[1]), ["prober-b-node-1-client"]);
        assert_eq!(found[1].objects[0].kind, ObjectKind::Job);
    }

    #[test]
    fn objects_without_the_label_of_a_run_are_ignored() {
        let mut unlabelled = object(ObjectKind::Pod, "x", "a-pod", &[]);
        unlabelled.1.labels = None;
        assert_eq!(group_by_run(&[], &[unlabelled]), []);
    }
}
