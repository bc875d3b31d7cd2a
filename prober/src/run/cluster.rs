//! A run in a cluster: the preflight checks, the run itself, the removal of its objects, and the report.

use std::ffi::OsString;
use std::hash::{BuildHasher as _, RandomState};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use anyhow::Context as _;
use controller::kubernetes::api_client::ApiClient;
use controller::kubernetes::kubeconfig::{KubeconfigEnv, connect};
use controller::kubernetes::node_choice::NodeChoice;
use controller::kubernetes::node_info;
use controller::kubernetes::runtime::Runtime;
use controller::manifest::platform_config::{Cleanup, PlatformConfig, STARTUP_TIMEOUT_MARGIN};
use controller::manifest::{IpFamilies, Manifest, NodePorts, PodPrefixes, Privilege, run_name};
use controller::one_shot::admission::{DryRunPods, EvidenceRequest, NodeFactsMode};
use controller::one_shot::preflight::{PreflightRequest, PreflightResult, preflight};
use controller::platform::ClusterPlatform;
use prober_core::packet::family::Family;
use prober_core::probe::tier::Tier;
use prober_core::run::{PlatformEvent, Run, RunSpec};
use prober_core::topology::AccessPath;

use super::args::NodeFactsArg;
use super::{RunArgs, finish_report, progress};
use crate::drive::{drive, now};
use crate::output::Files;
use crate::show;

/// How much longer than the run's time limit its owner Job may live: the time for the removal. Then the cluster removes
/// the objects of a run that was killed.
const CLEANUP_MARGIN: Duration = Duration::from_secs(30);

/// Runs in the cluster and returns the exit status of the report.
///
/// Fails if the API server cannot be reached, if a preflight check fails, or if the report cannot be written.
pub(super) fn in_cluster(
    args: &RunArgs,
    command_line: &[OsString],
    files: &Files,
) -> anyhow::Result<ExitCode> {
    let started = now();
    let progress = progress(args);
    progress.set_message("checking the cluster");
    let runtime = Runtime::start().context("cannot start the Kubernetes client")?;
    let options = args.cluster.connect.options();
    let connection = runtime.block_on(connect(&options, &KubeconfigEnv::current()))?;
    let nonce = RandomState::new().hash_one(started);
    let families = args.family.list(&[Family::Ipv4, Family::Ipv6]);
    let draft = draft_manifest(args, &connection, nonce, &families);
    let request = preflight_request(args, &draft)?;
    let preflight_result = runtime.block_on(preflight(&connection, &request))?;
    let spec = spec(args, &draft, nonce, families, &preflight_result);
    let config = platform_config(args, draft, &spec, &preflight_result);
    let spec = RunSpec {
        pod_ranges: config.pod_prefixes.pod_ranges(),
        ..spec
    };

    let run = config.manifest.run.clone();
    let requests = connection.request_count.clone();
    let (commands, command_receiver) = mpsc::channel();
    let (event_sender, events) = mpsc::channel();
    let interrupts = Interrupts::catch(event_sender.clone())?;
    let platform = ClusterPlatform::start(
        runtime.handle(),
        connection,
        config,
        command_receiver,
        event_sender,
    )
    .context("cannot start the thread of the platform")?;
    let mut result = drive(Run::new(spec), &commands, &events, |run| progress.show(run));
    drop(commands);
    progress.clear();
    if interrupts.is_abandoned() {
        result.notes.push(format!(
            "ended before everything was removed: the cluster removes it, or `prober clean --run {run}` at once"
        ));
        runtime.shutdown_background();
    } else {
        platform.join();
    }
    if args.cluster.count_requests {
        show::note(&format!("{} requests to the API server", requests.total()));
    }
    result.notes.splice(0..0, preflight_result.notes);
    result.matrix.policies = preflight_result.policies;
    finish_report(args, &result, command_line, started, files)
}

/// Returns the manifest as far as it is known before the preflight checks.
fn draft_manifest(
    args: &RunArgs,
    connection: &ApiClient,
    nonce: u64,
    families: &[Family],
) -> Manifest {
    Manifest {
        run: run_name(nonce),
        namespace: connection.namespace.clone(),
        image: args.cluster.image.clone(),
        pod_options: args.cluster.pods.options(),
        lifetime: args.timeout + CLEANUP_MARGIN,
        privilege: Privilege::NetRaw,
        families: match families {
            [only] => IpFamilies::Only(*only),
            _ => IpFamilies::Available,
        },
        slots: 0,
        node_ports: NodePorts::Enabled,
        check: None,
    }
}

