//! Starts an agent: catches signals, opens sockets, drops privileges, writes the first line, runs the main task.

pub(crate) mod args;

use std::io::{self, Write as _};
use std::sync::Arc;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prober_core::plan::AllowedTargets;
use prober_core::plan::standing::MAX_STANDING_PLAN_BYTES;
use prober_core::probe::event::{EVENT_SCHEMA, Event, Hello};
use prober_core::probe::tier::Tier;
use prober_core::standing::StandingRole;
use prober_net::drop_capabilities::{Kept, drop_capabilities};
use prober_net::node_facts::{ConntrackTable, read_facts};
use prober_net::packet_socket::{Interfaces, RingShape, now};

use crate::config::{AgentConfig, StandingConfig};
use crate::engine::packet_thread::PacketSockets;
use crate::event_lines::writer::EventWriter;
use crate::local_addresses::LocalAddresses;
use crate::main_task::serve;
use crate::plan::file::PlanFile;
use crate::signals::Signals;
use crate::startup::args::{Args, StandingRoleArg};

/// The ports that a standing agent may probe, unless `--allow-ports` says otherwise: those of responders, of the test Services,
/// and the default range of node ports.
const STANDING_PORTS: &str = "8080-8081,9000-9100,30000-32767";

/// The longest plan of a run that a standing agent reads, bytes; all annotations of a pod have 256 KiB.
const MAX_STANDING_AGENT_PLAN: u64 = 1 << 20;

/// Starts what the arguments request, and returns when it has ended.
pub(crate) fn start(args: Args) -> anyhow::Result<()> {
    if args.facts {
        return write_facts();
    }
    let agent = args.agent.context("--agent NODE/POD is missing")?;
    let plan = args.plan.context("--plan FILE is missing")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(
            "cannot start the agent's event loop; is the limit of open files (ulimit -n) reached?",
        )?;
    let signals = Signals::catch(&runtime).context("cannot catch SIGTERM and SIGINT")?;
    raise_descriptor_limit().context("cannot raise the limit of open files to its hard bound")?;
    let mut limits = Vec::new();
    let opened = open(args.tier.wanted(), &mut limits);
    let conntrack = ConntrackTable::open();
    // An agent without packets: the one in its node's own network, which reads the facts.
    let is_reader = opened.is_none();
    let kept = if is_reader && conntrack.needs_net_admin() {
        Kept::NetAdmin
    } else {
        Kept::Nothing
    };
    // Capabilities belong to a thread, so they are dropped while there is only one.
    let dropped = drop_capabilities(kept).context("cannot give up privileges")?;
    if !dropped.caps.is_empty() {
        limits.push(format!(
            "CAP_NET_ADMIN is kept ({dropped}): this kernel lists connection tracking by ctnetlink alone"
        ));
    } else if dropped.uid == 0 {
        limits.push(format!(
            "the uid could not be changed ({dropped}): harmless, since no capability is left"
        ));
    }
    let local = LocalAddresses::of(&read_facts());
    let (mut writer, writer_end) = EventWriter::start(io::stdout())
        .context("cannot start the thread that writes event lines")?;
    let hello = Hello {
        schema: EVENT_SCHEMA.to_owned(),
        agent: agent.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tier: match opened {
            Some(_) => Tier::T1,
            None => Tier::T0,
        },
        addresses: local.addresses.clone(),
        limits,
        at: now(),
        run: None,
    };
    writer.write(&Event::Hello(hello.clone()));
    let mut plan = PlanFile::new(plan);
    let standing = args.standing_plan.map(|path| StandingConfig {
        plan: Some(PlanFile::new(path).at_most(MAX_STANDING_PLAN_BYTES as u64)),
        role: match args.role {
            StandingRoleArg::Client => StandingRole::Client,
            StandingRoleArg::Server => StandingRole::Server,
        },
        metrics_port: args.metrics_port,
    });
    if standing.is_some() {
        plan = plan.at_most(MAX_STANDING_AGENT_PLAN);
    }

    // The standing plan restricts the addresses, where the command line does not.
    let allowed = if standing.is_some() && args.allow.is_empty() {
        AllowedTargets::any()
    } else {
        AllowedTargets::new(args.allow)
    };
    let default_ports = standing.as_ref().map(|_| STANDING_PORTS);
    let allowed = match args
        .allow_ports
        .or(default_ports.and_then(|ports| ports.parse().ok()))
    {
        Some(ports) => allowed.on_ports(ports),
        None => allowed,
    };
    let config = AgentConfig {
        agent,
        plan,
        allowed,
        greeting: (standing.is_some() || args.greet_runs).then_some(hello),
        standing,
        run: args.run,
        readiness_port: args.readiness_port,
        local,
        conntrack: Arc::new(conntrack),
    };
    serve(&runtime, signals, config, opened, (writer, writer_end))
}

/// Opens the sockets of tier T1; where they cannot be opened, adds the reason to `limits`.
fn open(wanted: Tier, limits: &mut Vec<String>) -> Option<PacketSockets> {
    match wanted {
        Tier::T0 => {
            limits.push(
                "tier T0 was requested (--tier T0): results of connect() and counters, no packets"
                    .to_owned(),
            );
            None
        }
        Tier::T1 | Tier::T2 => match PacketSockets::open(Interfaces::All, RingShape::SMALL) {
            Ok(opened) => {
                limits.extend(opened.refused_filter());
                limits.extend(opened.suppression_error.as_ref().map(ToString::to_string));
                Some(opened)
            }
            Err(error) => {
                limits.push(format!(
                    "tier T0, no packets are captured or crafted: {error}"
                ));
                None
            }
        },
    }
}

fn write_facts() -> anyhow::Result<()> {
    let line = Event::Facts(Box::new(read_facts())).to_line();
    writeln!(io::stdout(), "{line}").context("cannot write the node facts to standard output")
}

/// Raises the limit of open files: a responder under a flood needs more than the usual 1024.
fn raise_descriptor_limit() -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65536).max(soft), hard)
}
