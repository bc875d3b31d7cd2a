//! `route-missing` for one pod: a policy rule sends its packets to a table that leads nowhere, while other pods of its node have
//! another table.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::one_pod::{PodFlow, pod_of};
use super::route_missing::{fault, restart};
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::location::{Spot, Stage};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::FailureGroup;
use crate::node_facts::{NodeFacts, Route, RouteQuery, Rule, RuleAction};
use crate::packet::family::Family;
use crate::topology::{AgentId, NodeName, Path};

/// The model.
pub(crate) struct RouteOfPod;

impl Model for RouteOfPod {
    fn cause(&self) -> Cause {
        Cause::RouteMissing
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let mut places = PodFlow::ends(case, family);
        places.retain(|place| pod_of(place).is_some_and(|pod| has_own_table(case, pod, family)));
        places
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        PodFlow::From.predict(place, path)
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let location = PodFlow::From.location(case, place, group);
        location.is_some_and(|location| {
            location.meets(|spot| match spot {
                // The packets may leave by the route of another table.
                Spot::Wire(..) => true,
                Spot::Node(node, stage) => {
                    *node == location.sender && matches!(stage, Stage::Routing | Stage::ToUplink)
                }
            })
        })
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let Some(pod) = pod_of(place) else {
            return Fingerprint::Missing(Vec::new());
        };
        let bad = case.at(groups).find_map(|group| {
            let server = group.server.as_ref()?;
            let other = if group.client == *pod {
                server
            } else {
                &group.client
            };
            bad_route(case, pod, other, place.family)
        });
        match bad {
            Some(said) => Fingerprint::Seen(Proof::Facts, said),
            None => Fingerprint::Refuted(format!(
                "the table that a policy rule of {} chooses for {pod} has a route",
                pod.node
            )),
        }
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let Some(pod) = pod_of(place) else {
            return Vec::new();
        };
        let ip = match place.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip -6",
        };
        let rule = own_rules(case, pod, place.family).next();
        let show =
            rule.map(|(_, table)| format!("{ip} rule; {ip} route show table {table}; {ip} link"));
        let mut steps = vec![step(
            "See the pod's rule, the routes of its table and the link to which they lead. Setting a link up does not bring its routes back.",
            show,
        )];
        steps.push(step(
            "Restart the network plugin's agent on this node: it writes the rules and tables.",
            restart(case, place),
        ));
        steps
    }
}

/// The policy rules for packets of this pod alone, with their tables.
fn own_rules<'c>(
    case: &'c Case<'_>,
    pod: &AgentId,
    family: Family,
) -> impl Iterator<Item = (&'c Rule, u32)> {
    let address = case.address(pod, family);
    let rules = case.facts(&pod.node).and_then(|facts| facts.rules.as_ref());
    let is_own = move |rule: &Rule| {
        let of_pod = |address: IpAddr| rule.from == Some(address.into());
        rule.family == family && !rule.is_inverted && address.is_some_and(of_pod)
    };
    rules
        .into_iter()
        .flatten()
        .filter_map(move |rule| match rule.action {
            RuleAction::Table(table) if table != Route::MAIN && is_own(rule) => Some((rule, table)),
            RuleAction::Table(_)
            | RuleAction::Vrf
            | RuleAction::Goto(_)
            | RuleAction::Nop
            | RuleAction::Blackhole
            | RuleAction::Unreachable
            | RuleAction::Prohibit
            | RuleAction::Other(_) => None,
        })
}

fn has_own_table(case: &Case<'_>, pod: &AgentId, family: Family) -> bool {
    own_rules(case, pod, family).next().is_some()
}

/// The fault of the route of a pod's packets to a pod of another node, in sentences; `None` where it is correct or is that of
/// all pods of the node.
fn bad_route(
    case: &Case<'_>,
    pod: &AgentId,
    other: &AgentId,
    family: Family,
) -> Option<Vec<String>> {
    let facts = case.facts(&pod.node)?;
    let source = case.address(pod, family)?;
    let to = case.address(other, family)?;
    let query = case.plane.senders().query(&pod.node, source, to)?;
    let (rule, table) =
        own_rules(case, pod, family).find(|(rule, _)| rule.matches(query) == Some(true))?;
    let rule = format!(
        "policy rule {} of {} sends the packets of {source}, its pod {pod}, to table {table}",
        rule.priority, pod.node
    );
    let view = |resolution| fault(case, &pod.node, &other.node, to, resolution);
    if let Some(fault) = view(facts.resolve(query)) {
        // Where all pods have the same, it is one of the node.
        let of_all = case.plane.senders().agree_on(facts, &pod.node, to, view);
        return of_all.is_none().then(|| vec![fault, rule]);
    }
    let is_passed_over = !has_route(facts, table, query);
    is_passed_over.then(|| {
        let nowhere = format!("{rule}, which has no route to {to}: they leave as those of no rule");
        let down = interface_down(facts, &pod.node, table, family);
        std::iter::once(nowhere).chain(down).collect()
    })
}

/// Whether a table has a usable route for a packet.
fn has_route(facts: &NodeFacts, table: u32, query: RouteQuery<'_>) -> bool {
    // Without the routes nothing is shown.
    facts.routes.as_ref().is_none_or(|routes| {
        routes.iter().any(|route| {
            route.table == table && !route.is_dead && route.destination.contains(&query.destination)
        })
    })
}

/// The interface of a table that is down: that whose own address has a rule for the table.
fn interface_down(
    facts: &NodeFacts,
    node: &NodeName,
    table: u32,
    family: Family,
) -> Option<String> {
    let rules = facts.rules.iter().flatten();
    let mut of_table = rules
        .filter(|rule| rule.family == family && rule.action == RuleAction::Table(table))
        .filter_map(|rule| rule.from);
    of_table.find_map(|from| {
        let own = facts.address(from.addr()).found()?;
        let link = facts.link(&own.dev).found().filter(|link| !link.up)?;
        Some(format!(
            "{} of {node}, whose own address has the same table, is down",
            link.name
        ))
    })
}
