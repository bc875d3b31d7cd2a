//! The one that is told: counts at once, and has traces sent when they can be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::metrics::{Kind, Metrics, Way};
use super::resources::Resources;
use super::sample::Sample;
use crate::telemetry::channel::{Connection, ConnectionError};
use crate::telemetry::otlp_endpoint::Target;
use crate::telemetry::otlp_metrics::Instruments;
use crate::telemetry::periodic_samples::Occasions;
use crate::telemetry::trace_queue::{Limits, Sending};

/// Where everything goes that is not asked for by a scraper.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Where spans go; `None`: nowhere, and none is kept.
    pub traces: Option<Target>,
    /// Where metrics go; `None`: to scrapers alone.
    pub metrics: Option<Target>,
}

/// Takes samples and never makes anybody wait.
#[derive(Debug)]
pub struct Exporter {
    metrics: Arc<Metrics>,
    instruments: Option<Instruments>,
    sending: Mutex<Option<Sending>>,
    occasions: Mutex<Occasions>,
}

impl Exporter {
    /// Starts what sends on `runtime`, which must have a worker of its own. `service` is the name of this program,
    /// unless `OTEL_SERVICE_NAME` gives another.
    pub fn start(
        service: &'static str,
        targets: &Targets,
        limits: Limits,
        runtime: &Handle,
    ) -> Result<Self, ConnectionError> {
        let metrics = Arc::new(Metrics::default());
        let resources = Resources::new(service);
        let instruments = (targets.metrics.as_ref())
            .map(|target| {
                let connection = Connection::new(target, runtime)?;
                Instruments::new(connection, resources.prober().clone(), &metrics, runtime)
            })
            .transpose()?;
        let sending = (targets.traces.as_ref())
            .map(|target| {
                let connection = Connection::new(target, runtime)?;
                Ok::<_, ConnectionError>(Sending::start(
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
            sending: Mutex::new(sending),
            occasions: Mutex::default(),
        })
    }

    /// Takes one sample: counted at once, sent later, dropped and counted as dropped where there is no room.
    pub fn record(&self, sample: Sample) {
        match sample {
            Sample::Handshake {
                node,
                peer_scope,
                route,
                family,
                outcome,
                cause,
                duration,
            } => {
                let way = Way {
                    route,
                    scope: peer_scope,
                    family,
                };
                let kind = Kind { way, outcome };
                self.metrics.handshake(&node, kind, cause, duration);
                if let Some((instruments, duration)) = self.instruments.as_ref().zip(duration) {
                    instruments.handshake(&node, kind, duration);
                }
            }
            Sample::Path {
                check,
                node,
                route,
                family,
                scope,
                healthy,
            } => {
                let way = Way {
                    route,
                    scope,
                    family,
                };
                self.metrics.path(&check, &node, way, healthy);
            }
            Sample::Node {
                check,
                node,
                healthy,
            } => self.metrics.node(&check, &node, healthy),
            Sample::Gone { check, node } => {
                let present = self.metrics.gone(&check, &node);
                if let Some(instruments) = &self.instruments {
                    instruments.gone(present);
                }
            }
            Sample::Coverage {
                check,
                pairs,
                total,
            } => self.metrics.coverage(&check, pairs, total),
            Sample::Agents {
                check,
                state,
                count,
            } => self.metrics.agents(&check, state, count),
            Sample::FirstConnectivity { node, duration } => {
                self.metrics.first_connectivity(&node, duration);
                if let Some(instruments) = &self.instruments {
                    instruments.first_connectivity(&node, duration);
                }
            }
            Sample::Failure(trace) => {
                let sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(sending) = &*sending {
                    sending.take(*trace);
                }
            }
        }
    }

    /// What was told already; a writer that panicked has told less.
    pub(super) fn occasions(&self) -> MutexGuard<'_, Occasions> {
        self.occasions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The figures, for a scraper.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Sends what is left, for `within` at most, half of which the metrics may take: they tell what was dropped. What
    /// is told afterwards is counted in the metrics alone.
    pub async fn flush(&self, within: Duration) {
        let share = match &self.instruments {
            Some(_) => within / 2,
            None => within,
        };
        let sending = (self.sending.lock())
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(sending) = sending {
            sending.finish(share).await;
        }
        if let Some(instruments) = &self.instruments {
            instruments.finish(share).await;
        }
    }
}
