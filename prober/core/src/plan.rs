//! Plans: the probes of an agent and how it answers, and the refusal of targets that it was not started for.

mod allowed_targets;
/// Which pairs of nodes are probed.
pub mod pairing;
/// What every agent of a canary probes by itself.
pub mod standing;

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::node_facts::ConntrackRequest;
use crate::topology::{AgentId, PathId};

pub use allowed_targets::{AllowedTargets, PortRanges, PortRangesError};

/// The version of plans that this code reads and writes.
pub const PLAN_SCHEMA: &str = "prober.dev/plan/v1";

/// The port of responders that the test Services lead to.
pub const RESPONDER_PORT: u16 = 8080;

/// A second port of responders, to which no Service leads: it distinguishes a filtered port from a filtered pod.
pub const OTHER_RESPONDER_PORT: u16 = 8081;

/// How long an agent waits for the Services that its plan names: kube-proxy writes rules at most once a second
/// (`minSyncPeriod`), and on a busy node later.
pub const SERVICES_PATIENCE: Duration = Duration::from_secs(4);

/// How long an agent waits for the pods that its plan names: the solicitation of a new neighbour is repeated after a second
/// (`retrans_time_ms`, RFC 4861 10).
pub const PODS_PATIENCE: Duration = Duration::from_millis(1_500);

/// Maximum number of probes in one plan: as many as one agent can have in flight and report.
pub const MAX_PROBES: u32 = 200_000;

/// Maximum number of probes a second that the plans of runs may make of a standing agent. A run of the highest rate sends three
/// thousand crafted ones, and connections beside them.
pub const MAX_ATTENDED_RATE: u64 = 5_000;

/// Maximum number of targets that a plan may wait for, in a standing agent.
const MAX_AWAITED: usize = 1_024;

/// The work of one agent until its next plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Always [`PLAN_SCHEMA`].
    pub schema: String,
    /// The run that it belongs to.
    pub run: String,
    /// Grows with each plan of a run; an agent ignores a generation that it has accepted before.
    pub generation: u32,
    /// The agent that it is for.
    pub agent: AgentId,
    /// The run's nonce, which banners carry.
    pub nonce: u64,
    /// How the agent answers other agents.
    pub responder: ResponderPlan,
    /// Whether it reads the facts of its node.
    #[serde(default)]
    pub facts: NodeFactsReading,
    /// The connections whose conntrack entries the last reading of the facts has; `None` where connection tracking is not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<Box<ConntrackRequest>>,
    /// Services of the run that must answer before it probes, since their rules may not be written on this node yet. After
    /// [`SERVICES_PATIENCE`] it probes all the same.
    #[serde(default)]
    pub wait_for_services: Vec<SocketAddr>,
    /// Servers of the run that must answer before it probes, since a new pod may not be known to its neighbours yet. After
    /// [`PODS_PATIENCE`] it probes all the same.
    #[serde(default)]
    pub wait_for_pods: Vec<SocketAddr>,
    /// Its probes.
    pub probes: Vec<ProbePlan>,
    /// Whether its log is read while the plan is under way.
    #[serde(default)]
    pub log_reading: LogReading,
}

/// Whether an agent's log is read while a plan is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogReading {
    /// As it is written.
    #[default]
    Attended,
    /// Only after the plan's probes have ended, or when the agent raises an alert because one of them failed or was late. It
    /// does not report its server traces, and the next plan replaces this one at once.
    Unattended,
}

/// Whether an agent reads the facts of its network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeFactsReading {
    /// It does not: the facts of a pod's namespace are not those of its node.
    #[default]
    Skip,
    /// Once, when it accepts the plan and before it probes: one `Event::Facts`.
    Once,
    /// When it accepts the plan, and once more after a while: two `Event::Facts`, before `Event::Done`. They show which counters
    /// have grown.
    Twice {
        /// From the first to the second, milliseconds.
        after_ms: u32,
    },
}

/// How an agent answers other agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponderPlan {
    /// Ports to listen on; the first is the one that Services lead to.
    pub ports: Vec<u16>,
    /// Whether connections are accepted.
    pub accept: AcceptMode,
}

/// Whether a responder accepts connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AcceptMode {
    /// It does.
    Running,
    /// It leaves them in an accept queue of one (fault injection: `accept-queue-full`).
    Paused,
    /// It listens on no port (fault injection: `not-listening`).
    Closed,
}

/// A number of equal probes on one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbePlan {
    /// The path that they belong to.
    pub path: PathId,
    /// How they are sent.
    pub method: Method,
    /// The target.
    pub target: SocketAddr,
    /// The number of probes.
    pub count: u32,
    /// Time from the plan's start to the first, milliseconds.
    pub start_ms: u32,
    /// Time from one to the next, milliseconds.
    pub interval_ms: u32,
    /// Time after which a probe without an answer has failed, milliseconds.
    pub deadline_ms: u32,
}

/// How a probe is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Method {
    /// The kernel's connect(), banner, and an echo of that many bytes (0: none).
    Connect {
        /// Bytes to be echoed.
        echo_bytes: u32,
    },
    /// A crafted SYN; the answer ends it.
    Syn,
    /// A crafted handshake, banner, and an echo of that many bytes (0: none).
    Exchange {
        /// Bytes to be echoed.
        echo_bytes: u32,
    },
    /// A crafted SYN with hop limit 64 that pins the backend, then the same five-tuple with
    /// each of these hop limits, each up to `tries` times over a second apart.
    TtlProbe {
        /// Hop limits, ascending.
        hop_limits: Vec<u8>,
        /// The maximum number of SYNs per hop limit without an answer.
        tries: u8,
    },
}

