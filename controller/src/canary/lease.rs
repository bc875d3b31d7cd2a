//! Leader election: which of several controllers holds the Lease, and until when it may act.
//!
//! As client-go's `tools/leaderelection`: a controller takes a Lease over when no change of it was observed for its
//! whole duration *on the local clock*, so clocks need not agree; every write carries the resourceVersion that was
//! read, so that of two concurrent writes one is refused (HTTP 409). A leader stops before another can begin: after a
//! suspension it finds its own deadline passed.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use prober_core::time::Timestamp;

use crate::kubernetes::api_time::micro_time;

/// How long a Lease is valid after its last renewal.
pub const DURATION: Duration = Duration::from_secs(15);

/// How long a leader acts after its last renewal.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How often a leader renews the Lease, and the others read it.
pub const PERIOD: Duration = Duration::from_secs(2);

/// The claim of one controller to the Lease. Its times are of a clock that neither goes back nor stops.
#[derive(Clone, Debug)]
pub struct LeaseClaim {
    /// The identity of this process; unique per process, not only per pod.
    identity: String,
    /// The resourceVersion of the Lease that was read last, and when it was first read.
    seen: Option<(String, Timestamp)>,
    /// When the request began that last renewed the Lease for this controller.
    renewed: Option<Timestamp>,
}

/// The next request for the Lease.
#[derive(Clone, Debug, PartialEq)]
pub enum LeaseAction {
    /// Create it, unless it exists by then.
    Create(Box<Lease>),
    /// Replace it, if its resourceVersion is still the one that was read.
    Replace(Box<Lease>),
    /// None: another controller holds it.
    Wait,
}

impl LeaseClaim {
    /// A claim that does not hold the Lease.
    pub const fn new(identity: String) -> Self {
        Self {
            identity,
            seen: None,
            renewed: None,
        }
    }

    /// What to do about the Lease as it was just read. `wall` is the time that is written into it, for people.
    pub fn next_action(
        &mut self,
        name: &str,
        lease: Option<&Lease>,
        now: Timestamp,
        wall: Timestamp,
    ) -> LeaseAction {
        let Some(lease) = lease else {
            return LeaseAction::Create(Box::new(self.written(None, name, wall)));
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((known, since)) if *known == version => *since,
            Some(_) | None => now,
        };
        self.seen = Some((version, since));
        let holder = holder(lease);
        if holder == Some(&self.identity) || holder.is_none() || now.since(since) >= duration(lease)
        {
            return LeaseAction::Replace(Box::new(self.written(Some(lease), name, wall)));
        }
        self.renewed = None;
        LeaseAction::Wait
    }

    /// Records that the Lease was written: it is held since `begun`, when the request began. A request that fails
    /// changes nothing: a leader stays leader until its deadline.
    pub const fn acquired(&mut self, begun: Timestamp) {
        self.renewed = Some(begun);
    }

    /// Whether this controller may act now: to be checked before every request.
    pub fn is_held(&self, now: Timestamp) -> bool {
        self.renewed
            .is_some_and(|renewed| now.since(renewed) < DEADLINE)
    }

    /// Gives up the claim. Returns the Lease without its holder if this controller held it, so that the next one need
    /// not wait.
    pub fn release(&mut self, lease: &Lease) -> Option<Lease> {
        self.renewed = None;
        if holder(lease) != Some(&self.identity) {
            return None;
        }
        let mut lease = lease.clone();
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        Some(lease)
    }

    fn written(&self, before: Option<&Lease>, name: &str, wall: Timestamp) -> Lease {
        let spec = before
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let is_ours = before.and_then(holder) == Some(&self.identity);
        let transitions = spec.lease_transitions.unwrap_or_default();
        Lease {
            metadata: before.map_or_else(
                || ObjectMeta {
                    name: Some(name.to_owned()),
                    ..ObjectMeta::default()
                },
                |lease| lease.metadata.clone(),
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: if is_ours {
                    spec.acquire_time
                } else {
                    Some(micro_time(wall))
                },
                renew_time: Some(micro_time(wall)),
                lease_transitions: Some(match (before, is_ours) {
                    (None, _) => 0,
                    (Some(_), true) => transitions,
                    (Some(_), false) => transitions.saturating_add(1),
                }),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn holder(lease: &Lease) -> Option<&String> {
    let holder = lease.spec.as_ref()?.holder_identity.as_ref()?;
    Some(holder).filter(|holder| !holder.is_empty())
}

/// The duration that the Lease's holder wrote.
fn duration(lease: &Lease) -> Duration {
    lease
        .spec
        .as_ref()
        .and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok())
        .map_or(DURATION, Duration::from_secs)
}

#[cfg(test)]
mod tests;
