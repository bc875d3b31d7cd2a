//! Timestamps in the formats of the Kubernetes API.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff;
use prober_core::time::Timestamp;

/// A time of the wall clock with microseconds, as Leases and Events have it.
pub fn micro_time(at: Timestamp) -> MicroTime {
    let micros = i64::try_from(at.as_nanos() / 1_000).unwrap_or(i64::MAX);
    MicroTime(jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX))
}

/// A time of the wall clock in whole seconds, as most fields have it.
pub fn time(at: Timestamp) -> Time {
    let seconds = i64::try_from(at.as_nanos() / 1_000_000_000).unwrap_or(i64::MAX);
    Time(jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX))
}

/// The time of the wall clock in a field; zero before 1970.
pub fn timestamp(time: &Time) -> Timestamp {
    Timestamp::from_nanos(u64::try_from(time.0.as_nanosecond()).unwrap_or_default())
}
