//! `prober lab`: a lab that stays up, commands that inject and undo its faults, and the list of faults.

use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;
use std::sync::mpsc;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use prober_lab::control::{self, Reply, Request};
use prober_lab::isolation::{self, Side};
use prober_lab::kube_proxy::ProxyMode;
use prober_lab::{DataPlane, Fault, FaultAt, Lab, LabCluster, LabSpec};

use crate::lab_values::{data_plane, fault, lab_spec, proxy_mode};
use crate::run::agent_command;
use crate::show;
use crate::terminal::{width, wrap};
use crate::values::ListFormat;

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
    /// List every fault that can be injected, and the cause that a run then names
    #[command(after_help = "Examples:\n  prober lab faults\n  prober lab faults -o json")]
    Faults {
        /// The output format
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
        output: ListFormat,
    },
    /// Keep a lab up in this terminal until Ctrl-C
    #[command(after_help = "Examples:\n  \
        prober lab up\n  \
        prober lab up --nodes 3 --fault stale-rules@node-2")]
    Up {
        /// How many nodes it has [default: 2, and 3 with cross-subnet]
        #[arg(long, value_name = "N", env = "PROBER_NODES")]
        nodes: Option<u8>,
        /// How pods are attached to nodes, and nodes to each other [default: bridge-vxlan]
        #[arg(long, value_name = "DATA-PLANE", value_parser = data_plane())]
        data_plane: Option<DataPlane>,
        /// How kube-proxy translates Services [default: iptables]
        #[arg(long = "proxy", value_name = "MODE", value_parser = proxy_mode())]
        proxy_mode: Option<ProxyMode>,
        /// Break it from the start; may be given several times
        #[arg(
            long = "fault",
            value_name = "FAULT[@NODE]",
            value_parser = fault(),
            hide_possible_values = true
        )]
        faults: Vec<FaultAt>,
    },
    /// Open a shell in a node or a pod of the lab that is up
    #[command(after_help = "Examples:\n  \
        prober lab shell node-1\n  \
        prober lab shell node-1-client -- ip route")]
    Shell {
        /// A node or a pod, such as node-1 or node-1-client
        #[arg(value_name = "NODE-OR-POD")]
        namespace: String,
        /// A command to run there instead of a shell
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Break the lab that is up
    #[command(after_help = "Examples:\n  prober lab inject forward-drop@node-2")]
    Inject {
        /// The fault, and the node if it is not the usual one
        #[arg(value_name = "FAULT[@NODE]", value_parser = fault(), hide_possible_values = true)]
        fault: FaultAt,
    },
    /// Undo every fault of the lab that is up
    #[command(after_help = "Examples:\n  prober lab heal")]
    Heal,
}

/// Runs `prober lab`.
pub(crate) fn lab(args: LabArgs) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Faults { output } => faults(output)?,
        Action::Up {
            nodes,
            data_plane,
            proxy_mode,
            faults,
        } => return up(&lab_spec(nodes, 1, data_plane, proxy_mode)?, &faults),
        Action::Shell { namespace, command } => shell(&namespace, &command)?,
        Action::Inject { fault } => send_request(&Request::Inject {
            fault: fault.to_string(),
        })?,
        Action::Heal => send_request(&Request::Heal)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds a lab, injects the faults, and serves requests until Ctrl-C.
fn up(spec: &LabSpec, faults: &[FaultAt]) -> anyhow::Result<ExitCode> {
    match isolation::enter(None, || isolation::exit(0))? {
        Side::Ended(status) => return Ok(status),
        Side::Inside => {}
    }
    let (event_sender, events) = mpsc::channel();
    let lab = Lab::up(spec).context("cannot build the lab")?;
    let cluster = LabCluster::new(lab, agent_command()?, event_sender);
    control::serve(cluster, events, faults, |status| {
        // The lab stays up even if standard output is closed.
        drop(show::text(&welcome(status)));
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the text that lists the namespaces of the lab and the commands for it.
fn welcome(status: &Reply) -> String {
    let namespaces = match status {
        Reply::Status { namespaces, .. } => namespaces.join(", "),
        Reply::Refused { reason } => reason.clone(),
    };
    format!(
        "The lab is up until Ctrl-C: {namespaces}.\n\n\
         In another terminal:\n  \
         prober lab shell node-1-client -- prober probe 100.67.30.133:80\n  \
         prober lab inject bridge-netfilter-off@node-1\n  \
         prober lab heal\n"
    )
}

/// Replaces this process by `program`, or by a shell, in a node or pod of the lab that is up.
fn shell(namespace: &str, program: &[String]) -> anyhow::Result<()> {
    let mut command = control::shell(namespace, program)?;
    // exec returns only on failure.
    Err(command.exec()).with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// Sends a request to the lab that is up, and shows its faults afterwards. Fails if the lab refuses.
fn send_request(request: &Request) -> anyhow::Result<()> {
    match control::request(request)? {
        Reply::Status { faults, .. } if faults.is_empty() => show::text("No fault is in force.\n"),
        Reply::Status { faults, .. } => show::text(&format!("In force: {}.\n", faults.join(", "))),
        Reply::Refused { reason } => bail!(reason),
    }
}

/// Lists every fault: its effect, and the causes that a run must then name.
fn faults(format: ListFormat) -> anyhow::Result<()> {
    let spec = LabSpec::default();
    let causes = |fault: Fault| -> Vec<&str> {
        let causes = fault.causes().iter();
        causes.map(|cause| cause.slug()).collect()
    };
    show::list(
        format,
        || {
            let faults = Fault::ALL.iter();
            faults
                .map(|fault| lines(*fault, &causes(*fault), width()))
                .collect()
        },
        || {
            let faults = Fault::ALL.iter();
            let document = |fault: &Fault| {
                serde_json::json!({
                    "fault": fault.slug(),
                    "causes": causes(*fault),
                    "summary": fault.summary(),
                    "node": fault.default_node(&spec).name(),
                    "harmless": fault.is_harmless(),
                    "ends_with_start_up": fault.ends_with_start_up(),
                    "data_planes": fault.data_planes().map(DataPlane::slug).collect::<Vec<_>>(),
                })
            };
            faults.map(document).collect::<Vec<_>>()
        },
    )
}

/// Renders a fault in lines of at most `width` columns.
fn lines(fault: Fault, causes: &[&str], width: usize) -> String {
    let expected = if fault.is_harmless() {
        "no cause: it does no harm".to_owned()
    } else if fault.ends_with_start_up() {
        "no cause: a note, since it ends with the start-up of the pods".to_owned()
    } else if causes.is_empty() {
        "a failure of unknown cause".to_owned()
    } else {
        causes.join(", ")
    };
    let indent = " ".repeat(29);
    let mut text = wrap(&format!("{:<28} ", fault.slug()), fault.summary(), width);
    text += &wrap(&indent, &format!("expected: {expected}"), width);
    let data_planes: Vec<_> = fault.data_planes().map(DataPlane::slug).collect();
    if data_planes.len() < DataPlane::ALL.len() {
        let list = format!("data planes: {}", data_planes.join(", "));
        text += &wrap(&indent, &list, width);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_faults_fits_the_width() {
        for fault in Fault::ALL {
            let lines = lines(*fault, &["a-cause"], 70);
            assert!(lines.lines().all(|line| line.len() <= 70), "{lines}");
        }
    }
}
