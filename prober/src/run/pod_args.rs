//! What a user chooses of the pods of a run in a cluster.

/// The pods that a run places.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct PodArgs {
    /// A Secret of the namespace with credentials for the image's registry; may be given several times
    #[arg(long = "image-pull-secret", value_name = "SECRET")]
    pub(crate) image_pull_secrets: Vec<String>,

    /// The PriorityClass of the agents [default: the cluster's]
    #[arg(long, value_name = "CLASS")]
    pub(crate) priority_class: Option<String>,

    /// Resources that each agent requests [default: cpu=100m,memory=24Mi]
    #[arg(long, value_name = "NAME=AMOUNT,...", value_delimiter = ',', value_parser = quantity)]
    pub(crate) requests: Vec<(String, String)>,

    /// The limits of each agent's resources [default: cpu=1,memory=128Mi]
    #[arg(long, value_name = "NAME=AMOUNT,...", value_delimiter = ',', value_parser = quantity)]
    pub(crate) limits: Vec<(String, String)>,

    /// A taint that agents tolerate besides those that their nodes have; may be given several times
    #[arg(long = "toleration", value_name = "KEY[=VALUE][:EFFECT]", value_parser = toleration)]
    pub(crate) tolerations: Vec<Toleration>,
}

/// A taint that agents tolerate, as it is written on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Toleration {
    /// Its key.
    pub(crate) key: String,
    /// Its value; `None`: any.
    pub(crate) value: Option<String>,
    /// Its effect; `None`: any.
    pub(crate) effect: Option<String>,
}

#[cfg(feature = "cluster")]
impl PodArgs {
    /// Returns the options of the pods.
    pub(crate) fn options(&self) -> controller::manifest::pod_options::PodOptions {
        use std::collections::BTreeMap;

        use controller::manifest::pod_options::{PodOptions, ToleratedTaint};

        let amounts = |chosen: &[(String, String)]| -> BTreeMap<String, String> {
            chosen.iter().cloned().collect()
        };
        let toleration = |toleration: &Toleration| ToleratedTaint {
            key: Some(toleration.key.clone()),
            value: toleration.value.clone(),
            effect: toleration.effect.clone(),
        };
        PodOptions {
            image_pull_secrets: self.image_pull_secrets.clone(),
            priority_class: self.priority_class.clone(),
            requests: amounts(&self.requests),
            limits: amounts(&self.limits),
            tolerations: self.tolerations.iter().map(toleration).collect(),
        }
    }
}

/// Parses a resource and its amount, such as `cpu=100m`, as `kubectl set resources` takes them. The API server checks the amount.
fn quantity(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, amount)) if !name.is_empty() && !amount.is_empty() => {
            Ok((name.to_owned(), amount.to_owned()))
        }
        Some(_) | None => {
            Err("expected a resource and its amount, such as cpu=100m or memory=24Mi".to_owned())
        }
    }
}

/// Parses a taint, as `kubectl taint` takes it: a key, and optionally a value and an effect.
fn toleration(text: &str) -> Result<Toleration, String> {
    const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let (taint, effect) = match text.rsplit_once(':') {
        Some((taint, effect)) => (taint, Some(effect)),
        None => (text, None),
    };
    if let Some(effect) = effect.filter(|effect| !EFFECTS.contains(effect)) {
        return Err(format!(
            "unknown effect '{effect}': expected one of {}",
            EFFECTS.join(", ")
        ));
    }
    let (key, value) = match taint.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (taint, None),
    };
    if key.is_empty() {
        return Err(
            "expected KEY, KEY=VALUE or KEY=VALUE:EFFECT, as `kubectl taint` takes them".to_owned(),
        );
    }
    Ok(Toleration {
        key: key.to_owned(),
        value,
        effect: effect.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_a_name_and_an_amount() {
        assert_eq!(quantity("cpu=5m"), Ok(("cpu".to_owned(), "5m".to_owned())));
        for text in ["", "cpu", "cpu=", "=5m"] {
            assert!(quantity(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tolerations_are_written_as_taints() {
        let parsed = |key: &str, value: Option<&str>, effect: Option<&str>| {
            Ok(Toleration {
                key: key.to_owned(),
                value: value.map(str::to_owned),
                effect: effect.map(str::to_owned),
            })
        };
        for (text, expected) in [
            ("dedicated", parsed("dedicated", None, None)),
            (
                "a.b/c=gpu:NoSchedule",
                parsed("a.b/c", Some("gpu"), Some("NoSchedule")),
            ),
            ("a:NoExecute", parsed("a", None, Some("NoExecute"))),
        ] {
            assert_eq!(toleration(text), expected, "{text}");
        }
        for text in ["", "=gpu", "a:Never", ":NoExecute"] {
            assert!(toleration(text).is_err(), "{text}");
        }
    }
}
