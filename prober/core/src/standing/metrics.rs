//! What a standing agent counts, and its text for Prometheus.
//!
//! The number of series is bounded: by access path, scope, family and outcome, never by peer.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use super::StandingPath;
use super::outcome::StandingOutcome;
use crate::packet::family::Family;
use crate::probe::outcome::{Outcome, ProbeResult};
use crate::time::{Timestamp, nanos};
use crate::topology::{AccessPath, NodeName, Scope};

/// The upper bounds of the histogram of handshake times, nanoseconds, with their names in seconds. A repeated SYN comes after
/// a second, the next one after two more.
const BUCKETS: [(u64, &str); 13] = [
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (500_000_000, "0.5"),
    (1_500_000_000, "1.5"),
    (5_000_000_000, "5"),
];

/// The media type of [`StandingMetrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The labels of a series.
type Labels = (AccessPath, Scope, Family);

/// The counts of the probes with the same labels.
#[derive(Debug, Default)]
struct Counts {
    outcomes: [u64; StandingOutcome::ALL.len()],
    /// Handshakes by bucket; those beyond the last are in `handshakes` alone.
    buckets: [u64; BUCKETS.len()],
    handshakes: u64,
    handshakes_ns: u64,
    /// Time from the start of the agent to the first established probe.
    first_connectivity: Option<Duration>,
}

/// Gauges that are not counted here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandingGauges {
    /// When the last round ended.
    pub last_round: Option<Timestamp>,
    /// The generation of the standing plan.
    pub generation: Option<u64>,
    /// The number of paths that alert.
    pub alerting: usize,
}

/// What a standing agent counts.
#[derive(Debug)]
pub struct StandingMetrics {
    node: NodeName,
    started: Timestamp,
    counts: BTreeMap<Labels, Counts>,
}

impl StandingMetrics {
    /// No counts yet, of an agent on this node that started then.
    pub const fn new(node: NodeName, started: Timestamp) -> Self {
        Self {
            node,
            started,
            counts: BTreeMap::new(),
        }
    }

    /// Counts a result.
    pub(super) fn count(
        &mut self,
        path: &StandingPath,
        outcome: StandingOutcome,
        result: &ProbeResult,
        started: Timestamp,
    ) {
        let labels = (path.access_path, path.scope(&self.node), path.family());
        let counts = self.counts.entry(labels).or_default();
        if let Some(count) = counts.outcomes.get_mut(outcome as usize) {
            *count += 1;
        }
        if let Outcome::Established { connect_ns, .. } = result.outcome {
            counts.handshakes += 1;
            counts.handshakes_ns = counts.handshakes_ns.saturating_add(connect_ns);
            let bucket = BUCKETS.iter().position(|(bound, _)| connect_ns <= *bound);
            if let Some(count) = bucket.and_then(|at| counts.buckets.get_mut(at)) {
                *count += 1;
            }
            let at = started + Duration::from_nanos(connect_ns);
            let connected = at.since(self.started);
            counts.first_connectivity.get_or_insert(connected);
        }
    }

    /// Appends everything in Prometheus' text format, version 0.0.4.
    ///
    /// # Errors
    ///
    /// None: writing to a string does not fail.
    pub fn render(&self, gauges: StandingGauges, out: &mut String) -> fmt::Result {
        self.render_probes(out)?;
        self.render_handshakes(out)?;
        self.render_first_connectivity(out)?;
        if let Some(at) = gauges.last_round {
            let name = "prober_last_round_timestamp_seconds";
            header(
                out,
                name,
                "gauge",
                "When the last round of standing probes ended, Unix time.",
            )?;
            writeln!(out, "{name} {}", Seconds(at.as_nanos()))?;
        }
        if let Some(generation) = gauges.generation {
            let name = "prober_standing_plan_generation";
            header(
                out,
                name,
                "gauge",
                "The generation of the standing plan that is probed.",
            )?;
            writeln!(out, "{name} {generation}")?;
        }
        let name = "prober_alerting";
        header(
            out,
            name,
            "gauge",
            "Number of paths of which enough results failed for an alert.",
        )?;
        writeln!(out, "{name} {}", gauges.alerting)
    }

    fn render_probes(&self, out: &mut String) -> fmt::Result {
        let name = "prober_probes_total";
        header(out, name, "counter", "Standing probes by outcome.")?;
        for (labels, counts) in &self.counts {
            let outcomes = StandingOutcome::ALL.iter().zip(counts.outcomes);
            for (outcome, count) in outcomes.filter(|(_, count)| *count > 0) {
                let (node, shown) = (Escaped(self.node.as_str()), Shown(labels));
                let outcome = outcome.as_str();
                writeln!(
                    out,
                    "{name}{{node=\"{node}\",{shown},outcome=\"{outcome}\"}} {count}"
                )?;
            }
        }
        Ok(())
    }

