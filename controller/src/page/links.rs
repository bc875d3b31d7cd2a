//! The addresses of pages. Names are query parameters, so that none of them changes the path.

use form_urlencoded::Serializer;

use super::state::{Grouping, NodeHealth};

/// The page of a node.
pub(super) fn node(name: &str) -> String {
    with("/node", &[("name", name)])
}

/// The page of an outage.
pub(super) fn outage(id: &str) -> String {
    with("/outage", &[("id", id)])
}

/// The report in which an outage was found.
pub(super) fn report(id: &str) -> String {
    with("/api/v1/report.json", &[("outage", id)])
}

/// The overview, grouped by a property.
pub(super) fn grouped(grouping: Grouping) -> String {
    with("/", &[("group", grouping.as_str())])
}

/// The list of nodes in a state, with a value of a property.
pub(super) fn nodes(health: NodeHealth, grouping: Grouping, value: &str) -> String {
    with(
        "/nodes",
        &[("state", health.as_str()), (grouping.as_str(), value)],
    )
}

fn with(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = Serializer::new(String::new());
    query.extend_pairs(parameters);
    format!("{path}?{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_parameter() {
        assert_eq!(node("a&b=c/<d>"), "/node?name=a%26b%3Dc%2F%3Cd%3E");
    }
}
