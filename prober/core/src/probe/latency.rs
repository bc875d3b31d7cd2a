//! Round-trip times of one path as an HDR histogram that event lines can carry.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::nanos;

/// Maximum recorded round-trip time, nanoseconds (60 s); longer ones count as this one.
const CEILING_NS: u64 = 60_000_000_000;

/// A histogram of durations: nanoseconds, two significant digits, up to 60 s.
///
/// Serialized as `[[nanoseconds, count], ...]`, ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency(Histogram<u32>);

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    /// An empty histogram.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, CEILING_NS, 2)
            .or_else(|_| Histogram::new(2))
            .unwrap_or_else(|_| unreachable!("two digits are within what the histogram allows"));
        Self(histogram)
    }

    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        self.0.saturating_record(nanos(duration).min(CEILING_NS));
    }

    /// Adds all of another's counts.
    pub fn add(&mut self, other: &Self) {
        for value in other.0.iter_recorded() {
            self.record_n(value.value_iterated_to(), value.count_at_value());
        }
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The quantile of the recorded durations, from 0 to 1; `None` when empty.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        (!self.0.is_empty()).then(|| Duration::from_nanos(self.0.value_at_quantile(quantile)))
    }

    /// Each recorded duration with its count, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Duration, u32)> + '_ {
        self.0.iter_recorded().map(|value| {
            // The highest bucket reaches beyond the maximum that parsing accepts.
            let nanos = value.value_iterated_to().min(CEILING_NS);
            (Duration::from_nanos(nanos), value.count_at_value())
        })
    }

    /// Records one value many times, as far as its bucket can count. Beyond that only the histogram's total would
    /// grow, and its quantiles would be wrong.
    fn record_n(&mut self, nanos: u64, count: u32) {
        let room = u32::MAX - self.0.count_at(nanos);
        self.0.saturating_record_n(nanos, count.min(room));
    }
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|(value, count)| (nanos(value), count)))
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut latency = Self::new();
        for (value, count) in Vec::<(u64, u32)>::deserialize(deserializer)? {
            if value > CEILING_NS {
                return Err(D::Error::custom("a round trip of over 60 s"));
            }
            latency.record_n(value, count);
        }
        Ok(latency)
    }
}
