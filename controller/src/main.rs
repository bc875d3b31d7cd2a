//! The program `prober-controller`: continuously probes a cluster as its ConnectivityChecks specify.

use std::env;
use std::hash::{BuildHasher as _, RandomState};
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use controller::canary::controller::observer::Observer;
use controller::canary::controller::{self as canary_controller, ControllerState, Settings};
use controller::canary::health_wait::wait_healthy;
use controller::clock::wall;
use controller::kubernetes::kubeconfig::{ConnectOptions, KubeconfigEnv, connect};
use controller::kubernetes::runtime::Runtime;
use controller::page::server::PageServer;
use controller::page::state::{ControllerView, PageState, Reading};
use controller::telemetry::http_server::{HttpServer, ReadinessProbe, ReadyState};
use controller::telemetry::otlp_endpoint::{OtlpEndpoint, Signal};
use controller::telemetry::{Exporter, Limits, OtlpEndpoints};
use ipnet::IpNet;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

/// Continuously probes a cluster through its Services, as its ConnectivityChecks specify, and reports which nodes fail
/// and why
#[derive(Debug, Parser)]
#[command(name = "prober-controller", version, max_term_width = 100)]
struct Args {
    /// The namespace of the agents and of the Lease [default: that of the service account, else the context's]
    #[arg(long, env = "PROBER_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// A range of pods' addresses that agents may probe, beside those that the Nodes name; for network plugins with address
    /// pools of their own
    #[arg(
        long = "pod-cidrs",
        env = "PROBER_POD_CIDRS",
        value_name = "PREFIX",
        value_delimiter = ','
    )]
    pod_cidrs: Vec<IpNet>,

    /// The address that serves /metrics, /healthz and /readyz
    #[arg(
        long,
        env = "PROBER_METRICS_ADDRESS",
        value_name = "ADDRESS:PORT",
        default_value = "[::]:9090"
    )]
    metrics_address: SocketAddr,

    /// The loopback address that serves the page of the canary; `kubectl prober ui` forwards a local port to it
    #[arg(
        long,
        env = "PROBER_PAGE_ADDRESS",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:9091"
    )]
    page_address: SocketAddr,

    /// The format of its log on standard error; RUST_LOG sets the level
    #[arg(
        long,
        env = "PROBER_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,

    /// The kubeconfig, for a controller outside of its cluster [default: as kubectl]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The name of this controller in the Lease [default: the host's name]
    #[arg(
        long,
        env = "POD_NAME",
        value_name = "NAME",
        default_value = "prober-controller"
    )]
    pod_name: String,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What it does instead of controlling.
#[derive(Debug, Subcommand)]
enum Command {
    /// Waits until every ConnectivityCheck is healthy, and prints a line for each; status 1 if one is not in time
    WaitHealthy {
        /// How long to wait, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 180)]
        timeout: u64,
    },
}

/// The service name in telemetry.
const NAME: &str = "prober-controller";

/// How long the shutdown waits for telemetry to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The format of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    log(args.log_format);
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    let runtime = Runtime::start().context("start the runtime for requests")?;
    let ended = runtime.block_on(control(args));
    // Tasks that still run are of no use any more.
    runtime.shutdown_background();
    ended
}

async fn control(args: Args) -> anyhow::Result<()> {
    let options = ConnectOptions {
        kubeconfig: args.kubeconfig,
        context: None,
        namespace: args.namespace,
    };
    let connection = connect(&options, &KubeconfigEnv::current()).await?;
    if let Some(Command::WaitHealthy { timeout }) = args.command {
        let checks = wait_healthy(&connection, Duration::from_secs(timeout)).await?;
        for line in checks {
            tracing::info!("{line}");
        }
        return Ok(());
    }
    let http_server = HttpServer::bind(args.metrics_address)
        .await
        .with_context(|| {
            format!(
                "listen on {}: give another --metrics-address",
                args.metrics_address
            )
        })?;
    let identity = format!(
        "{}_{:016x}",
        args.pod_name,
        RandomState::new().hash_one(wall())
    );
    let (page, readings) = watch::channel(standby(&identity));
    let page_served = serve_page(args.page_address, readings).await;
    let exporter = Arc::new(exporter()?);
    exporter.observe_requests(connection.request_count.clone());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        server = connection.server,
        namespace = connection.namespace,
        "starting"
    );
    let (doing, done) = watch::channel(ControllerState::Starting);
    let readiness: ReadinessProbe = Arc::new(move || match *done.borrow() {
        ControllerState::Starting => ReadyState::NotReady {
            reason: "the nodes of the cluster and the agents were not listed yet".to_owned(),
        },
        // A standby can take over at any time.
        ControllerState::Standby | ControllerState::Leading => ReadyState::Ready,
    });
    let metrics = Arc::clone(exporter.metrics());
    let served = tokio::spawn(http_server.serve(metrics, readiness, std::future::pending()));
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).context("catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("catch SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down");
        stop.send_replace(true);
    });
    let settings = Settings {
        connection,
        pod_cidrs: args.pod_cidrs,
        identity,
        observer: Arc::clone(&exporter) as Arc<dyn Observer>,
        page,
    };
    let ended = Box::pin(canary_controller::run(settings, doing, stopped)).await;
    served.abort();
    if let Some(page_served) = page_served {
        page_served.abort();
    }
    exporter.flush(FLUSH_TIMEOUT).await;
    Ok(ended?)
}

/// What the page shows of a controller that does not lead.
fn standby(identity: &str) -> Reading {
    let controller = ControllerView {
        identity: identity.to_owned(),
        leads: false,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Reading {
        at: wall(),
        version: 0,
        state: Arc::new(PageState {
            controller,
            ..PageState::default()
        }),
    }
}

/// Serves the page. The canary does without it where the address cannot be used.
async fn serve_page(
    address: SocketAddr,
    readings: watch::Receiver<Reading>,
) -> Option<JoinHandle<std::io::Result<()>>> {
    match PageServer::bind(address).await {
        Ok(server) => Some(tokio::spawn(server.serve(readings))),
        Err(error) => {
            let error = anyhow::Error::from(error);
            tracing::warn!("the page is not served: {error:#}");
            None
        }
    }
}

/// OpenTelemetry's environment variables say where telemetry is sent; /metrics is always served.
fn exporter() -> anyhow::Result<Exporter> {
    let read = |signal| OtlpEndpoint::read(signal, |name| env::var(name).ok());
    let targets = OtlpEndpoints {
        traces: read(Signal::Traces)?,
        metrics: read(Signal::Metrics)?,
    };
    let started = Exporter::start(NAME, &targets, Limits::default(), &Handle::current());
    started.context("start the telemetry exporter")
}
