//! The connections of one observer, from its packets in the order of time, in one pass.
//!
//! A packet belongs to the newest attempt with its addresses; an answer from another address, to the attempt whose number it
//! acknowledges.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::attempt::{Attempt, Leg};
use super::ending::{Ending, ending};
use super::host::Hosts;
use super::neighbours::Neighbours;
use super::seen::Seen;
use super::translation::is_translated;
use crate::packet::{Body, Icmp, Ip, Seq, Tcp, TcpFlags};
use crate::time::Timestamp;

/// How long a closed connection is kept for what may still come.
const LINGER: Duration = Duration::from_secs(2);

/// How long a connection without packets is kept: more than the longest time between SYNs of Linux, 64 s.
const IDLE: Duration = Duration::from_secs(150);

/// The number of open connections from which the finished ones are looked for.
const FIRST_SWEEP: usize = 4_096;

/// The most healthy connections of a pair of addresses that are kept with their packets.
const MAX_HEALTHY: u32 = 8;

/// The most failing connections of a pair of addresses that are kept with their packets.
const MAX_FAILING: u32 = 500;

/// The most packets that finished connections keep, and that open ones do.
const MAX_PACKETS: usize = 40_000;

/// The most healthy connections that are kept one by one.
const MAX_HEALTHY_IN_ALL: usize = 4_000;

/// The most failing connections that are kept one by one.
const MAX_FAILING_IN_ALL: usize = 6_000;

/// The most pairs of addresses whose connections are counted.
const MAX_COUNTED: usize = 20_000;

/// The packets of open connections from which those of established ones are given up.
const MANY_PACKETS: usize = 10_000;

/// The packets of an open connection that are kept in any case.
const FIRST_PACKETS: usize = 2;

/// The connections of one observer.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    open: Vec<Option<Box<Attempt>>>,
    free: Vec<usize>,
    by_pair: BTreeMap<(SocketAddr, SocketAddr), usize>,
    by_number: BTreeMap<u32, usize>,
    sweep_at: usize,
    kept: BTreeMap<(IpAddr, SocketAddr), (u32, u32)>,
    /// Packets of finished connections, and of open ones.
    packets: usize,
    open_packets: usize,
    /// The number of finished connections that are kept one by one: healthy ones, and failing ones.
    in_all: (usize, usize),
    /// Failing connections beyond those.
    pub(super) uncounted: u64,
    /// The number of healthy connections beyond those, by client and target.
    pub(super) healthy: BTreeMap<(IpAddr, SocketAddr), u64>,
    /// The finished attempts.
    pub(super) finished: Vec<Attempt>,
    /// Whether any packet goes to a client: a capture's filter may leave all of them out.
    pub(super) is_two_sided: bool,
    /// RSTs of connections of which the file has nothing else.
    pub(super) stray_resets: u64,
    /// What ARP and neighbour discovery say.
    pub(super) neighbours: Neighbours,
    /// The host that captured.
    pub(super) hosts: Hosts,
}

impl Tracker {
    /// Adds the next packet.
    pub(super) fn take(&mut self, seen: &Seen) {
        self.hosts.take(seen);
        match &seen.packet.body {
            Body::Tcp(ip, tcp) => self.segment(seen, ip, tcp),
            Body::Icmp(ip, message) => self.icmp(seen, ip, message),
            Body::Resolution(resolution) => self.neighbours.take(seen, resolution),
        }
        if self.open.len() - self.free.len() >= self.sweep_at.max(FIRST_SWEEP) {
            self.sweep(seen.at);
        }
    }

    /// Ends every connection at the end of the file.
    pub(super) fn finish(&mut self, until: Timestamp) {
        for place in 0..self.open.len() {
            self.close(place, until);
        }
        self.finished.sort_by_key(|attempt| attempt.started);
    }

    fn segment(&mut self, seen: &Seen, ip: &Ip, tcp: &Tcp) {
        let src = SocketAddr::new(ip.src, tcp.src_port);
        let dst = SocketAddr::new(ip.dst, tcp.dst_port);
        if tcp.flags.is_syn() {
            let (place, leg) = self.of_syn(seen, ip, tcp, src, dst);
            if let Some(Some(attempt)) = self.open.get_mut(place) {
                attempt.syn(seen, ip, tcp, leg);
                keep(attempt, seen, &mut self.open_packets);
            }
            return;
        }
        let place = self.of_segment(tcp, src, dst);
        let place = match place {
            Some(place) => place,
            // A RST to a connection that the file does not have.
            None if tcp.flags.has(TcpFlags::RST) => {
                self.is_two_sided = true;
                self.stray_resets += 1;
                return;
            }
            None => self.unstarted(seen, tcp, src, dst),
        };
        let Some(Some(attempt)) = self.open.get_mut(place) else {
            return;
        };
        let is_answer = tcp.flags.is_syn_ack();
        let by_client = !is_answer
            && attempt.is_client(src)
            && !(attempt.is_target(src) && attempt.is_client(dst));
        self.is_two_sided |= !by_client;
        if is_answer {
            attempt.syn_ack(seen, ip, tcp);
        } else {
            attempt.segment(seen, ip, tcp, by_client);
        }
        keep(attempt, seen, &mut self.open_packets);
        let is_accepted = || attempt.right_answer().is_some_and(|answer| answer.is_acked);
        if self.open_packets > MANY_PACKETS && by_client && is_accepted() {
            self.open_packets -= attempt.packets.len();
            attempt.packets = Vec::new();
        }
        if is_answer && !attempt.is_target(src) {
            self.by_pair.insert(pair(src, dst), place);
        }
    }

