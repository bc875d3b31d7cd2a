//! The OpenTelemetry resources: this program, and the agents whose observations it sends.

use std::env;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;

use super::trace::SpanSource;

/// The resources of one program. Each has the attributes of `OTEL_RESOURCE_ATTRIBUTES`, such as the cluster's name.
#[derive(Clone, Debug)]
pub(super) struct Resources {
    prober: Resource,
}

impl Resources {
    /// `service` is the service name, unless `OTEL_SERVICE_NAME` is set.
    pub(super) fn new(service: &'static str) -> Self {
        let mut builder = Resource::builder();
        if env::var_os("OTEL_SERVICE_NAME").is_none() {
            builder = builder.with_service_name(service);
        }
        Self {
            prober: builder.with_attribute(version()).build(),
        }
    }

    pub(super) const fn prober(&self) -> &Resource {
        &self.prober
    }

    pub(super) fn of_source(&self, source: &SpanSource) -> Resource {
        match source {
            SpanSource::Prober => self.prober.clone(),
            SpanSource::Agent(agent) => Resource::builder()
                .with_service_name("prober-agent")
                .with_attributes([
                    version(),
                    KeyValue::new("k8s.node.name", agent.node.to_string()),
                    KeyValue::new("k8s.pod.name", agent.pod.clone()),
                ])
                .build(),
        }
    }
}

fn version() -> KeyValue {
    KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))
}
