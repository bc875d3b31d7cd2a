//! The causes that leave the packets of a failure, the most common first.

use super::ending::{Acks, Ending};
use super::host::Position;
use super::join::Connection;
use super::paths::Group;
use crate::diagnosis::catalogue::Cause;
use crate::packet::Unreachable;

/// The causes of the catalogue that leave such packets, apart from the named one, in a sentence; `None` where there are none.
pub(super) fn sentence(
    named: Option<Cause>,
    group: Option<&Group>,
    connection: &Connection,
) -> Option<String> {
    let others: Vec<&str> = (candidates(group, connection).iter())
        .filter(|cause| named != Some(**cause))
        .map(|cause| cause.slug())
        .collect();
    let which = if named.is_some() {
        "other causes that leave such packets"
    } else {
        "causes that leave such packets"
    };
    (!others.is_empty()).then(|| {
        format!(
            "{which}, the most common first: {} (`prober explain NAME`)",
            others.join(", ")
        )
    })
}

fn candidates(group: Option<&Group>, connection: &Connection) -> &'static [Cause] {
    match connection.ending {
        Ending::Unanswered { .. } if group.is_some_and(super::loss::has_dead_server) => &[
            Cause::StaleEndpoint,
            Cause::NetworkPolicy,
            Cause::RouteMissing,
        ],
        Ending::Unanswered { .. } => unanswered(connection),
        Ending::Refused { .. } => &[
            Cause::NotListening,
            Cause::StaleEndpoint,
            Cause::RejectReset,
        ],
        Ending::RefusedElsewhere { .. } => &[Cause::RejectReset, Cause::NotListening],
        Ending::Unreachable { reason, .. } => match reason {
            Unreachable::Port => &[Cause::NoEndpoints, Cause::RejectReset],
            Unreachable::Host => &[Cause::StaleEndpoint, Cause::PodRouteMissing],
            Unreachable::Network => &[Cause::RouteMissing, Cause::NoEndpoints],
            Unreachable::Prohibited => &[Cause::NetworkPolicy, Cause::ForwardDrop],
            Unreachable::Other => &[Cause::RouteMissing],
        },
        Ending::WrongAddress { .. } => &[Cause::BridgeNetfilterOff, Cause::ReplyBypassesNat],
        Ending::RefusedByClient => &[Cause::ReplyBypassesNat, Cause::BridgeNetfilterOff],
        Ending::AnsweredTwice => &[Cause::DuplicateIp],
        Ending::HalfOpen { acks, .. } => match acks {
            Acks::Missing => &[Cause::RpFilter, Cause::ForwardDrop, Cause::ReplyBypassesNat],
            Acks::Sent => &[
                Cause::AcceptQueueFull,
                Cause::ForwardDrop,
                Cause::PacketLoss,
            ],
            Acks::Arrived => &[Cause::AcceptQueueFull],
        },
        Ending::NeverAcknowledged { .. } | Ending::Missing { .. } | Ending::TooBig { .. } => {
            &[Cause::MtuBlackHole, Cause::PacketLoss, Cause::BadChecksum]
        }
        Ending::ResetAfterHandshake { is_foreign, .. } => {
            if is_foreign {
                &[Cause::InvalidReset, Cause::RejectReset, Cause::DuplicateIp]
            } else {
                &[Cause::InvalidReset, Cause::DuplicateIp]
            }
        }
        Ending::Looping { .. } => &[Cause::RouteMissing, Cause::WrongNextHop],
        Ending::GivenUp { .. }
        | Ending::Late { .. }
        | Ending::Established
        | Ending::Undecided { .. } => &[],
    }
}

/// Silence: by how far the SYNs get, and the answers.
fn unanswered(connection: &Connection) -> &'static [Cause] {
    const AT_SERVER: &[Cause] = &[
        Cause::NetworkPolicy,
        Cause::AcceptQueueFull,
        Cause::RpFilter,
    ];
    let Some(server) = &connection.server else {
        return match connection.client.position {
            Position::Server => AT_SERVER,
            Position::Client | Position::InTransit => &[
                Cause::NetworkPolicy,
                Cause::ForwardDrop,
                Cause::StaleEndpoint,
                Cause::OverlayBlocked,
                Cause::RouteMissing,
            ],
        };
    };
    match (server.position, server.attempt.answers.is_empty()) {
        (_, false) => &[
            Cause::ForwardDrop,
            Cause::OverlayBlocked,
            Cause::NetworkPolicy,
            Cause::RpFilter,
            Cause::RouteMissing,
        ],
        (Position::Server, true) => AT_SERVER,
        (Position::Client | Position::InTransit, true) => &[
            Cause::ForwardDrop,
            Cause::NetworkPolicy,
            Cause::OverlayBlocked,
            Cause::RouteMissing,
            Cause::StaleEndpoint,
        ],
    }
}