    /// The attempt of a segment that is no SYN.
    fn of_segment(&self, tcp: &Tcp, src: SocketAddr, dst: SocketAddr) -> Option<usize> {
        let own = self.by_pair.get(&pair(src, dst)).copied();
        let has_ack = tcp.flags.has(TcpFlags::ACK);
        let answers = tcp.flags.is_syn_ack() || (tcp.flags.has(TcpFlags::RST) && has_ack);
        let by_number = |number: Seq, is_of: &dyn Fn(&Attempt) -> bool| {
            let place = *self.by_number.get(&number.0.wrapping_sub(1))?;
            let attempt = self.open.get(place)?.as_ref()?;
            is_of(attempt).then_some(place)
        };
        let fits = |place: usize| {
            let attempt = self.open.get(place).and_then(Option::as_ref);
            attempt.is_some_and(|attempt| attempt.isn.is_some_and(|isn| isn.add(1) == tcp.ack))
        };
        if answers {
            if let Some(own) = own.filter(|place| fits(*place)) {
                return Some(own);
            }
            if let Some(place) = by_number(tcp.ack, &|attempt| attempt.is_client(dst)) {
                return Some(place);
            }
        }
        own.or_else(|| {
            let reset = tcp.flags.has(TcpFlags::RST);
            reset
                .then(|| by_number(tcp.seq, &|attempt| attempt.is_client(src)))
                .flatten()
        })
    }

    /// The attempt of a SYN, and the number of its pair of addresses there.
    fn of_syn(
        &mut self,
        seen: &Seen,
        ip: &Ip,
        tcp: &Tcp,
        client: SocketAddr,
        target: SocketAddr,
    ) -> (usize, usize) {
        let is_same = |attempt: &Attempt| attempt.isn == Some(tcp.seq);
        let leg = Leg {
            client,
            target,
            hop_limit: ip.hop_limit,
            link: seen.packet.link,
            direction: seen.direction,
            is_forwarded: false,
            tunnel: seen.tunnel,
        };
        if let Some(&place) = self.by_pair.get(&pair(client, target))
            && let Some(Some(attempt)) = self.open.get_mut(place)
            && is_same(attempt)
        {
            let known = attempt
                .legs
                .iter()
                .position(|leg| (leg.client, leg.target) == (client, target));
            if let Some(known) = known {
                return (place, known);
            }
            // A SYN+ACK alone was seen of it so far, from an address that was not asked.
            attempt.legs.push(leg);
            return (place, attempt.legs.len() - 1);
        }
        if let Some(&place) = self.by_number.get(&tcp.seq.0)
            && let Some(Some(attempt)) = self.open.get_mut(place)
            && is_same(attempt)
            && is_translated(attempt, seen, ip, tcp, client, target)
        {
            attempt
                .legs
                .retain(|leg| leg.hop_limit > 0 || (leg.client, leg.target) == (client, target));
            attempt.legs.push(leg);
            let number = attempt.legs.len() - 1;
            self.by_pair.insert(pair(client, target), place);
            return (place, number);
        }
        let place = self.open(Attempt::new(Some(tcp.seq), leg, seen.at));
        self.by_pair.insert(pair(client, target), place);
        self.by_number.insert(tcp.seq.0, place);
        (place, 0)
    }

    /// A connection whose SYN is not in the file.
    fn unstarted(&mut self, seen: &Seen, tcp: &Tcp, src: SocketAddr, dst: SocketAddr) -> usize {
        let is_answer = tcp.flags.is_syn_ack();
        // The server has the well-known port; of two others, the lower one.
        let from_client = !is_answer && src.port() > dst.port();
        let (client, target) = if from_client { (src, dst) } else { (dst, src) };
        let leg = Leg {
            client,
            target,
            hop_limit: 0,
            link: None,
            direction: None,
            is_forwarded: false,
            tunnel: seen.tunnel,
        };
        let isn = is_answer.then(|| Seq(tcp.ack.0.wrapping_sub(1)));
        let place = self.open(Attempt::new(isn, leg, seen.at));
        self.by_pair.insert(pair(src, dst), place);
        if let Some(isn) = isn {
            self.by_number.insert(isn.0, place);
        }
        place
    }

