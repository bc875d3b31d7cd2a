//! The program `prober-controller`: keeps probing a cluster as its ConnectivityChecks ask.

use std::env;
use std::hash::{BuildHasher as _, RandomState};
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use controller::canary::controller::observer::Observer;
use controller::canary::controller::{Doing, Settings, operate};
use controller::clock::wall;
use controller::kubernetes::kubeconfig::{ConnectOptions, KubeconfigEnv, connect};
use controller::kubernetes::runtime::Runtime;
use controller::telemetry::http_server::{Desk, Readiness, Standing};
use controller::telemetry::otlp_endpoint::{Signal, Target};
use controller::telemetry::{Exporter, Limits, Targets};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// Keeps probing a cluster through its Services, as its ConnectivityChecks ask, and says which nodes fail and why
#[derive(Debug, Parser)]
#[command(name = "prober-controller", version, max_term_width = 100)]
struct Args {
    /// The namespace of the agents and of the Lease [default: that of the service account, else the context's]
    #[arg(long, env = "PROBER_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// The agents' image
    #[arg(long, env = "PROBER_IMAGE", value_name = "REFERENCE")]
    image: String,

    /// Where /metrics, /healthz and /readyz are asked for
    #[arg(
        long,
        env = "PROBER_METRICS_ADDRESS",
        value_name = "ADDRESS:PORT",
        default_value = "[::]:9090"
    )]
    metrics_address: SocketAddr,

    /// How it writes its own log, to standard error; RUST_LOG says how much
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

    /// What the Lease calls this controller's pod [default: the host's name]
    #[arg(
        long,
        env = "POD_NAME",
        value_name = "NAME",
        default_value = "prober-controller"
    )]
    pod_name: String,
}

/// What this program is called in telemetry.
const NAME: &str = "prober-controller";

/// How long telemetry that is left may take to be sent at the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// How a log is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
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
    let runtime = Runtime::start().context("start what talks to the cluster")?;
    let ended = runtime.block_on(control(args));
    // What still runs has nobody to work for.
    runtime.shutdown_background();
    ended
}

async fn control(args: Args) -> anyhow::Result<()> {
    let reach = ConnectOptions {
        kubeconfig: args.kubeconfig,
        context: None,
        namespace: args.namespace,
    };
    let connection = connect(&reach, &KubeconfigEnv::current()).await?;
    let desk = Desk::open(args.metrics_address).await.with_context(|| {
        format!(
            "listen on {}: give another --metrics-address",
            args.metrics_address
        )
    })?;
    let exporter = Arc::new(exporter()?);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        server = connection.server,
        namespace = connection.namespace,
        image = args.image,
        "starting"
    );
    let (doing, done) = watch::channel(Doing::Starting);
    let standing: Standing = Arc::new(move || match *done.borrow() {
        Doing::Starting => Readiness::NotReady {
            reason: "the API server has not said which nodes there are".to_owned(),
        },
        // One that waits for the lead would take over at once.
        Doing::Waiting | Doing::Leading => Readiness::Ready,
    });
    let metrics = Arc::clone(exporter.metrics());
    let served = tokio::spawn(desk.answer(metrics, standing, std::future::pending()));
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).context("catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("catch SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending: agents are removed first");
        stop.send_replace(true);
    });
    let settings = Settings {
        connection,
        image: args.image,
        identity: format!(
            "{}_{:016x}",
            args.pod_name,
            RandomState::new().hash_one(wall())
        ),
        observer: Arc::clone(&exporter) as Arc<dyn Observer>,
    };
    let ended = operate(settings, doing, stopped).await;
    served.abort();
    exporter.flush(FAREWELL).await;
    Ok(ended?)
}

/// Telemetry goes where OpenTelemetry's variables say; /metrics answers whoever asks.
fn exporter() -> anyhow::Result<Exporter> {
    let read = |signal| Target::read(signal, |name| env::var(name).ok());
    let targets = Targets {
        traces: read(Signal::Traces)?,
        metrics: read(Signal::Metrics)?,
    };
    let started = Exporter::start(NAME, &targets, Limits::default(), &Handle::current());
    started.context("start what sends telemetry")
}
