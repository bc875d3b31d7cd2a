//! `prober lab`: the lab by hand: what can break it, and one that stays up.

/// How a second terminal talks to a lab that is up.
mod control;
/// A lab that stays up.
mod up;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use prober_lab::{Fault, FaultAt, LabSpec};

use crate::cli::ListForm;
use crate::show;
use control::{Line, Request};

/// Builds a small network of namespaces, and breaks it by hand.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    prober lab up                                    in one terminal\n  \
    prober lab shell node-1-client                   in another\n  \
    prober lab inject bridge-netfilter-off@node-1\n  \
    prober lab heal\n  \
    prober lab faults -o json")]
pub(crate) struct LabArgs {
    /// Where a lab that is up listens for inject, heal and shell [default: prober/lab.sock in the user's cache]
    #[arg(long, value_name = "PATH", env = "PROBER_LAB_SOCKET", global = true)]
    socket: Option<PathBuf>,

    /// What to do
    #[command(subcommand)]
    action: Action,
}

/// What can be done with a lab.
#[derive(Debug, Subcommand)]
enum Action {
    /// List every fault that can be injected, and what must then be named
    #[command(after_help = "Examples:\n  prober lab faults\n  prober lab faults -o json")]
    Faults {
        /// The form
        #[arg(short, long, value_enum, default_value = "text")]
        output: ListForm,
    },
    /// Keep a lab up in this terminal until Ctrl-C
    #[command(after_help = "Examples:\n  \
        prober lab up\n  \
        prober lab up --nodes 3 --fault stale-rules@node-2")]
    Up {
        /// How many nodes it has
        #[arg(long, value_name = "N", default_value_t = 2, env = "PROBER_NODES")]
        nodes: u8,
        /// Break it from the start; may be given several times
        #[arg(long = "fault", value_name = "FAULT[@NODE]")]
        faults: Vec<FaultAt>,
    },
    /// Open a shell in a node or a pod of the lab that is up
    #[command(after_help = "Examples:\n  \
        prober lab shell node-1\n  \
        prober lab shell node-1-client -- ip route")]
    Shell {
        /// A node or a pod, such as node-1 or node-1-client
        #[arg(value_name = "NODE-OR-POD")]
        place: String,
        /// A command to run there instead of a shell
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Break the lab that is up
    #[command(after_help = "Examples:\n  prober lab inject forward-drop@node-2")]
    Inject {
        /// The fault, and the node if it is not the usual one
        #[arg(value_name = "FAULT[@NODE]")]
        fault: FaultAt,
    },
    /// Undo every fault of the lab that is up
    #[command(after_help = "Examples:\n  prober lab heal")]
    Heal,
}

/// Does it.
pub(crate) fn lab(args: LabArgs) -> anyhow::Result<ExitCode> {
    let line = || Line::at(args.socket.clone());
    match args.action {
        Action::Faults { output } => show::text(&faults(output)?)?,
        Action::Up { nodes, faults } => return up::up(&LabSpec::new(nodes)?, &faults, &line()?),
        Action::Shell { place, command } => shell(&line()?, &place, &command)?,
        Action::Inject { fault } => show::text(&line()?.ask(&Request::Inject(fault))?)?,
        Action::Heal => show::text(&line()?.ask(&Request::Heal)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn faults(form: ListForm) -> anyhow::Result<String> {
    let spec = LabSpec::default();
    match form {
        ListForm::Text => Ok(Fault::ALL
            .iter()
            .map(|fault| {
                let causes: Vec<&str> = fault.causes().iter().map(|cause| cause.slug()).collect();
                let named = if causes.is_empty() {
                    "nothing is to be named".to_owned()
                } else {
                    format!("to be named: {}", causes.join(", "))
                };
                format!(
                    "{:<28} {}\n{:<28} {named}\n",
                    fault.slug(),
                    fault.summary(),
                    ""
                )
            })
            .collect::<Vec<_>>()
            .concat()),
        ListForm::Json => {
            let list: Vec<_> = Fault::ALL
                .iter()
                .map(|fault| {
                    let causes: Vec<&str> =
                        fault.causes().iter().map(|cause| cause.slug()).collect();
                    serde_json::json!({
                        "fault": fault.slug(),
                        "causes": causes,
                        "summary": fault.summary(),
                        "node": fault.default_node(&spec).name(),
                    })
                })
                .collect();
            Ok(serde_json::to_string_pretty(&list)? + "\n")
        }
    }
}

/// Becomes a shell (or a command) in a place of the lab.
fn shell(line: &Line, place: &str, command: &[String]) -> anyhow::Result<()> {
    line.ask(&Request::Find(place.to_owned()))?;
    let keeper = line.keeper()?;
    let mut enter = Command::new("nsenter");
    enter.arg(format!("--target={keeper}"));
    if has_own_users(keeper)? {
        enter.args(["--user", "--preserve-credentials"]);
    }
    enter.args(["--mount", "--net", "--pid", "ip", "netns", "exec", place]);
    if command.is_empty() {
        enter.arg(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
    } else {
        enter.args(command);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let error = enter
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("PS1", format!("{place}$ "))
        .exec();
    bail!("cannot start nsenter (util-linux): {error}")
}

/// Whether that process lives in a user namespace of its own.
fn has_own_users(keeper: i32) -> anyhow::Result<bool> {
    let of = |process: &str| {
        let link = format!("/proc/{process}/ns/user");
        std::fs::read_link(&link).with_context(|| format!("read {link}"))
    };
    Ok(of("self")? != of(&keeper.to_string())?)
}
