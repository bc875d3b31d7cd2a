//! One probe: SYNs until an answer comes, the exchange after the handshake, and what both ends observe of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use prober_core::evidence::Evidence;
use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;
use prober_core::packet::observation::Direction;
use prober_core::packet::{ResolutionKind, Seq, TcpFlags};
use prober_core::probe::outcome::{EngineKind, Errno, Exchange, Outcome};
use prober_core::topology::PathId;

use super::address::{Agent, Role, ServicePort, bridge_mac, gateway_ip, gateway_mac};
use super::cluster::{Cluster, PodLink, Rule};
use super::conntrack::Tables;
use super::observe::{self, MS, Segment};
use super::packet::{Arrival, Counts, Flow, Icmp, IcmpError, Packet, Router, Stop};
use super::profile::Translation;
use super::progress::Progress;
use super::walk::{Moment, Walk};

/// SYNs of one probe, a second apart, before its deadline.
const ATTEMPTS: usize = 3;
/// The Ethernet address of a pod that has another's IP address.
const DUPLICATE_MAC: Mac = Mac([0x0a, 0x58, 0, 0, 0xdd, 1]);

/// The simulated time and network.
pub(crate) struct Network<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) counts: &'a mut Counts,
    pub(crate) tables: Tables,
    /// The last initial sequence number.
    pub(crate) isn: u32,
}

/// A probe to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) path: PathId,
    pub(crate) client: Agent,
    pub(crate) target: SocketAddr,
    pub(crate) engine: EngineKind,
    /// Its number on its path.
    pub(crate) number: usize,
    pub(crate) start_ms: u64,
    pub(crate) has_echo: bool,
}

/// How an attempt ended.
pub(crate) enum Answer {
    None,
    Final(Outcome),
    /// From an address that was not probed.
    WrongSource(SocketAddr),
    /// SYN+ACK from the target, by this server.
    Established(Agent),
}

/// The reaction of a pod's kernel to a SYN.
pub(crate) enum Reaction {
    SynAck,
    Reset,
    /// Another pod has the address, and refuses.
    ResetByDuplicate,
    None,
}