    fn icmp(&mut self, seen: &Seen, ip: &Ip, message: &Icmp) {
        let Some(quoted) = &message.quoted else {
            return;
        };
        let own = self.by_pair.get(&pair(quoted.src, quoted.dst)).copied();
        let by_number = || {
            let place = *self.by_number.get(&quoted.seq.0)?;
            let attempt = self.open.get(place)?.as_ref()?;
            attempt.is_client(quoted.src).then_some(place)
        };
        if let Some(place) = own.or_else(by_number)
            && let Some(Some(attempt)) = self.open.get_mut(place)
        {
            self.is_two_sided = true;
            attempt.error(seen, ip, message);
            keep(attempt, seen, &mut self.open_packets);
        }
    }

    fn open(&mut self, attempt: Attempt) -> usize {
        let Some(place) = self.free.pop() else {
            self.open.push(Some(Box::new(attempt)));
            return self.open.len() - 1;
        };
        if let Some(slot) = self.open.get_mut(place) {
            *slot = Some(Box::new(attempt));
        }
        place
    }

    /// Ends the connections that are closed, or that had no packet for long.
    fn sweep(&mut self, now: Timestamp) {
        for place in 0..self.open.len() {
            let Some(Some(attempt)) = self.open.get(place) else {
                continue;
            };
            let is_closed = attempt.ways.iter().all(|way| way.closed.is_some())
                || !attempt.resets.is_empty() && attempt.right_answer().is_some();
            let quiet = now.since(attempt.last);
            if quiet > IDLE || (is_closed && quiet > LINGER) {
                self.close(place, now);
                self.free.push(place);
            }
        }
        let open = self.open.len() - self.free.len();
        self.sweep_at = open.saturating_mul(2);
    }

    fn close(&mut self, place: usize, until: Timestamp) {
        let Some(mut attempt) = self.open.get_mut(place).and_then(Option::take) else {
            return;
        };
        for leg in &attempt.legs {
            let key = pair(leg.client, leg.target);
            if self.by_pair.get(&key) == Some(&place) {
                self.by_pair.remove(&key);
            }
        }
        for answer in &attempt.answers {
            for leg in &attempt.legs {
                let key = pair(leg.client, answer.from);
                if self.by_pair.get(&key) == Some(&place) {
                    self.by_pair.remove(&key);
                }
            }
        }
        if let Some(isn) = attempt.isn
            && self.by_number.get(&isn.0) == Some(&place)
        {
            self.by_number.remove(&isn.0);
        }
        let leg = attempt.first_leg();
        let key = (leg.client.ip(), leg.target);
        let is_healthy = ending(&attempt, until) == Ending::Established;
        let is_one_of_many = self.is_one_of_many(key, is_healthy);
        self.open_packets -= attempt.packets.len();
        let in_all = if is_healthy {
            &mut self.in_all.0
        } else {
            &mut self.in_all.1
        };
        let most_in_all = if is_healthy {
            MAX_HEALTHY_IN_ALL
        } else {
            MAX_FAILING_IN_ALL
        };
        if *in_all >= most_in_all {
            if !is_healthy {
                self.uncounted += 1;
            } else if self.healthy.len() < MAX_COUNTED || self.healthy.contains_key(&key) {
                *self.healthy.entry(key).or_default() += 1;
            }
            return;
        }
        *in_all += 1;
        if is_one_of_many || self.packets > MAX_PACKETS {
            attempt.packets = Vec::new();
        }
        attempt.shrink();
        self.packets += attempt.packets.len();
        self.finished.push(*attempt);
    }

    /// Counts a finished connection of a pair of addresses, and whether enough of its kind are kept with their packets.
    fn is_one_of_many(&mut self, key: (IpAddr, SocketAddr), is_healthy: bool) -> bool {
        let has_room = self.kept.len() < MAX_COUNTED || self.kept.contains_key(&key);
        if !has_room {
            return false;
        }
        let kept = self.kept.entry(key).or_default();
        let (count, most) = if is_healthy {
            (&mut kept.0, MAX_HEALTHY)
        } else {
            (&mut kept.1, MAX_FAILING)
        };
        *count += 1;
        *count > most
    }
}

/// Keeps a packet of an open connection, while there is room.
fn keep(attempt: &mut Attempt, seen: &Seen, open_packets: &mut usize) {
    attempt.last = attempt.last.max(seen.at);
    if attempt.packets.len() >= FIRST_PACKETS && *open_packets >= MAX_PACKETS {
        return;
    }
    let before = attempt.packets.len();
    attempt.keep(seen);
    *open_packets += attempt.packets.len() - before;
}

/// Both directions of a pair of addresses.
fn pair(one: SocketAddr, other: SocketAddr) -> (SocketAddr, SocketAddr) {
    (one.min(other), one.max(other))
}
