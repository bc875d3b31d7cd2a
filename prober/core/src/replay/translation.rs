//! Whether two SYNs with one number are one SYN before and after a translation.

use std::net::SocketAddr;
use std::time::Duration;

use super::attempt::Attempt;
use super::seen::Seen;
use super::way::is_copied;
use crate::packet::{Ip, Tcp};

/// Whether a SYN with the number of an attempt is its SYN after a translation: one end is the same, and it left at once.
pub(super) fn is_translated(
    attempt: &Attempt,
    seen: &Seen,
    ip: &Ip,
    tcp: &Tcp,
    client: SocketAddr,
    target: SocketAddr,
) -> bool {
    let is_one_end = attempt.is_client(client) || attempt.is_target(target);
    // Only its answer was seen so far.
    if attempt.syns.is_empty() {
        return attempt.is_client(client);
    }
    let stamp = tcp.options.timestamps.map(|(value, _)| value);
    // Between IPv6 and IPv4 the translator gives it another identification.
    let is_of_family = attempt.first_leg().client.is_ipv4() == client.is_ipv4();
    attempt.syns.iter().any(|syn| {
        let at_once = seen.at.since(syn.at) <= Duration::from_millis(20);
        at_once
            && syn.stamp == stamp
            && (!is_of_family || is_copied(syn.ident, ip.ident, seen.at, syn.at))
            && (is_one_end || stamp.is_some())
    })
}
