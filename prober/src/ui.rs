//! `prober ui`: shows the page of the canary in a cluster, through a forwarded port.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use controller::kubernetes::kubeconfig::{ConnectOptions, KubeconfigEnv, connect};
use controller::kubernetes::runtime::block_on;
use controller::page::forward::{PAGE_PORT, PageForward};

use crate::show;

/// The namespace of an installed canary.
const NAMESPACE: &str = "prober-system";

/// Shows the page of the canary in a cluster, through a forwarded port.
///
/// The page is served on loopback in the controller's pod, and never outside of it: to read it takes the right to forward
/// a port to that pod. It shows outages with the packets that prove their causes, the state of every node, and what is not
/// measured and why. Reading it changes nothing and starts no probe.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It takes the verb get on leases, and get and create on pods/portforward, in the namespace of the canary. \
    Ctrl-C ends the command.\n\n\
    Exit status: 2 the page cannot be reached.\n\n\
    Examples:\n  \
    prober ui\n  \
    prober ui --open\n  \
    prober ui -n monitoring --port 9091"
)]
pub(crate) struct UiArgs {
    /// The local port [default: a free one]
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 0,
        hide_default_value = true
    )]
    port: u16,

    /// The port of the page in the controller's pod: that of its --page-address
    #[arg(long, value_name = "PORT", default_value_t = PAGE_PORT)]
    page_port: u16,

    /// Open the page in a browser
    #[arg(long)]
    open: bool,

    /// The kubeconfig [default: as kubectl: $KUBECONFIG, else ~/.kube/config, else the service
    /// account of this pod]
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "CONTEXT", help_heading = "Cluster")]
    context: Option<String>,

    /// The namespace of the canary
    #[arg(
        short,
        long,
        value_name = "NAMESPACE",
        default_value = NAMESPACE,
        help_heading = "Cluster"
    )]
    namespace: String,
}

/// Runs `prober ui`, until Ctrl-C ends the process.
pub(crate) fn ui(args: &UiArgs) -> anyhow::Result<ExitCode> {
    block_on(forward(args)).context("cannot start the Kubernetes client")?
}

async fn forward(args: &UiArgs) -> anyhow::Result<ExitCode> {
    let options = ConnectOptions {
        kubeconfig: args.kubeconfig.clone(),
        context: args.context.clone(),
        namespace: Some(args.namespace.clone()),
    };
    let client = connect(&options, &KubeconfigEnv::current()).await?;
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let (page, pod) = PageForward::open(client, args.page_port, local).await?;
    let url = format!("http://{}/", page.address()?);
    show::text(&format!("{url}\n"))?;
    show::note(&format!(
        "this is the page of {pod} in namespace {}, until Ctrl-C",
        args.namespace
    ));
    if args.open {
        open_browser(&url);
    }
    let failed = Arc::new(|error| show::warning(&format!("{:#}", anyhow::Error::from(error))));
    page.serve(failed).await?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the URL in the user's browser, as far as there is one.
fn open_browser(url: &str) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let started = Command::new(program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        show::warning(&format!("cannot open a browser with {program}: {error}"));
    }
}