/// Why a plan was refused.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The input is not the JSON of a plan.
    #[error("the plan does not parse: {0}; the last good plan stays in force")]
    Json(#[from] serde_json::Error),
    /// This agent does not support its version.
    #[error(
        "the plan's schema is '{0}', this agent reads '{PLAN_SCHEMA}': use the agent image of the same release as prober"
    )]
    Schema(String),
    /// It is for another agent.
    #[error("the plan is for {plan}, this agent is {agent}")]
    Agent {
        /// The agent of the plan.
        plan: AgentId,
        /// The agent that received it.
        agent: AgentId,
    },
    /// It has a target outside the run.
    #[error(
        "the plan names the target {0}, which this agent was not started for: nothing was sent; start the agent with an `--allow` that covers it, and `--allow-ports` if it has that"
    )]
    ForeignTarget(SocketAddr),
    /// It has more probes than one agent can send.
    #[error(
        "the plan has {0} probes, of which {MAX_PROBES} is the most; give fewer paths or lower counts"
    )]
    TooMany(u64),
    /// It sends more in a second than a standing agent may.
    #[error(
        "the plan and those under way have up to {0} probes a second, of which {MAX_ATTENDED_RATE} is the most for a standing agent; give lower counts or longer intervals"
    )]
    TooFast(u64),
    /// It waits for more targets than a standing agent may.
    #[error(
        "the plan waits for {0} targets, of which {MAX_AWAITED} is the most for a standing agent"
    )]
    TooManyAwaited(usize),
}

/// The part of a plan that names its run.
#[derive(Deserialize)]
struct RunOfPlan {
    run: String,
}

impl Plan {
    /// A plan that only answers, on these ports.
    pub fn answering(
        run: &str,
        generation: u32,
        agent: &AgentId,
        nonce: u64,
        ports: Vec<u16>,
    ) -> Self {
        Self {
            schema: PLAN_SCHEMA.to_owned(),
            run: run.to_owned(),
            generation,
            agent: agent.clone(),
            nonce,
            responder: ResponderPlan {
                ports,
                accept: AcceptMode::Running,
            },
            facts: NodeFactsReading::Skip,
            conntrack: None,
            wait_for_services: Vec::new(),
            wait_for_pods: Vec::new(),
            probes: Vec::new(),
            log_reading: LogReading::Attended,
        }
    }

    /// The run of a plan, also of one that [`Plan::parse`] refuses; `None` where it names none, or one that is too long for a
    /// label.
    pub fn run_of(text: &[u8]) -> Option<String> {
        let plan: RunOfPlan = serde_json::from_slice(text).ok()?;
        (plan.run.len() <= 63).then_some(plan.run)
    }

    /// An upper bound of the probes that are sent in one second.
    pub fn most_probes_a_second(&self) -> u64 {
        let of_item = |probe: &ProbePlan| {
            let at_once = match probe.interval_ms {
                0 => u64::from(probe.count),
                interval => u64::from(probe.count.min(1_000 / interval + 1)),
            };
            match &probe.method {
                Method::Connect { .. } | Method::Syn | Method::Exchange { .. } => at_once,
                Method::TtlProbe { hop_limits, .. } => {
                    at_once.saturating_mul(hop_limits.len() as u64 + 1)
                }
            }
        };
        self.probes.iter().map(of_item).fold(0, u64::saturating_add)
    }

    /// Checks what a standing agent accepts no more of than a run needs: the probes a second, with those of the plans under way,
    /// and the targets that it waits for.
    ///
    /// # Errors
    ///
    /// [`PlanError::TooFast`] and [`PlanError::TooManyAwaited`].
    pub fn check_standing_bounds(&self, under_way: u64) -> Result<(), PlanError> {
        let rate = self.most_probes_a_second().saturating_add(under_way);
        let awaited = self.wait_for_services.len() + self.wait_for_pods.len();
        if rate > MAX_ATTENDED_RATE {
            Err(PlanError::TooFast(rate))
        } else if awaited > MAX_AWAITED {
            Err(PlanError::TooManyAwaited(awaited))
        } else {
            Ok(())
        }
    }

    /// Parses a plan and checks it: its schema, its agent, its targets and its number of probes.
    ///
    /// # Errors
    ///
    /// [`PlanError`], if it does not parse or fails a check.
    pub fn parse(
        text: &[u8],
        agent: &AgentId,
        allowed: &AllowedTargets,
    ) -> Result<Self, PlanError> {
        let plan: Self = serde_json::from_slice(text)?;
        if plan.schema != PLAN_SCHEMA {
            return Err(PlanError::Schema(plan.schema));
        }
        if plan.agent != *agent {
            return Err(PlanError::Agent {
                plan: plan.agent,
                agent: agent.clone(),
            });
        }
        let total: u64 = plan.probes.iter().map(|probe| u64::from(probe.count)).sum();
        if total > u64::from(MAX_PROBES) {
            return Err(PlanError::TooMany(total));
        }
        let probed = plan.probes.iter().map(|probe| probe.target);
        if let Some(target) = probed
            .chain(plan.wait_for_services.iter().copied())
            .chain(plan.wait_for_pods.iter().copied())
            .find(|target| !allowed.permits(*target))
        {
            return Err(PlanError::ForeignTarget(target));
        }
        Ok(plan)
    }
}
