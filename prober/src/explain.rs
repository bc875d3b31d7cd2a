//! `prober explain`: the causes that can be named, and the page of each.

use std::process::ExitCode;

use anyhow::bail;
use prober_core::diagnosis::catalogue::Cause;

use crate::show;
use crate::values::ListForm;

/// Lists the causes, or tells all about one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    prober explain\n  \
    prober explain bridge-netfilter-off\n  \
    prober explain -o json")]
pub(crate) struct ExplainArgs {
    /// The cause, such as bridge-netfilter-off; without it, all are listed
    cause: Option<String>,

    /// The form
    #[arg(short, long, value_enum, default_value = "text")]
    output: ListForm,
}

/// Lists or tells.
pub(crate) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let causes = match &args.cause {
        None => Cause::ALL.to_vec(),
        Some(name) => vec![find(name)?],
    };
    match (args.output, &args.cause) {
        (ListForm::Json, _) => show::text(&json(&causes)?)?,
        (ListForm::Text, None) => show::text(&list(&causes))?,
        (ListForm::Text, Some(_)) => {
            for cause in causes {
                show::text(&cause.page().to_string())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn find(name: &str) -> anyhow::Result<Cause> {
    if let Ok(cause) = name.parse() {
        return Ok(cause);
    }
    let slugs = Cause::ALL.iter().map(|cause| cause.slug());
    match nearest(name, slugs) {
        Some(near) => {
            bail!("there is no cause '{name}'; did you mean {near}? `prober explain` lists them")
        }
        None => bail!("there is no cause '{name}'; `prober explain` lists them"),
    }
}

/// The most similar of `known`, if one is similar at all.
pub(crate) fn nearest<'a>(asked: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|one| (strsim::jaro_winkler(asked, one), one))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, one)| one)
}

fn list(causes: &[Cause]) -> String {
    let lines: Vec<String> = causes
        .iter()
        .map(|cause| format!("{:<24} {}\n", cause.slug(), cause.meaning()))
        .collect();
    lines.concat()
}

fn json(causes: &[Cause]) -> anyhow::Result<String> {
    let list: Vec<_> = causes
        .iter()
        .map(|cause| serde_json::json!({"cause": cause.slug(), "meaning": cause.meaning(), "page": cause.page().to_string()}))
        .collect();
    Ok(serde_json::to_string_pretty(&list)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_cause_is_guessed_and_nonsense_is_not() {
        let error = find("bridge-netfiter-off").unwrap_err().to_string();
        assert!(
            error.contains("did you mean bridge-netfilter-off?"),
            "{error}"
        );
        let error = find("zzz").unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }
}
