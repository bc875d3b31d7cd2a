//! A probe as a trace: the observations of both of its ends under one root.
//!
//! The root `probe` is recorded by this program; below it are a `handshake` of the client's agent and a `handshake` of the
//! server's, with every packet as a span event. Names are those of OpenTelemetry's semantic conventions where there is
//! one, else below `prober.`.

/// A packet as an event of a span.
mod packet;

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use prober_core::diagnosis::{Confidence, Remedy};
use prober_core::packet::family::Family;
use prober_core::packet::observation::Observation;
use prober_core::probe::outcome::Outcome;
use prober_core::random::Random;
use prober_core::report::annotation::End;
use prober_core::report::{DiagnosisReport, PathReport, ProbeReport, Report};
use prober_core::time::Timestamp;
use prober_core::topology::AgentId;

/// The spans of one probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    spans: Vec<Span>,
}

/// One span, and the source that recorded it.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its resource.
    pub source: SpanSource,
    /// The span.
    pub data: SpanData,
}

/// The source of a span.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpanSource {
    /// The program that joins both ends.
    Prober,
    /// The agent at one end.
    Agent(AgentId),
}

/// The probe from which a trace is built.
#[derive(Clone, Copy, Debug)]
pub struct TraceSource<'a> {
    /// The path that was probed.
    pub path: &'a PathReport,
    /// The probe.
    pub probe: &'a ProbeReport,
    /// What explains it; `None` for a healthy one.
    pub diagnosis: Option<&'a DiagnosisReport>,
}

impl<'a> TraceSource<'a> {
    /// The probe that a diagnosis presents; `None` if it presents none.
    pub fn by(report: &'a Report, diagnosis: &'a DiagnosisReport) -> Option<Self> {
        let (path, probe) = report.sample(diagnosis)?;
        Some(Self {
            path,
            probe,
            diagnosis: Some(diagnosis),
        })
    }
}

impl Trace {
    /// The trace of one probe. The same `seed` gives the same ids, so that a trace store keeps a trace that is sent
    /// twice once.
    pub fn of(source: TraceSource<'_>, seed: u64) -> Self {
        let mut ids = Random::new(seed);
        let trace = TraceId::from_bytes(
            (u128::from(ids.bits()) << 64 | u128::from(ids.bits().max(1))).to_be_bytes(),
        );
        let mut context = || {
            let id = SpanId::from_bytes(ids.bits().max(1).to_be_bytes());
            SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE)
        };
        let (root, client, server) = (context(), context(), context());
        let parent = root.span_id();
        let mut spans = vec![source.root(root), source.client(client, parent)];
        spans.extend(source.server(server, parent));
        Self { spans }
    }

    /// One trace for each diagnosis of a report that presents a probe.
    pub fn of_report(report: &Report, seed: u64) -> Vec<Self> {
        let mut seeds = Random::new(seed);
        let source = (report.diagnoses.iter()).filter_map(|found| TraceSource::by(report, found));
        source
            .map(|source| Self::of(source, seeds.bits()))
            .collect()
    }

    /// The spans; the root first.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The spans; the root first.
    pub fn into_spans(self) -> Vec<Span> {
        self.spans
    }

    /// The trace id: 32 hexadecimal digits.
    pub fn id(&self) -> String {
        (self.spans.first())
            .map(|root| root.data.span_context.trace_id().to_string())
            .unwrap_or_default()
    }
}

