//! The rules of each kind of policy, in one direction.

use serde_json::Value;

use super::effect::{Direction, Effect, Share, has_empty_selector};

fn list<'a>(spec: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    spec[field].as_array().into_iter().flatten()
}

/// Whether none of these fields of a rule has content.
fn lacks(rule: &Value, fields: &[&str]) -> bool {
    fields.iter().all(|field| match &rule[field] {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    })
}

/// A pod that any policy selects is isolated in the directions of the policy, except for what some policy allows.
///
/// <https://kubernetes.io/docs/concepts/services-networking/network-policies/#the-two-sorts-of-pod-isolation>
pub(super) fn kubernetes(spec: &Value, direction: Direction) -> Effect {
    let isolates = match spec["policyTypes"].as_array() {
        Some(types) => types.iter().any(|one| one == direction.policy_type()),
        None => direction == Direction::Ingress || list(spec, "egress").next().is_some(),
    };
    let peers = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let allowed = list(spec, direction.field()).map(|rule| {
        if lacks(rule, &[peers, "ports"]) {
            Share::Everything
        } else {
            Share::Some
        }
    });
    Effect {
        isolates,
        allows: allowed.max().unwrap_or_default(),
        ..Effect::default()
    }
}

/// A rule isolates unless `enableDefaultDeny` says otherwise; one without peers and ports allows nothing, and a deny rule has
/// precedence over all that allow.
///
/// <https://docs.cilium.io/en/stable/security/policy/language/#rule-basics>
pub(super) fn cilium(spec: &Value, direction: Direction) -> Effect {
    let (allow, deny, ends, all) = match direction {
        Direction::Ingress => ("ingress", "ingressDeny", "fromEndpoints", "fromEntities"),
        Direction::Egress => ("egress", "egressDeny", "toEndpoints", "toEntities"),
    };
    let share = |rule: &Value| {
        if rule.as_object().is_none_or(serde_json::Map::is_empty) {
            return Share::Nothing;
        }
        let has_all = |entities: &Value| {
            let mut entities = entities.as_array().into_iter().flatten();
            entities.any(|entity| entity == "all")
        };
        let is_for_all = has_all(&rule[all]) || has_empty_selector(&rule[ends], None);
        if is_for_all && lacks(rule, &["toPorts", "icmps", "authentication"]) {
            Share::Everything
        } else {
            Share::Some
        }
    };
    let has_rules = list(spec, allow).chain(list(spec, deny)).next().is_some();
    let is_default_deny = spec["enableDefaultDeny"][direction.field()] != Value::Bool(false);
    Effect {
        isolates: has_rules && is_default_deny,
        allows: list(spec, allow).map(share).max().unwrap_or_default(),
        denies: list(spec, deny).map(share).max().unwrap_or_default(),
        is_final: true,
    }
}

/// Rules apply in their order, and the first that matches decides; what none matches is denied.
///
/// <https://docs.tigera.io/calico/latest/reference/resources/networkpolicy>
pub(super) fn calico(spec: &Value, direction: Direction) -> Effect {
    let has = |direction: Direction| list(spec, direction.field()).next().is_some();
    let isolates = match spec["types"].as_array() {
        Some(types) => types.iter().any(|one| one == direction.policy_type()),
        None => match direction {
            Direction::Ingress => has(Direction::Ingress) || !has(Direction::Egress),
            Direction::Egress => has(Direction::Egress),
        },
    };
    let conditions = [
        "ipVersion",
        "protocol",
        "notProtocol",
        "icmp",
        "notICMP",
        "source",
        "destination",
        "http",
    ];
    let rules = list(spec, direction.field())
        .map(|rule| (rule["action"].as_str(), lacks(rule, &conditions)));
    Effect {
        isolates,
        ..in_order(rules)
    }
}

/// Rules apply in their order, and the first that matches decides; what none matches is left to other policies.
///
/// <https://network-policy-api.sigs.k8s.io/api-overview/>
pub(super) fn admin(spec: &Value, direction: Direction) -> Effect {
    let peers = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    in_order(list(spec, direction.field()).map(|rule| {
        let is_for_all = has_empty_selector(&rule[peers], Some("namespaces"));
        let is_everything = is_for_all && lacks(rule, &["ports", "protocols"]);
        (rule["action"].as_str(), is_everything)
    }))
}

/// What rules do that apply in their order, each with its action and whether it matches everything.
fn in_order<'a>(rules: impl Iterator<Item = (Option<&'a str>, bool)>) -> Effect {
    let mut effect = Effect::default();
    for (action, is_everything) in rules {
        let is_first = effect.allows == Share::Nothing && effect.denies == Share::Nothing;
        let share = if is_everything && is_first {
            Share::Everything
        } else {
            Share::Some
        };
        match action {
            Some("Allow" | "Accept" | "Pass") => effect.allows = effect.allows.max(share),
            Some("Deny") => effect.denies = effect.denies.max(share),
            Some("Log") => continue,
            // An action that is not known may be either.
            Some(_) | None => {
                effect.allows = effect.allows.max(Share::Some);
                effect.denies = effect.denies.max(Share::Some);
            }
        }
        if is_everything {
            break;
        }
    }
    effect
}
