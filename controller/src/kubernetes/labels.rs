//! The marks that everything of a run carries: who made it, and which run it belongs to.

use std::collections::BTreeMap;

/// The label that names what a thing is.
pub const NAME: &str = "app.kubernetes.io/name";

/// Its value on everything that a run places.
pub const AGENT_NAME: &str = "prober-agent";

/// The label that names who made a thing.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Its value, which is also the field manager of every change.
pub const PROBER: &str = "prober";

/// The label that names the run.
pub const RUN: &str = "prober.dev/run";

/// The label that names the check that a run is made for.
pub const CHECK: &str = "prober.dev/check";

/// All labels of a run's objects.
pub fn run_labels(run: &str) -> BTreeMap<String, String> {
    [(NAME, AGENT_NAME), (MANAGED_BY, PROBER), (RUN, run)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Selects what was placed for a check.
pub fn check_selector(check: &str) -> String {
    format!("{NAME}={AGENT_NAME},{MANAGED_BY}={PROBER},{CHECK}={check}")
}

/// Selects the objects of one run, or of any.
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
    fn a_run_is_selected_by_the_labels_that_it_carries() {
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
