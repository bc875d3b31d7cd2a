//! Who tells: this program, and the agents in whose name it tells what they saw.

use std::env;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;

use super::trace::Teller;

/// The resources of one program. Each carries what `OTEL_RESOURCE_ATTRIBUTES` says, such as the cluster's name.
#[derive(Clone, Debug)]
pub(super) struct Resources {
    prober: Resource,
}

impl Resources {
    /// `service` is the name of the program, unless `OTEL_SERVICE_NAME` gives another.
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

    pub(super) fn of(&self, teller: &Teller) -> Resource {
        match teller {
            Teller::Prober => self.prober.clone(),
            Teller::Agent(agent) => Resource::builder()
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
