//! `prober lab`: the lab by hand: what can break it, and one that stays up.

use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;
use std::sync::mpsc;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use prober_lab::control::{self, Reply, Request};
use prober_lab::isolation::{self, Side};
use prober_lab::{Fault, FaultAt, Lab, LabCluster, LabSpec};

use crate::run::agent_command;
use crate::show;
use crate::values::ListForm;

/// Builds a small network of namespaces, and breaks it by hand.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    prober lab up                                    in one terminal\n  \
    prober lab shell node-1-client                   in another\n  \
    prober lab inject bridge-netfilter-off@node-1\n  \
    prober lab heal\n  \
    prober lab faults -o json")]
pub(crate) struct LabArgs {
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
    match args.action {
        Action::Faults { output } => show::text(&faults(output)?)?,
        Action::Up { nodes, faults } => return up(&LabSpec::new(nodes, 1)?, &faults),
        Action::Shell { place, command } => shell(&place, &command)?,
        Action::Inject { fault } => ask(&Request::Inject {
            fault: fault.to_string(),
        })?,
        Action::Heal => ask(&Request::Heal)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(spec: &LabSpec, faults: &[FaultAt]) -> anyhow::Result<ExitCode> {
    match isolation::enter(None, || isolation::exit(0))? {
        Side::Ended(status) => return Ok(status),
        Side::Inside => {}
    }
    let (told, events) = mpsc::channel();
    let lab = Lab::up(spec).context("build the lab")?;
    let fleet = LabCluster::new(lab, agent_command()?, told);
    control::serve(fleet, events, faults, |status| {
        // Whoever closed standard output still has the lab.
        drop(show::text(&welcome(status)));
    })?;
    Ok(ExitCode::SUCCESS)
}

fn welcome(status: &Reply) -> String {
    let places = match status {
        Reply::Status { namespaces, .. } => namespaces.join(", "),
        Reply::Refused { reason } => reason.clone(),
    };
    format!(
        "The lab is up until Ctrl-C: {places}.\n\n\
         In another terminal:\n  \
         prober lab shell node-1-client -- prober probe 100.67.30.133:80\n  \
         prober lab inject bridge-netfilter-off@node-1\n  \
         prober lab heal\n"
    )
}

fn shell(place: &str, program: &[String]) -> anyhow::Result<()> {
    let mut command = control::shell(place, program)?;
    // Only a failure comes back from exec.
    Err(command.exec()).with_context(|| format!("start {}", command.get_program().display()))
}

fn ask(request: &Request) -> anyhow::Result<()> {
    match control::request(request)? {
        Reply::Status { faults, .. } if faults.is_empty() => show::text("No fault is in force.\n"),
        Reply::Status { faults, .. } => show::text(&format!("In force: {}.\n", faults.join(", "))),
        Reply::Refused { reason } => bail!(reason),
    }
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