    fn render_handshakes(&self, out: &mut String) -> fmt::Result {
        let name = "prober_handshake_seconds";
        header(
            out,
            name,
            "histogram",
            "Time from the first SYN to the SYN+ACK of standing probes.",
        )?;
        for (labels, counts) in &self.counts {
            let shown = Shown(labels);
            let mut below = 0;
            for ((_, bound), count) in BUCKETS.iter().zip(counts.buckets) {
                below += count;
                writeln!(out, "{name}_bucket{{{shown},le=\"{bound}\"}} {below}")?;
            }
            let all = counts.handshakes;
            writeln!(out, "{name}_bucket{{{shown},le=\"+Inf\"}} {all}")?;
            writeln!(
                out,
                "{name}_sum{{{shown}}} {}",
                Seconds(counts.handshakes_ns)
            )?;
            writeln!(out, "{name}_count{{{shown}}} {all}")?;
        }
        Ok(())
    }

    fn render_first_connectivity(&self, out: &mut String) -> fmt::Result {
        let name = "prober_first_connectivity_seconds";
        header(
            out,
            name,
            "gauge",
            "Time from the start of this agent to its first established probe.",
        )?;
        for (labels, counts) in &self.counts {
            if let Some(took) = counts.first_connectivity {
                writeln!(out, "{name}{{{}}} {}", Shown(labels), Seconds(nanos(took)))?;
            }
        }
        Ok(())
    }
}

fn header(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

/// Labels as text.
struct Shown<'a>(&'a Labels);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (access_path, scope, family) = self.0;
        write!(
            f,
            "access_path=\"{access_path}\",scope=\"{scope}\",family=\"{family}\""
        )
    }
}

/// Nanoseconds as seconds.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:09}",
            self.0 / 1_000_000_000,
            self.0 % 1_000_000_000
        )
    }
}

/// The value of a label.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                char => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::outcome::{EngineKind, Exchange};
    use crate::topology::{AgentId, PathId};

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(1_700_000_000_000_000_000) + Duration::from_millis(millis)
    }

    fn result(outcome: Outcome) -> ProbeResult {
        ProbeResult {
            path: PathId(1),
            engine: EngineKind::Raw,
            src: "10.77.1.2:63000".parse().unwrap(),
            dst: "10.99.0.1:9000".parse().unwrap(),
            started: at(0),
            isn: None,
            server_isn: None,
            outcome,
            syns: 1,
            exchange: Exchange::NotTried,
            observations: Vec::new(),
        }
    }

    #[test]
    fn each_series_has_its_labels_and_the_text_is_whole() {
        let mut metrics = StandingMetrics::new(NodeName::new("node-\"1\"\n"), at(0));
        let path = StandingPath {
            access_path: AccessPath::ClusterIp,
            server: Some(AgentId::new("node-2", "server")),
            target: "10.99.0.1:9000".parse().unwrap(),
        };
        for millis in [3, 700, 6_000] {
            let nanos = millis * 1_000_000;
            let outcome = Outcome::Established {
                rtt_ns: nanos,
                connect_ns: nanos,
            };
            let started = at(250);
            metrics.count(
                &path,
                StandingOutcome::Established,
                &result(outcome),
                started,
            );
        }
        metrics.count(
            &path,
            StandingOutcome::Timeout,
            &result(Outcome::Timeout),
            at(9_000),
        );
        let gauges = StandingGauges {
            last_round: Some(at(12_034)),
            generation: Some(8),
            alerting: 2,
        };
        let mut text = String::new();
        metrics.render(gauges, &mut text).unwrap();
        let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let labels = "access_path=\"cluster-ip\",scope=\"cross-node\",family=\"ipv4\"";
        let bucket = |bound, count| {
            format!("prober_handshake_seconds_bucket{{{labels},le=\"{bound}\"}} {count}")
        };
        let counts = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2];
        let mut expected = vec![
            format!(
                "prober_probes_total{{node=\"node-\\\"1\\\"\\n\",{labels},outcome=\"established\"}} 3"
            ),
            format!(
                "prober_probes_total{{node=\"node-\\\"1\\\"\\n\",{labels},outcome=\"timeout\"}} 1"
            ),
        ];
        expected.extend(
            BUCKETS
                .iter()
                .zip(counts)
                .map(|((_, bound), count)| bucket(*bound, count)),
        );
        expected.extend([
            bucket("+Inf", 3),
            format!("prober_handshake_seconds_sum{{{labels}}} 6.703000000"),
            format!("prober_handshake_seconds_count{{{labels}}} 3"),
            format!("prober_first_connectivity_seconds{{{labels}}} 0.253000000"),
            "prober_last_round_timestamp_seconds 1700000012.034000000".to_owned(),
            "prober_standing_plan_generation 8".to_owned(),
            "prober_alerting 2".to_owned(),
        ]);
        assert_eq!(series, expected);
        let types = text
            .lines()
            .filter(|line| line.starts_with("# TYPE"))
            .count();
        assert_eq!(
            types,
            text.lines()
                .filter(|line| line.starts_with("# HELP"))
                .count()
        );
    }

    #[test]
    fn without_a_plan_or_a_round_their_gauges_are_absent() {
        let mut text = String::new();
        let metrics = StandingMetrics::new(NodeName::new("n"), at(0));
        metrics
            .render(StandingGauges::default(), &mut text)
            .unwrap();
        assert!(
            !text.contains("generation") && !text.contains("last_round"),
            "{text}"
        );
        assert!(text.ends_with("\nprober_alerting 0\n"), "{text}");
    }
}
