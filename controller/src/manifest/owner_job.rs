//! The anchor of a run: a Job that only owns and expires.
//!
//! Its `parallelism` is 0, so it has no pods to start, to count or to repeat; its deadline runs all the same, and
//! when it is over the Job has failed, its time to live (0) has passed, and the garbage collector removes the Job with
//! all that it owns. Nothing of this needs a client that is alive.
//!
//! <https://kubernetes.io/docs/concepts/workloads/controllers/job/#job-termination-and-cleanup>

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Manifest, pod};
use crate::kubernetes::labels;

/// The anchor as the API server made it: only what is owned by it can be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerJob {
    uid: String,
}

impl OwnerJob {
    /// The anchor in an API server's answer; `None` if that has no uid yet.
    pub fn from_job(job: &Job) -> Option<Self> {
        let uid = job.metadata.uid.clone()?;
        Some(Self { uid })
    }

    /// What owner references name.
    pub fn uid(&self) -> &str {
        &self.uid
    }
}

impl Manifest {
    /// The Job that owns everything.
    pub fn owner_job(&self) -> Job {
        Job {
            metadata: self.metadata(self.run.clone(), None),
            spec: Some(JobSpec {
                parallelism: Some(0),
                completions: Some(1),
                backoff_limit: Some(0),
                active_deadline_seconds: Some(
                    i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX),
                ),
                ttl_seconds_after_finished: Some(0),
                template: self.unused_template(),
                ..JobSpec::default()
            }),
            status: None,
        }
    }

    /// No pod is ever made of it, but a Job has one, and admission looks at it.
    fn unused_template(&self) -> PodTemplateSpec {
        PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels::run_labels(&self.run)),
                ..ObjectMeta::default()
            }),
            spec: Some(PodSpec {
                restart_policy: Some("Never".to_owned()),
                automount_service_account_token: Some(false),
                security_context: Some(pod::pod_security_context()),
                containers: vec![Container {
                    name: pod::CONTAINER.to_owned(),
                    image: Some(self.image.clone()),
                    resources: Some(pod::resources()),
                    security_context: Some(pod::unprivileged_context()),
                    ..Container::default()
                }],
                ..PodSpec::default()
            }),
        }
    }
}
