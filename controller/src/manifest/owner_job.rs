//! The owner Job of a run: it owns the other objects and expires.
//!
//! Its `parallelism` is 0, so it starts no pods, but its deadline applies. At the deadline the Job fails, its time to live
//! after that is 0, and the garbage collector removes the Job with everything that it owns. None of this needs the client
//! that created it.
//!
//! <https://kubernetes.io/docs/concepts/workloads/controllers/job/#job-termination-and-cleanup>

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Manifest, pod};
use crate::kubernetes::labels;

/// The owner Job as the API server created it, which the owner references of the other objects need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerJob {
    uid: String,
}

impl OwnerJob {
    /// Reads a Job; `None` if it has no uid.
    pub fn from_job(job: &Job) -> Option<Self> {
        let uid = job.metadata.uid.clone()?;
        Some(Self { uid })
    }

    /// The uid of the Job.
    pub fn uid(&self) -> &str {
        &self.uid
    }
}

impl Manifest {
    /// Builds the owner Job.
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

    /// The template that a Job must have. No pod is created from it, but admission controllers check it.
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
                    resources: Some(self.pod_options.resources()),
                    security_context: Some(pod::unprivileged_context()),
                    ..Container::default()
                }],
                ..PodSpec::default()
            }),
        }
    }
}
