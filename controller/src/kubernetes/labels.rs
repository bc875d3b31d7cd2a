//! The labels of every object of a run: its kind, its manager, its run and its check.

use std::collections::BTreeMap;

/// The key of the label for the application.
pub const NAME: &str = "app.kubernetes.io/name";

/// The value of [`NAME`] on every object of a run.
pub const AGENT_NAME: &str = "prober-agent";

/// The key of the label for the tool that manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The value of [`MANAGED_BY`], which is also the field manager of every change.
pub const PROBER: &str = "prober";

/// The key of the label for the part that an object is of its application.
pub const COMPONENT: &str = "app.kubernetes.io/component";

/// The key of the label for the larger application that an object is part of.
pub const PART_OF: &str = "app.kubernetes.io/part-of";

/// The key of the label for the run.
pub const RUN: &str = "prober.dev/run";

/// The key of the label for the ConnectivityCheck of a run, where it has one.
pub const CHECK: &str = "prober.dev/check";

/// The labels of the objects of `run`.
pub fn run_labels(run: &str) -> BTreeMap<String, String> {
    [(NAME, AGENT_NAME), (MANAGED_BY, PROBER), (RUN, run)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The label selector for the objects of one check.
pub fn check_selector(check: &str) -> String {
    format!("{NAME}={AGENT_NAME},{MANAGED_BY}={PROBER},{CHECK}={check}")
}

/// The label selector for the objects of one run, or of all runs.
///
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>
pub fn run_selector(run: Option<&str>) -> String {
    let run = match run {
        Some(run) => format!("{RUN}={run}"),
        None => RUN.to_owned(),
    };
    format!("{NAME}={AGENT_NAME},{MANAGED_BY}={PROBER},{run}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selector_matches_the_labels_of_a_run() {
        let all: Vec<String> = run_labels("prober-k3x9q2")
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let mut selected: Vec<String> = run_selector(Some("prober-k3x9q2"))
            .split(',')
            .map(str::to_owned)
            .collect();
        selected.sort();
        assert_eq!(selected, all);
        assert!(run_selector(None).ends_with(",prober.dev/run"));
    }
}
