//! What runs have left behind, run by run: decided from the objects that carry their labels.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kubernetes::labels::RUN;

/// The kinds of things that a run places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// The anchor.
    Job,
    /// The agents.
    Pod,
    /// The test Services.
    Service,
    /// What is behind them.
    EndpointSlice,
}

impl ObjectKind {
    /// Its name in Kubernetes.
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
    /// What it is.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// Which of all that have had this name.
    pub uid: String,
    /// The uids of the objects that it goes with.
    pub owners: Vec<String>,
}

/// Whether somebody still wants what a run placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Its anchor is active: it may be at work, or was kept.
    Active,
    /// Its anchor has ended, or is being removed.
    Finished,
    /// Its anchor is gone, and something is still there.
    Orphaned,
}

impl RunState {
    /// The name used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "alive",
            Self::Finished => "over",
            Self::Orphaned => "orphaned",
        }
    }
}

/// All that is left of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Where.
    pub namespace: String,
    /// The run's name.
    pub run: String,
    /// Whether somebody still wants it.
    pub state: RunState,
    /// Its objects, the anchor first.
    pub objects: Vec<LeftoverObject>,
}

impl Leftover {
    /// Its anchor.
    pub fn owner_job(&self) -> Option<&LeftoverObject> {
        self.objects
            .iter()
            .find(|thing| thing.kind == ObjectKind::Job)
    }

    /// What does not go with the anchor by itself.
    pub fn unowned(&self) -> impl Iterator<Item = &LeftoverObject> {
        let anchor = self.owner_job();
        self.objects.iter().filter(move |thing| {
            thing.kind != ObjectKind::Job
                && !anchor.is_some_and(|anchor| thing.owners.contains(&anchor.uid))
        })
    }
}

/// Sorts objects into runs, in the order of namespaces and names. What carries no run's label is nobody's.
pub fn group_by_run(jobs: &[Job], others: &[(ObjectKind, ObjectMeta)]) -> Vec<Leftover> {
    let mut runs: BTreeMap<(String, String), Leftover> = BTreeMap::new();
    let jobs = jobs
        .iter()
        .map(|job| (ObjectKind::Job, &job.metadata, run_state(job)));
    let others = others
        .iter()
        .map(|(kind, meta)| (*kind, meta, RunState::Orphaned));
    for (kind, meta, life) in jobs.chain(others) {
        let run = meta.labels.as_ref().and_then(|labels| labels.get(RUN));
        let (Some(run), Some(namespace), Some(name)) = (run, &meta.namespace, &meta.name) else {
            continue;
        };
        let entry = runs
            .entry((namespace.clone(), run.clone()))
            .or_insert_with(|| Leftover {
                namespace: namespace.clone(),
                run: run.clone(),
                state: life,
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

    fn thing(kind: ObjectKind, run: &str, name: &str, owners: &[&str]) -> (ObjectKind, ObjectMeta) {
        let meta = serde_json::from_value(meta(run, name, owners)).expect("metadata");
        (kind, meta)
    }

    #[test]
    fn a_run_lives_as_long_as_its_anchor_is_active() {
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
    fn what_has_no_anchor_is_an_orphan_and_what_the_anchor_does_not_own_is_a_stray() {
        let found = group_by_run(
            &[job("prober-b", serde_json::json!({}))],
            &[
                thing(ObjectKind::Service, "prober-b", "prober-b", &["prober-b"]),
                thing(
                    ObjectKind::Pod,
                    "prober-b",
                    "prober-b-node-1-client",
                    &["other"],
                ),
                thing(
                    ObjectKind::Pod,
                    "prober-a",
                    "prober-a-node-1-client",
                    &["prober-a"],
                ),
            ],
        );
        let lives: Vec<_> = found
            .iter()
            .map(|run| (run.run.as_str(), run.state))
            .collect();
        assert_eq!(
            lives,
            [
                ("prober-a", RunState::Orphaned),
                ("prober-b", RunState::Active)
            ]
        );
        let strays = |run: &Leftover| {
            run.unowned()
                .map(|thing| thing.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(strays(&found[0]), ["prober-a-node-1-client"]);
        assert_eq!(strays(&found[1]), ["prober-b-node-1-client"]);
        assert_eq!(found[1].objects[0].kind, ObjectKind::Job);
    }

    #[test]
    fn what_carries_no_run_is_nobodys() {
        let mut nameless = thing(ObjectKind::Pod, "x", "a-pod", &[]);
        nameless.1.labels = None;
        assert_eq!(group_by_run(&[], &[nameless]), []);
    }
}
