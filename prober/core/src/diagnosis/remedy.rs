//! What the steps of a remedy are made of.

/// Commands of Cilium.
pub(crate) mod cilium;

use super::Remedy;
use crate::packet::family::Family;

/// A step with its commands, which run as root on the node of the place.
pub(crate) fn step<S: Into<String>>(
    summary: &str,
    commands: impl IntoIterator<Item = S>,
) -> Remedy {
    Remedy {
        summary: summary.to_owned(),
        commands: commands.into_iter().map(Into::into).collect(),
    }
}

/// The program that lists and changes the rules of a family.
pub(crate) const fn tables(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "iptables",
        Family::Ipv6 => "ip6tables",
    }
}
