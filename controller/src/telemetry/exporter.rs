//! The exporter: counts samples at once, and queues traces.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prober_core::topology::NodeName;
use tokio::runtime::Handle;

use super::metrics::{HandshakeClass, Metrics, PathClass};
use super::resources::Resources;
use super::round_samples;
use super::sample::Sample;
use super::state_samples;
use crate::canary::controller::observer::{CheckRound, CheckStates, Observer, Reconciled};
use crate::kubernetes::request_count::RequestCount;
use crate::telemetry::channel::{OtlpChannel, OtlpChannelError};
use crate::telemetry::otlp_endpoint::OtlpEndpoint;
use crate::telemetry::otlp_metrics::OtlpMetrics;
use crate::telemetry::trace_queue::{Limits, TraceQueue};

/// Where telemetry is pushed, beside `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtlpEndpoints {
    /// Where spans are sent; `None` drops them.
    pub traces: Option<OtlpEndpoint>,
    /// Where metrics are sent; `None` leaves them to scrapers.
    pub metrics: Option<OtlpEndpoint>,
}

/// Takes samples without ever blocking.
#[derive(Debug)]
pub struct Exporter {
    metrics: Arc<Metrics>,
    instruments: Option<OtlpMetrics>,
    trace_queue: Mutex<Option<TraceQueue>>,
}

impl Exporter {
    /// Starts the exporter on `runtime`, which needs a worker thread. `service` is the service name, unless
    /// `OTEL_SERVICE_NAME` is set.
    pub fn start(
        service: &'static str,
        targets: &OtlpEndpoints,
        limits: Limits,
        runtime: &Handle,
    ) -> Result<Self, OtlpChannelError> {
        let metrics = Arc::new(Metrics::default());
        let resources = Resources::new(service);
        let instruments = (targets.metrics.as_ref())
            .map(|target| {
                let connection = OtlpChannel::new(target, runtime)?;
                OtlpMetrics::new(connection, resources.prober().clone(), &metrics, runtime)
            })
            .transpose()?;
        let trace_queue = (targets.traces.as_ref())
            .map(|target| {
                let connection = OtlpChannel::new(target, runtime)?;
                Ok::<_, OtlpChannelError>(TraceQueue::start(
                    connection,
                    resources,
                    limits,
                    Arc::clone(&metrics),
                    runtime,
                ))
            })
            .transpose()?;
        Ok(Self {
            metrics,
            instruments,
            trace_queue: Mutex::new(trace_queue),
        })
    }

    /// Takes one sample: counts it at once and sends it later. A trace is dropped, and counted as dropped, if the queue
    /// is full.
    pub fn record(&self, sample: Sample) {
        match sample {
            Sample::Handshake {
                node,
                peer_scope,
                access_path,
                family,
                outcome,
                cause,
                duration,
            } => {
                let path = PathClass {
                    access_path,
                    scope: peer_scope,
                    family,
                };
                let kind = HandshakeClass { path, outcome };
                self.metrics.handshake(&node, kind, cause, duration);
                if let Some((instruments, duration)) = self.instruments.as_ref().zip(duration) {
                    instruments.handshake(&node, kind, duration);
                }
            }
            Sample::Path {
                check,
                node,
                access_path,
                family,
                scope,
                healthy,
            } => {
                let path = PathClass {
                    access_path,
                    scope,
                    family,
                };
                self.metrics.path(&check, &node, path, healthy);
            }
            Sample::Node {
                check,
                node,
                healthy,
            } => self.metrics.node(&check, &node, healthy),
            Sample::Outages { check, open } => self.metrics.set_outages(&check, open),
            Sample::NotMeasured { check, nodes } => self.metrics.set_not_measured(&check, nodes),
            Sample::NodeRemoved { check, node } => {
                let present = self.metrics.remove_node(&check, &node);
                if let Some(instruments) = &self.instruments {
                    instruments.remove_node(present);
                }
            }
            Sample::Coverage {
                check,
                nodes,
                total,
            } => self.metrics.coverage(&check, nodes, total),
            Sample::Agents {
                check,
                state,
                count,
            } => self.metrics.agents(&check, state, count),
            Sample::Trace(trace) => {
                let trace_queue = self
                    .trace_queue
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                if let Some(trace_queue) = &*trace_queue {
                    trace_queue.push(*trace);
                }
            }
        }
    }

    /// The metrics, for a scraper.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Sends what is left within the time `within`, of which the metrics get half: they count the dropped spans. Later
    /// samples appear only at `/metrics`.
    pub async fn flush(&self, within: Duration) {
        let share = match &self.instruments {
            Some(_) => within / 2,
            None => within,
        };
        let trace_queue = (self.trace_queue.lock())
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(trace_queue) = trace_queue {
            trace_queue.finish(share).await;
        }
        if let Some(instruments) = &self.instruments {
            instruments.finish(share).await;
        }
    }
}

impl Exporter {
    /// Exposes the requests to the API server that `count` counts.
    pub fn observe_requests(&self, count: RequestCount) {
        self.metrics.set_requests(count);
    }
}

impl Observer for Exporter {
    fn observe(&self, round: &CheckRound<'_>) {
        self.metrics.examined();
        for sample in round_samples::samples(round) {
            self.record(sample);
        }
    }

    fn observe_states(&self, states: &CheckStates<'_>) {
        for sample in state_samples::samples(states) {
            self.record(sample);
        }
        self.metrics
            .transient_alerts(states.check, states.state.transient_alerts());
    }

    fn node_removed(&self, check: &str, node: &NodeName) {
        self.record(Sample::NodeRemoved {
            check: check.into(),
            node: node.clone(),
        });
    }

    fn check_removed(&self, check: &str) {
        self.metrics.remove_check(check);
    }

    fn leads(&self, is_leading: bool) {
        self.metrics.leads(is_leading);
    }

    fn reconciled(&self, how: Reconciled, took: Duration) {
        self.metrics.reconciled(how == Reconciled::Failed, took);
    }

    fn evaluated(&self, took: Duration) {
        self.metrics.evaluated(took);
    }
}
