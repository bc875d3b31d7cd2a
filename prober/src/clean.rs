//! `prober clean`: finds and removes the objects that runs left in a cluster.

use std::process::ExitCode;

use anyhow::Context as _;
use controller::kubernetes::kubeconfig::{KubeconfigEnv, connect};
use controller::kubernetes::runtime::block_on;
use controller::one_shot::cleanup::{SearchScope, find, remove};
use controller::one_shot::leftovers::{Leftover, ObjectKind, RunState};
use serde_json::json;

use crate::connect_args::ConnectArgs;
use crate::show;
use crate::values::ListFormat;

/// Finds and removes what runs have left behind.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A run removes what it has placed; the cluster does it where the run was killed. This command \
    is for what is left nevertheless, and for runs with --keep. A run whose Job is still active is left alone unless \
    --run names it.\n\n\
    Exit status: 0 nothing is left but what was left alone, 2 could not do it.\n\n\
    Examples:\n  \
    prober clean --all-namespaces --dry-run\n  \
    prober clean -n prod\n  \
    prober clean -n prod --run prober-k3x9q2"
)]
pub(crate) struct CleanArgs {
    /// In every namespace
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,

    /// Only this run, even if it is still active
    #[arg(long, value_name = "RUN", value_parser = run_name)]
    run: Option<String>,

    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,

    /// The output format
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    output: ListFormat,