impl Network<'_> {
    pub(crate) fn walk(&mut self, request: &Request, attempt: usize) -> Walk<'_> {
        let moment = Moment {
            path: usize::try_from(request.path.0).unwrap(),
            probe: request.number,
            attempt,
            ms: request.start_ms + u64::try_from(attempt).unwrap() * 1000,
        };
        Walk {
            cluster: self.cluster,
            counts: self.counts,
            tables: &mut self.tables,
            moment,
        }
    }

    /// Sends a probe; returns both ends.
    pub(crate) fn probe(&mut self, request: Request) -> Evidence {
        self.isn += 1;
        let family = Family::of(request.target.ip());
        let ip = self.cluster.ip(request.client, family);
        let port = 40_000 + u16::try_from(self.isn % 20_000).unwrap();
        let src = SocketAddr::new(ip, port);
        let (peer, refused) = self.connect_address(&request);
        let mut progress = Progress {
            request,
            flow: Flow {
                client: request.client,
                src,
                target: peer,
                translated: None,
                is_confirmed: false,
            },
            isn: Seq(self.isn * 100_000),
            server_isn: Seq(self.isn * 100_000 + 50_000),
            client: Vec::new(),
            servers: BTreeMap::new(),
        };
        if let Some(errno) = refused {
            return progress.evidence(Outcome::RefusedLocally { errno }, 0, Exchange::NotTried);
        }
        let mut wrong_source = None;
        for attempt in 0..ATTEMPTS {
            let syns = u32::try_from(attempt).unwrap() + 1;
            match self.attempt(&mut progress, attempt) {
                Answer::None => {}
                Answer::WrongSource(from) => wrong_source = Some(from),
                Answer::Final(outcome) => {
                    let is_unsent = matches!(outcome, Outcome::RefusedLocally { .. });
                    let syns = if is_unsent { 0 } else { syns };
                    return progress.evidence(outcome, syns, Exchange::NotTried);
                }
                Answer::Established(server) => {
                    let late = u64::try_from(attempt).unwrap() * 1000 * MS;
                    let exchange = self.exchange(&mut progress, server, attempt);
                    let outcome = Outcome::Established {
                        rtt_ns: MS / 10,
                        connect_ns: late + MS / 10,
                    };
                    return progress.evidence(outcome, syns, exchange);
                }
            }
        }
        let outcome = match wrong_source {
            Some(from) if progress.has_capture() => Outcome::Mismatched { from },
            Some(_) | None => Outcome::Timeout,
        };
        let syns = u32::try_from(ATTEMPTS).unwrap();
        progress.evidence(outcome, syns, Exchange::NotTried)
    }

    /// The address that the socket connects to: a backend, where BPF inside connect(2) translates; or its errno.
    fn connect_address(&self, request: &Request) -> (SocketAddr, Option<Errno>) {
        let target = request.target;
        let translates = self.cluster.profile.translation == Translation::Socket
            && request.engine == EngineKind::Kernel
            && request.client.role != Role::Host;
        let Some(port) = ServicePort::at(target).filter(|_| translates) else {
            return (target, None);
        };
        let family = Family::of(target.ip());
        let node = request.client.node;
        match self.cluster.rule(node, port, family, request.number) {
            Rule::Leads(backend) => (backend, None),
            Rule::NoEndpoint | Rule::NoLocalEndpoint => (target, Some(Errno::Ehostunreach)),
            Rule::Missing => (target, None),
        }
    }

    fn attempt(&mut self, progress: &mut Progress, attempt: usize) -> Answer {
        let request = progress.request;
        let at = progress.at(attempt);
        let syn = Packet::new(progress.flow.src, progress.flow.target, TcpFlags::SYN);
        let mut flow = progress.flow;
        let arrived = self
            .walk(&request, attempt)
            .deliver_to_server(&mut flow, syn);
        progress.flow = flow;
        if let Err(Stop::Refused(errno)) = arrived {
            return Answer::Final(Outcome::RefusedLocally { errno });
        }
        let segment = Segment::new(TcpFlags::SYN, progress.isn, Seq(0));
        self.client_sends(progress, at, syn, segment);
        match arrived {
            Ok(arrival) => self.answer(progress, attempt, arrival),
            Err(Stop::Error(error)) => self.refuse(progress, attempt, &error),
            Err(Stop::ForgedReset { node, is_bridged }) => {
                let mut walk = self.walk(&request, attempt);
                let answer = walk.forged_reset(&flow, node, is_bridged);
                self.receive_answer(
                    progress,
                    at,
                    answer,
                    TcpFlags::RST.with(TcpFlags::ACK),
                    None,
                )
            }
            Err(Stop::Returned(arrival)) => progress.returned(attempt, arrival),
            Err(Stop::Dropped | Stop::Refused(_)) => Answer::None,
        }
    }

    /// At the pod that a SYN reached.
    fn answer(&mut self, progress: &mut Progress, attempt: usize, arrival: Arrival) -> Answer {
        let (server, at) = (arrival.at, progress.at(attempt));
        let reaction = self.reaction(arrival);
        let (flags, mac) = match reaction {
            Reaction::SynAck => (TcpFlags::SYN_ACK, None),
            Reaction::Reset => (TcpFlags::RST.with(TcpFlags::ACK), None),
            Reaction::ResetByDuplicate => (TcpFlags::RST.with(TcpFlags::ACK), Some(DUPLICATE_MAC)),
            Reaction::None => {
                progress.server_receives(arrival, at, TcpFlags::SYN);
                return Answer::None;
            }
        };
        let reply = Packet::new(arrival.packet.dst, arrival.packet.src, flags);
        if mac.is_none() {
            progress.server_receives(arrival, at, TcpFlags::SYN);
            let segment = Segment::new(flags, progress.server_isn, progress.isn.add(1));
            self.server_sends(progress, server, at, reply, segment);
        } else if arrival.src_mac == progress.request.client.mac() {
            let ip = arrival.packet.dst.ip();
            let claim = |mac| observe::resolution(at, ResolutionKind::Reply, (ip, mac), ip);
            progress
                .client
                .extend([claim(server.mac()), claim(DUPLICATE_MAC)]);
        }
        let flow = progress.flow;
        let mut answer = self
            .walk(&progress.request, attempt)
            .deliver_to_client(&flow, server, reply);
        if let (Ok(arrival), Some(mac)) = (&mut answer, mac)
            && arrival.src_mac == server.mac()
        {
            arrival.src_mac = mac;
        }
        self.receive_answer(progress, at, answer, flags, Some(server))
    }

    pub(crate) fn reaction(&mut self, arrival: Arrival) -> Reaction {
        let Some(pod) = self.cluster.pods.get(&arrival.at) else {
            return Reaction::Reset;
        };
        if pod.is_duplicated {
            return Reaction::ResetByDuplicate;
        }
        if !pod.is_listening && arrival.packet.dst.port() == super::address::RESPONDER {
            self.counts.pod(arrival.at, "TcpOutRsts");
            return Reaction::Reset;
        }
        if pod.has_full_accept_queue {
            self.counts.pod(arrival.at, "TcpExtListenOverflows");
            self.counts.pod(arrival.at, "TcpExtListenDrops");
            return Reaction::None;
        }
        Reaction::SynAck
    }

    /// At the client, from any source.
    fn receive_answer(
        &mut self,
        progress: &mut Progress,
        at: u64,
        answer: Result<Arrival, Stop>,
        flags: TcpFlags,
        server: Option<Agent>,
    ) -> Answer {
        let Ok(arrival) = answer else {
            return Answer::None;
        };
        let segment = Segment::new(flags, progress.server_isn, progress.isn.add(1));
        progress.client_receives(arrival, at + MS / 10, segment);
        let from = arrival.packet.src;
        let is_syn_ack = flags.is_syn_ack();
        if from != progress.flow.target {
            if is_syn_ack && progress.request.engine == EngineKind::Kernel {
                self.refuse_stray(progress, at, from);
            }
            return Answer::WrongSource(from);
        }
        match server.filter(|_| is_syn_ack) {
            Some(server) => Answer::Established(server),
            None => Answer::Final(Outcome::Reset {
                by: from.ip(),
                hop_limit: arrival.packet.ttl,
            }),
        }
    }

    /// The client's kernel has no socket for a SYN+ACK from there, and refuses it by a RST.
    fn refuse_stray(&mut self, progress: &mut Progress, at: u64, from: SocketAddr) {
        let reset = Packet {
            is_stray: true,
            ..Packet::new(progress.flow.src, from, TcpFlags::RST)
        };
        let segment = Segment::new(TcpFlags::RST, progress.isn.add(1), Seq(0));
        self.client_sends(progress, at + MS / 9, reset, segment);
        let mut flow = Flow {
            target: from,
            translated: None,
            is_confirmed: false,
            ..progress.flow
        };
        let arrived = self
            .walk(&progress.request, 0)
            .deliver_to_server(&mut flow, reset);
        if let Ok(arrival) = arrived {
            progress.server_receives(arrival, at + MS / 8, TcpFlags::RST);
            // The next SYN opens a new connection there.
            progress.server_isn = progress.server_isn.add(7);
        }
    }

    fn refuse(&mut self, progress: &mut Progress, attempt: usize, error: &IcmpError) -> Answer {
        let (flow, request) = (progress.flow, progress.request);
        let Ok(arrival) = self.walk(&request, attempt).error_to_client(&flow, error) else {
            return Answer::None;
        };
        // Errors of a failed resolution come when the last SYN has been sent.
        if error.after_ms > 0 && attempt + 1 < ATTEMPTS {
            return Answer::None;
        }
        let at = progress.at(0) + error.after_ms * MS + MS / 5;
        let family = Family::of(flow.src.ip());
        let is_own_bridge = error.by == Router::Node(request.client.node)
            && self.cluster.profile.is_bridged()
            && family == Family::Ipv4
            && error.after_ms > 0;
        let dead = flow.translated.map(|to| to.backend.ip());
        if let Some(dead) = dead
            .filter(|ip| is_own_bridge && self.cluster.range_of(*ip) == Some(request.client.node))
        {
            let node = request.client.node;
            let gateway = gateway_ip(self.cluster.profile, node, family);
            let sender = (gateway, bridge_mac(node));
            let kind = ResolutionKind::Request;
            progress
                .client
                .push(observe::resolution(at - 2, kind, sender, dead));
        }
        let macs = (arrival.src_mac, request.client.mac());
        let quoted = (flow.src, flow.target, progress.isn);
        let seen = observe::icmp(at, macs, arrival.packet, error, quoted);
        progress.client.push(seen);
        match error.what {
            Icmp::TimeExceeded => Answer::None,
            Icmp::Unreachable(reason) => Answer::Final(Outcome::Unreachable {
                by: progress.has_capture().then_some(arrival.packet.src.ip()),
                reason,
            }),
        }
    }

    pub(crate) fn client_sends(
        &self,
        progress: &mut Progress,
        at: u64,
        packet: Packet,
        segment: Segment,
    ) {
        let client = progress.request.client;
        let macs = (client.mac(), self.next_hop(client, packet));
        let macs = if packet.dst.ip() == packet.src.ip() {
            (Mac::LOOPBACK, Mac::LOOPBACK)
        } else {
            macs
        };
        progress
            .client
            .push(observe::tcp(at, Direction::Sent, macs, packet, segment));
        let next_pod = self.next_pod(client, packet);
        if next_pod.is_some_and(|pod| self.cluster.pods[&pod].link != PodLink::Up) {
            let (sender, target) = ((packet.src.ip(), client.mac()), packet.dst.ip());
            let request = observe::resolution(at + MS, ResolutionKind::Request, sender, target);
            progress.client.push(request);
        }
    }

    pub(crate) fn server_sends(
        &self,
        progress: &mut Progress,
        server: Agent,
        at: u64,
        packet: Packet,
        segment: Segment,
    ) {
        let macs = (server.mac(), self.next_hop(server, packet));
        let sent = observe::tcp(at, Direction::Sent, macs, packet, segment);
        progress.servers.entry(server).or_default().push(sent);
    }

    /// The Ethernet address that an agent sends a packet to.
    fn next_hop(&self, agent: Agent, packet: Packet) -> Mac {
        let pod = self.next_pod(agent, packet);
        pod.map_or_else(|| gateway_mac(self.cluster.profile, agent), Agent::mac)
    }

    /// The pod that an agent sends a packet to without a router.
    fn next_pod(&self, agent: Agent, packet: Packet) -> Option<Agent> {
        self.cluster.pod_at(packet.dst.ip()).filter(|pod| {
            let profile = self.cluster.profile;
            profile.is_layer_2() || (profile.is_bridged() && pod.node == agent.node)
        })
    }
}
