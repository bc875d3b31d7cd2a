//! Whether selectors of the API select the agents' pods, as far as their labels are known.

use std::collections::BTreeMap;

use serde_json::Value;

/// The label that every namespace has with its own name.
///
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-metadata-name>
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The agents' pods: their labels, and those of their namespace.
#[derive(Clone, Copy, Debug)]
pub struct AgentPods<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The labels of the namespace; `None` where they could not be read.
    pub namespace_labels: Option<&'a BTreeMap<String, String>>,
    /// The labels of the pods.
    pub labels: &'a BTreeMap<String, String>,
}

/// The value of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label<'a> {
    /// This one.
    Value(&'a str),
    /// There is no such label.
    Absent,
    /// The label is not known.
    Unknown,
}

impl<'a> Label<'a> {
    /// The label of a map that is known as a whole.
    pub(super) fn of(labels: &'a BTreeMap<String, String>, key: &str) -> Self {
        labels
            .get(key)
            .map_or(Self::Absent, |value| Self::Value(value))
    }

    /// Whether its value satisfies a condition; `None` where it is not known.
    pub(super) fn is(self, condition: impl Fn(Option<&str>) -> bool) -> Option<bool> {
        match self {
            Self::Value(value) => Some(condition(Some(value))),
            Self::Absent => Some(condition(None)),
            Self::Unknown => None,
        }
    }
}

impl<'a> AgentPods<'a> {
    /// A label of the pods.
    pub(super) fn label(&self, key: &str) -> Label<'a> {
        Label::of(self.labels, key)
    }

    /// A label of their namespace.
    pub(super) fn namespace_label(&self, key: &str) -> Label<'a> {
        match self.namespace_labels {
            Some(labels) => Label::of(labels, key),
            None if key == NAMESPACE_NAME => Label::Value(self.namespace),
            None => Label::Unknown,
        }
    }
}

/// Both conditions; `None` where an unknown one decides.
pub(super) const fn both(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        (None, _) | (_, None) => None,
    }
}

/// Whether a label selector selects labels; an empty or absent one selects all. `None` where that is not known.
///
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#resources-that-support-set-based-requirements>
pub(super) fn selects<'a>(selector: &Value, label: impl Fn(&str) -> Label<'a>) -> Option<bool> {
    let mut is_selected = Some(true);
    for (key, wanted) in selector["matchLabels"].as_object().into_iter().flatten() {
        let wanted = wanted.as_str()?;
        let matches = label(key).is(|value| value == Some(wanted));
        is_selected = both(is_selected, matches);
    }
    for requirement in selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
    {
        is_selected = both(is_selected, meets(requirement, &label));
    }
    is_selected
}

fn meets<'a>(requirement: &Value, label: impl Fn(&str) -> Label<'a>) -> Option<bool> {
    let value = label(requirement["key"].as_str()?);
    let values = requirement["values"].as_array();
    let is_listed = |value: Option<&str>| {
        let mut listed = values.into_iter().flatten().filter_map(Value::as_str);
        value.is_some_and(|value| listed.any(|one| one == value))
    };
    match requirement["operator"].as_str()? {
        "In" => value.is(is_listed),
        "NotIn" => value.is(|value| !is_listed(value)),
        "Exists" => value.is(|value| value.is_some()),
        "DoesNotExist" => value.is(|value| value.is_none()),
        // The API has no other operator. A future one may select the pod.
        _ => None,
    }
}

/// Whether a selector selects nothing away: it is absent or has no requirement.
pub(super) fn is_everything(selector: &Value) -> bool {
    let is_empty = |part: &Value| match part {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    is_empty(selector)
        || (selector.as_object().is_some_and(|map| {
            map.iter().all(|(key, part)| {
                matches!(key.as_str(), "matchLabels" | "matchExpressions") && is_empty(part)
            })
        }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selected(selector: &Value) -> Option<bool> {
        let labels = BTreeMap::from([("app".to_owned(), "prober".to_owned())]);
        selects(selector, |key| match key {
            "secret" => Label::Unknown,
            key => {
                let value = labels.get(key).map(String::as_str);
                value.map_or(Label::Absent, |_| Label::Value("prober"))
            }
        })
    }

    #[test]
    fn a_selector_selects_what_meets_all_of_its_requirements() {
        for (selector, expected) in [
            (json!(null), Some(true)),
            (json!({}), Some(true)),
            (json!({"matchLabels": {"app": "prober"}}), Some(true)),
            (json!({"matchLabels": {"app": "shop"}}), Some(false)),
            (json!({"matchLabels": {"app": 3}}), None),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["shop"]},
                                            {"key": "legacy", "operator": "DoesNotExist"},
                                            {"key": "app", "operator": "Exists"}]}),
                Some(true),
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["shop"]}]}),
                Some(false),
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "Like", "values": ["p*"]}]}),
                None,
            ),
            (json!({"matchExpressions": [{}, 7, null]}), None),
            (json!("all"), Some(true)),
        ] {
            assert_eq!(selected(&selector), expected, "{selector}");
        }
    }

    #[test]
    fn an_unknown_label_decides_only_where_no_known_one_does() {
        let secret = json!({"matchLabels": {"secret": "x"}});
        assert_eq!(selected(&secret), None);
        let both = json!({"matchLabels": {"secret": "x", "app": "shop"}});
        assert_eq!(selected(&both), Some(false));
    }
}