/// Returns the preflight checks to run: the nodes, the evidence, and the pods for a dry run.
fn preflight_request(args: &RunArgs, draft: &Manifest) -> anyhow::Result<PreflightRequest> {
    Ok(PreflightRequest {
        run: draft.run.clone(),
        node_choice: match &args.cluster.node_selector {
            Some(selector) => NodeChoice::Labelled(selector.clone()),
            None if args.cluster.all => NodeChoice::All,
            None => NodeChoice::Named(args.selected.iter().cloned().collect()),
        },
        peers: args.peers,
        evidence: EvidenceRequest {
            max_tier: args.max_tier()?,
            min_tier: args.require_tier.map_or(Tier::T0, Tier::from),
            node_facts: match args.cluster.node_facts {
                NodeFactsArg::Auto => NodeFactsMode::Auto,
                NodeFactsArg::Never => NodeFactsMode::Never,
                NodeFactsArg::Always => NodeFactsMode::Always,
            },
        },
        dry_run_pods: DryRunPods::new(draft),
    })
}

/// Returns the run that the preflight checks allow.
fn spec(
    args: &RunArgs,
    draft: &Manifest,
    nonce: u64,
    families: Vec<Family>,
    preflight_result: &PreflightResult,
) -> RunSpec {
    let admission = &preflight_result.admission;
    let mut spec = args.spec(
        draft.run.clone(),
        nonce,
        preflight_result.selection.nodes.clone(),
    );
    spec.selected
        .clone_from(&preflight_result.selection.selected);
    spec.access_paths
        .retain(|access_path| admission.admits(*access_path));
    spec.families = families;
    spec.tier = admission.tier;
    spec
}

/// Returns the settings of the platform, with the manifest completed by the results of the preflight checks.
fn platform_config(
    args: &RunArgs,
    draft: Manifest,
    spec: &RunSpec,
    preflight_result: &PreflightResult,
) -> PlatformConfig {
    let servers = spec.placed_nodes().len() * usize::from(spec.servers_per_node.get());
    let has_node_ports = spec.access_paths.contains(&AccessPath::NodePort);
    let placed = spec.placed_nodes().into_iter().collect();
    let nodes = node_info::node_infos(&preflight_result.nodes, &placed);
    PlatformConfig {
        manifest: Manifest {
            privilege: if spec.tier >= Tier::T1 {
                Privilege::NetRaw
            } else {
                Privilege::Unprivileged
            },
            slots: u16::try_from(servers.min(spec.slots)).unwrap_or_default(),
            node_ports: if has_node_ports {
                NodePorts::Enabled
            } else {
                NodePorts::Disabled
            },
            ..draft
        },
        pod_prefixes: PodPrefixes::new(&args.cluster.pod_cidrs, nodes.values()),
        nodes,
        startup_timeout: spec.startup_timeout.saturating_sub(STARTUP_TIMEOUT_MARGIN),
        cleanup: if args.cluster.keep {
            Cleanup::Keep
        } else {
            Cleanup::Remove
        },
    }
}

/// The number of times that Ctrl-C was pressed: the first ends the run, the second ends the wait for the removal.
struct Interrupts(Arc<AtomicUsize>);

impl Interrupts {
    /// Installs the handler of Ctrl-C, which sends its events to the run. Fails if it cannot be installed.
    fn catch(event_sender: Sender<PlatformEvent>) -> anyhow::Result<Self> {
        let counted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&counted);
        ctrlc::set_handler(move || {
            let event = match count.fetch_add(1, Ordering::AcqRel) {
                0 => PlatformEvent::Interrupted,
                _ => PlatformEvent::Removed,
            };
            // If the receiver is gone, the run has ended and there is nothing to interrupt.
            drop(event_sender.send(event));
        })
        .context("cannot handle Ctrl-C")?;
        Ok(Self(counted))
    }

    /// Whether a second Ctrl-C ended the run before everything was removed.
    fn is_abandoned(&self) -> bool {
        self.0.load(Ordering::Acquire) > 1
    }
}
