//! The route that a node uses for a packet: its policy rules and tables, followed as the kernel follows them.
//!
//! Sources: `fib_rules_lookup` and `fib_rule_match` (net/core/fib_rules.c), `fib4_rule_action`, `fib4_rule_suppress`
//! (net/ipv4/fib_rules.c), `fib_table_lookup` (net/ipv4/fib_trie.c), `__fib6_rule_action` (net/ipv6/fib6_rules.c).
//! The type of service of routes, broadcast and multicast are not modelled.

use std::cmp::Reverse;
use std::net::IpAddr;

use super::{Link, Lookup, NodeFacts, Route, RouteKind, Rule, RuleAction};
use crate::packet::family::Family;

/// The input interface that rules name for packets of the node itself.
const LOOPBACK: &str = "lo";

/// A packet whose route is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteQuery<'a> {
    /// Its source address; `None` where the kernel is to choose one.
    pub source: Option<IpAddr>,
    /// Its destination address, after translation.
    pub destination: IpAddr,
    /// Where it came from.
    pub input: Input<'a>,
    /// Its mark; 0 unless netfilter or its socket set one.
    pub mark: u32,
}

/// The interface on which a packet arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// None: the node itself sends the packet.
    Own,
    /// This one.
    Interface(&'a str),
    /// One that is not known.
    Unknown,
}

impl RouteQuery<'_> {
    /// A packet of the node itself, without a source address and without a mark.
    pub fn to(destination: IpAddr) -> Self {
        Self {
            source: None,
            destination,
            input: Input::Own,
            mark: 0,
        }
    }
}

