//! Queueing disciplines and filters.

use netlink_packet_route::tc::{
    TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption, TcStats2,
};
use prober_core::node_facts::{Qdisc, TcDirection, TcFilter};

use crate::node_facts::network::LinkNames;

/// Whether the discipline is one that only holds filters, by direction: `ingress` or `clsact`.
pub(in crate::node_facts::network) fn has_directions(message: &TcMessage) -> bool {
    message.header.parent == TcHandle::INGRESS
}

/// The parent of the filters of a direction (`TC_H_MIN_INGRESS`, `TC_H_MIN_EGRESS`, include/uapi/linux/pkt_sched.h).
pub(in crate::node_facts::network) fn parent(direction: TcDirection) -> TcHandle {
    let minor = match direction {
        TcDirection::Ingress => TcHandle::MIN_INGRESS,
        TcDirection::Egress => TcHandle::MIN_EGRESS,
    };
    TcHandle {
        major: u16::MAX,
        minor,
    }
}

/// The discipline of an interface, and one below it if it dropped packets; none for `noqueue`, which cannot drop.
pub(in crate::node_facts::network) fn qdisc(
    message: &TcMessage,
    names: &LinkNames,
) -> Option<Qdisc> {
    let kind = kind(message)?;
    let dropped = message
        .attributes
        .iter()
        .find_map(dropped)
        .unwrap_or_default();
    let is_first = message.header.parent == TcHandle::ROOT || has_directions(message);
    (kind != "noqueue" && (is_first || dropped > 0)).then(|| Qdisc {
        dev: name(message, names),
        kind: kind.to_owned(),
        dropped,
    })
}

/// A filter; none for a list of filters, which the kernel dumps before its members, without a handle.
pub(in crate::node_facts::network) fn filter(
    message: &TcMessage,
    direction: TcDirection,
    names: &LinkNames,
) -> Option<TcFilter> {
    if message.header.handle == TcHandle::UNSPEC {
        return None;
    }
    let mut filter = TcFilter {
        dev: name(message, names),
        direction,
        kind: kind(message)?.to_owned(),
        // The priority is the upper half, the protocol the lower one (`TC_H_MAKE(prio << 16, protocol)`, tc(8)).
        priority: u16::try_from(message.header.info >> 16).ok()?,
        program: None,
        program_id: None,
    };
    for attribute in &message.attributes {
        let TcAttribute::Options(options) = attribute else {
            continue;
        };
        for option in options {
            if let TcOption::Bpf(TcFilterBpfOption::ProgName(name)) = option {
                filter.program = Some(name.clone());
            } else if let TcOption::Bpf(TcFilterBpfOption::ProgId(id)) = option {
                filter.program_id = Some(*id);
            }
        }
    }
    Some(filter)
}

fn name(message: &TcMessage, names: &LinkNames) -> String {
    names.get(message.header.index.cast_unsigned())
}

fn kind(message: &TcMessage) -> Option<&str> {
    message.attributes.iter().find_map(|attribute| {
        if let TcAttribute::Kind(kind) = attribute {
            Some(kind.as_str())
        } else {
            None
        }
    })
}

fn dropped(attribute: &TcAttribute) -> Option<u32> {
    let TcAttribute::Stats2(stats) = attribute else {
        return None;
    };
    stats.iter().find_map(|stats| {
        if let TcStats2::Queue(queue) = stats {
            Some(queue.drops)
        } else {
            None
        }
    })
}
