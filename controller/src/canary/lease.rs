//! Which of several controllers acts: the one that holds a Lease, and knows that it still does.
//!
//! As client-go's `tools/leaderelection`: a Lease is taken over when nobody has changed it for its whole duration *as
//! seen from here*, so that no two clocks need to agree; and every change carries the version that was read, so that of two
//! that take it at once one is refused (HTTP 409). A leader stops by itself before anybody else can begin: one that was
//! frozen finds, when it wakes, that its time is over.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use prober_core::time::Timestamp;

use crate::clock::micro;

/// How long a Lease is respected that nobody renews.
pub const DURATION: Duration = Duration::from_secs(15);

/// How long a leader acts without having renewed it.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How often a leader renews it, and the others look.
pub const PERIOD: Duration = Duration::from_secs(2);

/// One controller's part in the election. Its times are of one clock that never goes back and does not stop.
#[derive(Clone, Debug)]
pub struct Election {
    /// Who this is: different for every process, not only for every pod.
    identity: String,
    /// The version that was last seen of the Lease, and when it was first seen.
    seen: Option<(String, Timestamp)>,
    /// When the request was begun that last renewed the Lease for us.
    renewed: Option<Timestamp>,
}

/// What to do with the Lease.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Create it, if it is not there by then.
    Create(Box<Lease>),
    /// Replace it, if it is still of the version that was read.
    Replace(Box<Lease>),
    /// Somebody else acts: look again later.
    Wait,
}

impl Election {
    /// A part that holds nothing.
    pub const fn new(identity: String) -> Self {
        Self {
            identity,
            seen: None,
            renewed: None,
        }
    }

    /// What to do about the Lease as it was just read; `wall` is what is written into it, for people.
    pub fn step(
        &mut self,
        name: &str,
        lease: Option<&Lease>,
        now: Timestamp,
        wall: Timestamp,
    ) -> Step {
        let Some(lease) = lease else {
            return Step::Create(Box::new(self.written(None, name, wall)));
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
            return Step::Replace(Box::new(self.written(Some(lease), name, wall)));
        }
        self.renewed = None;
        Step::Wait
    }

    /// The Lease was written: it is ours since `begun`, when the request was begun. Where it was not, nothing is to be
    /// told: who was leader stays so until the deadline.
    pub const fn won(&mut self, begun: Timestamp) {
        self.renewed = Some(begun);
    }

    /// Whether this controller may act now. To be asked before every act, not once.
    pub fn leads(&self, now: Timestamp) -> bool {
        self.renewed
            .is_some_and(|renewed| now.since(renewed) < DEADLINE)
    }

    /// Acts no more. The Lease as it is given back by the leader, so that nobody waits; `None` for all others.
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
        let turns = spec.lease_transitions.unwrap_or_default();
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
                    Some(micro(wall))
                },
                renew_time: Some(micro(wall)),
                lease_transitions: Some(match (before, is_ours) {
                    (None, _) => 0,
                    (Some(_), true) => turns,
                    (Some(_), false) => turns.saturating_add(1),
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

/// How long the Lease's holder asks to be respected.
fn duration(lease: &Lease) -> Duration {
    lease
        .spec
        .as_ref()
        .and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok())
        .map_or(DURATION, Duration::from_secs)
}

#[cfg(test)]
mod tests;