/// The result of a route lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution<'a> {
    /// The packet is delivered on the node itself: the destination is one of its addresses.
    Local,
    /// The packet takes this route. Of several next hops it is the first; [`NodeFacts::next_hops`] has all.
    Route(&'a Route),
    /// This route refuses or drops the packet: a blackhole, unreachable or prohibit route.
    RefusedByRoute(&'a Route),
    /// This rule refuses or drops the packet.
    RefusedByRule(&'a Rule),
    /// No table has a route: network unreachable.
    NoRoute,
    /// The facts do not decide it: rules, routes or addresses were not read, or a rule has a condition that is not known.
    Unread,
}

/// The effect of one rule.
enum Step<'a> {
    /// The lookup ends.
    End(Resolution<'a>),
    /// The lookup continues with the next rule.
    Next,
    /// The lookup continues with the rule of this priority.
    Goto(u32),
}

impl NodeFacts {
    /// The route of a packet, by the policy rules and all tables.
    ///
    /// Table `local` is not among the routes: an address of the node and a loopback address count as local.
    pub fn resolve(&self, query: RouteQuery<'_>) -> Resolution<'_> {
        let (Some(routes), Some(rules)) = (self.routes.as_deref(), &self.rules) else {
            return Resolution::Unread;
        };
        let family = Family::of(query.destination);
        let mut rules: Vec<&Rule> = rules.iter().filter(|rule| rule.family == family).collect();
        rules.sort_by_key(|rule| rule.priority);
        let mut position = 0;
        while let Some(rule) = rules.get(position) {
            position += 1;
            match self.step(rule, query, routes) {
                Step::End(end) => return end,
                Step::Next => {}
                // The kernel accepts only jumps forward, and ignores one without a target.
                Step::Goto(target) => {
                    let found = rules.iter().position(|rule| rule.priority == target);
                    position = found.unwrap_or(position).max(position);
                }
            }
        }
        Resolution::NoRoute
    }

    fn step<'a>(&self, rule: &'a Rule, query: RouteQuery<'_>, routes: &'a [Route]) -> Step<'a> {
        match rule.matches(query) {
            Some(false) => return Step::Next,
            None => return Step::End(Resolution::Unread),
            Some(true) => {}
        }
        match rule.action {
            RuleAction::Table(Route::LOCAL) => match self.is_local(query.destination) {
                None => Step::End(Resolution::Unread),
                Some(true) => Step::End(Resolution::Local),
                Some(false) => Step::Next,
            },
            RuleAction::Table(table) => look_up(rule, table, query, routes),
            RuleAction::Vrf => match self.is_in_vrf(query.input) {
                Some(false) => Step::Next,
                Some(true) | None => Step::End(Resolution::Unread),
            },
            RuleAction::Goto(priority) => Step::Goto(priority),
            RuleAction::Nop => Step::Next,
            RuleAction::Blackhole
            | RuleAction::Unreachable
            | RuleAction::Prohibit
            | RuleAction::Other(_) => Step::End(Resolution::RefusedByRule(rule)),
        }
    }

    /// All next hops of a route, itself among them: the routes of the same destination, table and metric.
    pub fn next_hops(&self, route: &Route) -> Vec<&Route> {
        let same = |other: &&Route| {
            (other.table, other.destination, other.source)
                == (route.table, route.destination, route.source)
                && (other.metric, other.kind) == (route.metric, route.kind)
        };
        self.routes.iter().flatten().filter(same).collect()
    }

    /// Whether packets to this address are delivered on the node; `None` where its addresses were not read.
    pub fn is_local(&self, ip: IpAddr) -> Option<bool> {
        if ip.is_loopback() {
            return Some(true);
        }
        match self.address(ip) {
            Lookup::Unread => None,
            Lookup::Absent => Some(false),
            Lookup::Found(_) => Some(true),
        }
    }

    /// Whether the interface is one of a VRF; `None` where that is not known.
    fn is_in_vrf(&self, input: Input<'_>) -> Option<bool> {
        let is_vrf = |link: &Link| link.kind.as_deref() == Some("vrf");
        let interface = match input {
            Input::Unknown if self.links.as_ref()?.iter().any(is_vrf) => return None,
            Input::Own | Input::Unknown => return Some(false),
            Input::Interface(name) => self.link(name).found()?,
        };
        let Some(master) = &interface.master else {
            return Some(false);
        };
        Some(is_vrf(self.link(master).found()?))
    }
}

impl Rule {
    /// Whether the rule is for this packet; `None` where a condition decides that is not read.
    pub fn matches(&self, query: RouteQuery<'_>) -> Option<bool> {
        let input = match (self.input.as_deref(), query.input) {
            (None, _) => Some(true),
            (Some(wanted), Input::Own) => Some(wanted == LOOPBACK),
            (Some(wanted), Input::Interface(name)) => Some(wanted == name),
            (Some(LOOPBACK), Input::Unknown) => Some(false),
            (Some(_), Input::Unknown) => None,
        };
        let known = self.from.is_none_or(|from| {
            query
                .source
                .map_or_else(|| from.prefix_len() == 0, |source| from.contains(&source))
        }) && self.to.is_none_or(|to| to.contains(&query.destination))
            && input != Some(false)
            && self.output.is_none()
            && self
                .mark
                .is_none_or(|mark| (mark.value ^ query.mark) & mark.mask == 0);
        if known && (self.has_other_conditions || input.is_none()) {
            None
        } else {
            Some(known != self.is_inverted)
        }
    }
}

/// Looks up a packet in one table: the longest prefix, then the lowest metric.
fn look_up<'a>(rule: &'a Rule, table: u32, query: RouteQuery<'_>, routes: &'a [Route]) -> Step<'a> {
    let candidates = routes.iter().filter(|route| {
        route.table == table
            && !route.is_dead
            && route.destination.contains(&query.destination)
            && route
                .source
                .is_none_or(|prefix| query.source.is_some_and(|source| prefix.contains(&source)))
    });
    let best = candidates.min_by_key(|route| {
        let source = route.source.map_or(0, |prefix| prefix.prefix_len());
        (
            Reverse((route.destination.prefix_len(), source)),
            route.metric,
        )
    });
    let Some(route) = best else {
        return Step::Next;
    };
    let shortest = rule.suppress_prefix_length;
    let is_suppressed =
        shortest.is_some_and(|length| u32::from(route.destination.prefix_len()) <= length);
    match route.kind {
        RouteKind::Throw => Step::Next,
        RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => {
            Step::End(Resolution::RefusedByRoute(route))
        }
        RouteKind::Local | RouteKind::Unicast | RouteKind::Other(_) if is_suppressed => Step::Next,
        RouteKind::Local => Step::End(Resolution::Local),
        RouteKind::Unicast | RouteKind::Other(_) => Step::End(Resolution::Route(route)),
    }
}

#[cfg(test)]
mod tests;