    /// The cluster to connect to
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The outcome of the leftovers of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CleanupResult {
    /// They are removed.
    Removed,
    /// They would be removed without `--dry-run`.
    WouldBeRemoved,
    /// They are kept: the run is active, and `--run` does not name it.
    LeftAlone,
}

/// Runs `prober clean`.
pub(crate) fn clean(args: &CleanArgs) -> anyhow::Result<ExitCode> {
    let results =
        block_on(find_and_remove(args)).context("cannot start the Kubernetes client")??;
    show::list(args.output, || text(&results), || document(&results))?;
    Ok(ExitCode::SUCCESS)
}

/// Finds the leftovers of every run in scope, and removes those that `result` selects.
async fn find_and_remove(args: &CleanArgs) -> anyhow::Result<Vec<(Leftover, CleanupResult)>> {
    let connection = connect(&args.connect.options(), &KubeconfigEnv::current()).await?;
    let scope = if args.all_namespaces {
        SearchScope::AllNamespaces
    } else {
        SearchScope::Namespace
    };
    let mut results = Vec::new();
    for leftover in find(&connection, scope, args.run.as_deref()).await? {
        let result = result(args, &leftover);
        if result == CleanupResult::Removed {
            remove(&connection, &leftover).await?;
        }
        results.push((leftover, result));
    }
    Ok(results)
}

/// Decides the outcome of the leftovers of one run.
fn result(args: &CleanArgs, leftover: &Leftover) -> CleanupResult {
    match leftover.state {
        RunState::Active if args.run.is_none() => CleanupResult::LeftAlone,
        RunState::Active | RunState::Finished | RunState::Orphaned if args.dry_run => {
            CleanupResult::WouldBeRemoved
        }
        RunState::Active | RunState::Finished | RunState::Orphaned => CleanupResult::Removed,
    }
}

/// Renders the outcomes as text, one line for each run.
fn text(results: &[(Leftover, CleanupResult)]) -> String {
    if results.is_empty() {
        return "Nothing is left of any run.\n".to_owned();
    }
    let lines: Vec<String> = results
        .iter()
        .map(|(leftover, result)| {
            let Leftover { namespace, run, .. } = leftover;
            let objects = object_counts(leftover);
            match result {
                CleanupResult::Removed => format!("{run} in {namespace}: removed {objects}\n"),
                CleanupResult::WouldBeRemoved => format!("{run} in {namespace}: would remove {objects}\n"),
                CleanupResult::LeftAlone => format!(
                    "{run} in {namespace}: still active, left alone ({objects}); `prober clean -n {namespace} --run {run}` \
                     removes it\n"
                ),
            }
        })
        .collect();
    lines.concat()
}

/// Returns the number of objects of each kind, such as `1 Job, 4 Pods, 2 Services`.
fn object_counts(leftover: &Leftover) -> String {
    let kinds = [
        ObjectKind::Job,
        ObjectKind::Pod,
        ObjectKind::Service,
        ObjectKind::EndpointSlice,
    ];
    let counted = kinds.iter().filter_map(|kind| {
        let objects = leftover.objects.iter();
        match objects.filter(|object| object.kind == *kind).count() {
            0 => None,
            1 => Some(format!("1 {kind}")),
            several => Some(format!("{several} {kind}s")),
        }
    });
    counted.collect::<Vec<_>>().join(", ")
}

/// Returns the outcomes as a document of the schema `prober.dev/clean/v1`.
fn document(results: &[(Leftover, CleanupResult)]) -> serde_json::Value {
    let runs: Vec<_> = results
        .iter()
        .map(|(leftover, result)| {
            let objects = leftover.objects.iter();
            let objects = objects
                .map(|object| json!({"kind": object.kind.as_str(), "name": object.name}))
                .collect::<Vec<_>>();
            json!({
                "namespace": leftover.namespace,
                "run": leftover.run,
                "state": leftover.state.as_str(),
                "result": match result {
                    CleanupResult::Removed => "removed",
                    CleanupResult::WouldBeRemoved => "would-be-removed",
                    CleanupResult::LeftAlone => "left-alone",
                },
                "objects": objects,
            })
        })
        .collect();
    json!({"schema": "prober.dev/clean/v1", "runs": runs})
}

/// Parses the name of a run, which is the value of a label: 1 to 63 of `a-z`, `0-9` and `-`, as in an RFC 1123 label.
fn run_name(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty()
        && text.len() <= 63
        && text
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if is_name {
        return Ok(text.to_owned());
    }
    Err("not the name of a run: `prober clean --dry-run` lists them".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use controller::one_shot::leftovers::LeftoverObject;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(words: &[&str]) -> CleanArgs {
        let words = [&["prober", "clean"], words].concat();
        let command = Cli::try_parse_from(words)
            .expect("the words go together")
            .command;
        let Command::Clean(args) = command else {
            panic!("{command:?} does not clean")
        };
        args
    }

    fn leftover(run: &str, state: RunState) -> Leftover {
        let object = |kind, name: &str| LeftoverObject {
            kind,
            name: name.to_owned(),
            uid: String::new(),
            owners: Vec::new(),
        };
        Leftover {
            namespace: "prod".to_owned(),
            run: run.to_owned(),
            state,
            objects: vec![
                object(ObjectKind::Job, run),
                object(ObjectKind::Pod, "a"),
                object(ObjectKind::Pod, "b"),
            ],
        }
    }

    #[test]
    fn a_run_that_is_alive_is_left_alone_unless_it_is_named() {
        for (words, state, expected) in [
            ([].as_slice(), RunState::Active, CleanupResult::LeftAlone),
            (&["--dry-run"], RunState::Active, CleanupResult::LeftAlone),
            (
                &["--run", "prober-a"],
                RunState::Active,
                CleanupResult::Removed,
            ),
            (
                &["--run", "prober-a", "--dry-run"],
                RunState::Active,
                CleanupResult::WouldBeRemoved,
            ),
            (&[], RunState::Finished, CleanupResult::Removed),
            (&[], RunState::Orphaned, CleanupResult::Removed),
            (
                &["-A", "--dry-run"],
                RunState::Orphaned,
                CleanupResult::WouldBeRemoved,
            ),
        ] {
            let found = result(&args(words), &leftover("prober-a", state));
            assert_eq!(found, expected, "{words:?} {state:?}");
        }
    }

    #[test]
    fn what_is_said_reads_like_this() {
        let results = [
            (
                leftover("prober-a", RunState::Finished),
                CleanupResult::Removed,
            ),
            (
                leftover("prober-b", RunState::Orphaned),
                CleanupResult::WouldBeRemoved,
            ),
            (
                leftover("prober-c", RunState::Active),
                CleanupResult::LeftAlone,
            ),
        ];
        let json = serde_json::to_string_pretty(&document(&results)).expect("JSON");
        insta::assert_snapshot!(format!("{}{}\n{json}", text(&results), text(&[])));
    }

    #[test]
    fn a_name_that_is_no_labels_value_is_refused() {
        assert!(run_name("prober-k3x9q2").is_ok());
        for name in ["", "a=b", "a,b", "A", &"a".repeat(64)] {
            assert!(run_name(name).is_err(), "{name}");
        }
    }
}
