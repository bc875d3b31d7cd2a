//! Every cause is named from the evidence that it was measured to give, and no other cause is.

#![expect(
    clippy::unwrap_used,
    reason = "a matrix that was not built so is a defect of the test"
)]

#[path = "diagnosis/aws_vpc.rs"]
mod aws_vpc;
#[path = "diagnosis/builder.rs"]
mod builder;
#[path = "diagnosis/checksums.rs"]
mod checksums;
#[path = "diagnosis/cilium.rs"]
mod cilium;
#[path = "diagnosis/conntrack.rs"]
mod conntrack;
#[path = "diagnosis/endpoint.rs"]
mod endpoint;
#[path = "diagnosis/filtering.rs"]
mod filtering;
#[path = "diagnosis/loss.rs"]
mod loss;
#[path = "diagnosis/next_hop.rs"]
mod next_hop;
#[path = "diagnosis/node_routes.rs"]
mod node_routes;
#[path = "diagnosis/overlay.rs"]
mod overlay;
#[path = "diagnosis/second_pod.rs"]
mod second_pod;
#[path = "diagnosis/senders.rs"]
mod senders;
#[path = "diagnosis/service.rs"]
mod service;
#[path = "diagnosis/socket_level.rs"]
mod socket_level;
#[path = "diagnosis/start_up.rs"]
mod start_up;
#[path = "diagnosis/translation.rs"]
mod translation;
#[path = "diagnosis/two_faults.rs"]
mod two_faults;

use prober_core::diagnosis::{Confidence, Diagnosis, diagnose};
use prober_core::evidence::Matrix;

/// The diagnoses: cause, node, confidence; `unknown` without a cause.
fn named(matrix: &Matrix) -> Vec<String> {
    let name = |diagnosis: &Diagnosis| {
        let cause = diagnosis.cause.map_or("unknown", |cause| cause.slug());
        let node = diagnosis.node.as_ref().map_or("-", |node| node.as_str());
        let sure = match diagnosis.confidence {
            Confidence::Proven => "proven",
            Confidence::Consistent => "consistent",
        };
        format!("{cause} {node} {sure}")
    };
    diagnose(matrix).iter().map(name).collect()
}