impl TraceSource<'_> {
    fn root(&self, context: SpanContext) -> Span {
        let mut attributes = self.path();
        if let Some(diagnosis) = self.diagnosis {
            attributes.extend(explanation(diagnosis));
        }
        let (start, end) = self.client_times();
        Span {
            source: SpanSource::Prober,
            data: SpanData {
                status: self.status(),
                attributes,
                ..span(
                    "probe",
                    context,
                    SpanId::INVALID,
                    SpanKind::Internal,
                    (start, end),
                )
            },
        }
    }

    fn client(&self, context: SpanContext, parent: SpanId) -> Span {
        let probe = &self.probe.client;
        let mut attributes = self.path();
        attributes.push(KeyValue::new("prober.syns", i64::from(probe.syns)));
        if let Some(isn) = probe.isn {
            attributes.push(KeyValue::new("prober.isn", i64::from(isn.0)));
        }
        if self.fails() {
            attributes.push(KeyValue::new("error.type", probe.outcome.kind().as_str()));
        }
        let end = &self.path.client;
        Span {
            source: SpanSource::Agent(AgentId::new(
                end.node.as_ref().map_or("", |node| node.as_str()),
                end.pod.clone().unwrap_or_default(),
            )),
            data: SpanData {
                status: self.status(),
                attributes,
                events: self.events(End::Client, &probe.observations),
                ..span(
                    "handshake",
                    context,
                    parent,
                    SpanKind::Client,
                    self.client_times(),
                )
            },
        }
    }

    /// `None` where the server's agent did not report.
    fn server(&self, context: SpanContext, parent: SpanId) -> Option<Span> {
        let agent = self.probe.server_agent.as_ref()?;
        let server_trace = self.probe.server.as_ref()?;
        let seen = &server_trace.observations;
        // An end that observed nothing has no times of its own.
        let times = (seen.first().zip(seen.last()))
            .map_or_else(|| self.client_times(), |(first, last)| (first.at, last.at));
        let attributes = vec![
            KeyValue::new("client.address", server_trace.peer.ip().to_string()),
            KeyValue::new("client.port", i64::from(server_trace.peer.port())),
            KeyValue::new("server.address", server_trace.local.ip().to_string()),
            KeyValue::new("server.port", i64::from(server_trace.local.port())),
            KeyValue::new("prober.isn", i64::from(server_trace.isn.0)),
            KeyValue::new("prober.syns", i64::from(server_trace.syns)),
            KeyValue::new("prober.syn_acks", i64::from(server_trace.syn_acks)),
        ];
        Some(Span {
            source: SpanSource::Agent(agent.clone()),
            data: SpanData {
                status: self.status(),
                attributes,
                events: self.events(End::Server, seen),
                ..span("handshake", context, parent, SpanKind::Server, times)
            },
        })
    }

    fn path(&self) -> Vec<KeyValue> {
        let (path, probe) = (self.path, &self.probe.client);
        vec![
            KeyValue::new("network.transport", "tcp"),
            KeyValue::new("network.type", network_type(path.family)),
            KeyValue::new("client.address", probe.src.ip().to_string()),
            KeyValue::new("client.port", i64::from(probe.src.port())),
            KeyValue::new("server.address", probe.dst.ip().to_string()),
            KeyValue::new("server.port", i64::from(probe.dst.port())),
            KeyValue::new("prober.access_path", path.access_path.as_str()),
            KeyValue::new("prober.peer_scope", path.scope.as_str()),
            KeyValue::new("prober.outcome", probe.outcome.kind().as_str()),
        ]
    }

    fn events(&self, end: End, seen: &[Observation]) -> SpanEvents {
        let mut events = SpanEvents::default();
        events.events = (seen.iter().enumerate())
            .map(|(place, seen)| {
                let mut annotations = self.probe.annotations.iter();
                packet::event(
                    seen,
                    annotations.find(|known| known.end == end && known.packet == place),
                )
            })
            .collect();
        events
    }

    fn fails(&self) -> bool {
        self.diagnosis.is_some()
            || !matches!(self.probe.client.outcome, Outcome::Established { .. })
    }

    fn status(&self) -> Status {
        match self.diagnosis {
            Some(diagnosis) => Status::error(format!(
                "{} ({})",
                diagnosis.cause.as_str(),
                confidence(diagnosis.confidence)
            )),
            None if self.fails() => Status::error(self.probe.client.outcome.kind().as_str()),
            None => Status::Ok,
        }
    }

    /// From its first SYN to its answer; without one, to the last observed packet.
    fn client_times(&self) -> (Timestamp, Timestamp) {
        let probe = &self.probe.client;
        let start = probe.started;
        let answered = match probe.outcome {
            Outcome::Established { connect_ns, .. } => start + Duration::from_nanos(connect_ns),
            Outcome::Reset { .. }
            | Outcome::Unreachable { .. }
            | Outcome::RefusedLocally { .. }
            | Outcome::Mismatched { .. }
            | Outcome::Timeout => start,
        };
        let last = probe.observations.last().map_or(start, |seen| seen.at);
        (start, answered.max(last))
    }
}

fn span(
    name: &'static str,
    span_context: SpanContext,
    parent_span_id: SpanId,
    span_kind: SpanKind,
    (start, end): (Timestamp, Timestamp),
) -> SpanData {
    SpanData {
        span_context,
        parent_span_id,
        parent_span_is_remote: false,
        span_kind,
        name: name.into(),
        start_time: time(start),
        end_time: time(end),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("prober")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

/// The attributes of a diagnosis.
fn explanation(diagnosis: &DiagnosisReport) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("error.type", diagnosis.cause.as_str()),
        KeyValue::new("prober.cause", diagnosis.cause.as_str()),
        KeyValue::new("prober.cause.meaning", diagnosis.meaning.clone()),
        KeyValue::new("prober.confidence", confidence(diagnosis.confidence)),
        KeyValue::new("prober.tier", diagnosis.tier.as_str()),
        KeyValue::new("prober.evidence", list(diagnosis.evidence.iter().cloned())),
        KeyValue::new("prober.remedy", list(diagnosis.remedy.iter().map(step))),
    ];
    // The affected node may be neither of the two ends.
    if let Some(node) = &diagnosis.node {
        attributes.push(KeyValue::new("prober.cause.node", node.to_string()));
    }
    attributes
}

fn step(remedy: &Remedy) -> String {
    let commands = remedy
        .commands
        .iter()
        .map(|command| format!("\n$ {command}"));
    std::iter::once(remedy.summary.clone())
        .chain(commands)
        .collect()
}

fn list(words: impl Iterator<Item = String>) -> Value {
    Value::Array(Array::String(words.map(StringValue::from).collect()))
}

/// The name used in attributes.
pub(super) const fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Proven => "proven",
        Confidence::Consistent => "consistent",
    }
}

/// `network.type` of the semantic conventions.
pub(super) const fn network_type(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

fn time(stamp: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(stamp.as_nanos())
}

#[cfg(test)]
mod tests;
