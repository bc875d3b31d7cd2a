//! The standing plan: what every agent of a canary probes by itself, for ever.
//!
//! One object serves all agents, and is written seldom. Each agent draws its own probes from it, round after round.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AllowedTargets, RESPONDER_PORT};
use crate::packet::family::Family;
use crate::time::Timestamp;
use crate::topology::{AccessPath, AgentId, NodeName};

/// The version of standing plans that this code reads and writes.
pub const STANDING_PLAN_SCHEMA: &str = "prober.dev/standing-plan/v1";

/// The longest standing plan, bytes: a `ConfigMap` holds 1 MiB.
pub const MAX_STANDING_PLAN_BYTES: usize = 1 << 20;

/// Maximum number of slots; each is a port of the Service.
pub const MAX_STANDING_SLOTS: usize = 64;

/// The shortest and the longest interval of rounds.
pub const INTERVALS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_hours(1));

/// The shortest and the longest deadline of a probe.
pub const DEADLINES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// The longest history of a path that a [`ConfirmRule`] may ask for, results.
pub const MAX_CONFIRM_OF: u8 = 32;

/// Maximum number of probes a second that a standing plan may make of one agent.
pub const MAX_STANDING_RATE: u32 = 50;

/// Maximum number of addresses of one list: a pod or Service has one of each family, and a node few.
const MAX_ADDRESSES: usize = 16;

/// Maximum number of prefixes in [`StandingPlan::allowed`]: one or two for each node of a large cluster.
const MAX_PREFIXES: usize = 16_384;

/// What every agent probes by itself, round after round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingPlan {
    /// Always [`STANDING_PLAN_SCHEMA`].
    pub schema: String,
    /// Grows with each change.
    pub generation: u64,
    /// Nothing is probed, and every readiness gate is open; agents still answer.
    #[serde(default)]
    pub paused: bool,
    /// Since when agents probe without a pause, by the controller's clock; `None` while they do not. An agent begins anew
    /// where it changes, also if it has never seen the pause.
    #[serde(default)]
    pub probing_since: Option<Timestamp>,
    /// The nonce that banners carry.
    pub nonce: u64,
    /// Time from one round to the next, milliseconds; within [`INTERVALS`].
    pub interval_ms: u32,
    /// Time after which a probe without an answer has failed, milliseconds; within [`DEADLINES`].
    pub deadline_ms: u32,
    /// How many failures of a path raise an alert.
    #[serde(default)]
    pub confirm: ConfirmRule,
    /// The families to probe.
    pub families: BTreeSet<Family>,
    /// The access paths to probe. [`AccessPath::HostNetwork`] is not probed by agents of their own: it needs a run.
    pub access_paths: BTreeSet<AccessPath>,
    /// The number of slots that each client probes in each round.
    pub peers: u32,
    /// The addresses of the Service with `internalTrafficPolicy: Local`, one for each family.
    #[serde(default)]
    pub local: Vec<SocketAddr>,
    /// The addresses of the Service's port that is balanced over all servers, one for each family.
    #[serde(default)]
    pub any: Vec<SocketAddr>,
    /// The servers that have a port of the Service for themselves.
    #[serde(default)]
    pub slots: Vec<StandingSlot>,
    /// The addresses that agents may probe, by this plan and by the plans of runs.
    pub allowed: Vec<IpNet>,
}

/// A server with a port of the Service for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingSlot {
    /// The server's node.
    pub node: NodeName,
    /// The server's pod.
    pub pod: String,
    /// The pod's addresses, at most one of each family.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// The Service's addresses with the slot's port, at most one of each family.
    #[serde(default)]
    pub service: Vec<SocketAddr>,
    /// The addresses of the server's node with the slot's node port, at most one of each family; empty where it has none.
    #[serde(default)]
    pub node_port: Vec<SocketAddr>,
}

/// How many failures of a path raise an alert: `failures` of its last `of` results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmRule {
    /// From 1 to `of`.
    pub failures: u8,
    /// From 1 to [`MAX_CONFIRM_OF`].
    pub of: u8,
}

impl Default for ConfirmRule {
    /// Three of four: a lost packet of the kernel's and one of a crafted probe are not enough.
    fn default() -> Self {
        Self { failures: 3, of: 4 }
    }
}

/// Why a standing plan was refused. The last good one stays in force.
#[derive(Debug, thiserror::Error)]
pub enum StandingPlanError {
    /// It is longer than [`MAX_STANDING_PLAN_BYTES`].
    #[error("the standing plan has {0} bytes, of which {MAX_STANDING_PLAN_BYTES} is the most")]
    TooLong(usize),
    /// The input is not the JSON of a standing plan.
    #[error("the standing plan does not parse: {0}; the last good one stays in force")]
    Json(#[from] serde_json::Error),
    /// This agent does not support its version.
    #[error(
        "the standing plan's schema is '{0}', this agent reads '{STANDING_PLAN_SCHEMA}': use the agent image of the same release as the controller"
    )]
    Schema(String),
    /// It has a target outside the allowed addresses and ports.
    #[error(
        "the standing plan names the target {0}, which is not within `allowed`, `--allow` and `--allow-ports`: nothing of it is probed"
    )]
    ForeignTarget(SocketAddr),
    /// A number is outside its bounds.
    #[error("the standing plan's {field} is {value}, and must be {bounds}")]
    Bounds {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What is allowed.
        bounds: String,
    },
}

impl StandingPlan {
    /// Parses a standing plan and checks it: its size, schema, numbers, rate and targets. `allowed` are the targets that the
    /// agent was started for; the plan's own `allowed` restrict them further.
    ///
    /// # Errors
    ///
    /// [`StandingPlanError`], if it does not parse or fails a check.
    pub fn parse(text: &[u8], allowed: &AllowedTargets) -> Result<Self, StandingPlanError> {
        if text.len() > MAX_STANDING_PLAN_BYTES {
            return Err(StandingPlanError::TooLong(text.len()));
        }
        let plan: Self = serde_json::from_slice(text)?;
        if plan.schema != STANDING_PLAN_SCHEMA {
            let schema = plan.schema.chars().take(80).collect();
            return Err(StandingPlanError::Schema(schema));
        }
        plan.check_numbers()?;
        let allowed = plan.allowed_targets(allowed);
        let targets = plan.targets();
        match targets.into_iter().find(|target| !allowed.permits(*target)) {
            Some(target) => Err(StandingPlanError::ForeignTarget(target)),
            None => Ok(plan),
        }
    }

    /// The interval of rounds.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.into())
    }

    /// The deadline of a probe.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.into())
    }

    /// What an agent may probe under this plan, of the targets that it was started for.
    pub fn allowed_targets(&self, started_for: &AllowedTargets) -> AllowedTargets {
        started_for.clone().within(self.allowed.clone())
    }

    /// The slot of a server.
    pub fn slot_of(&self, server: &AgentId) -> Option<&StandingSlot> {
        let mut slots = self.slots.iter();
        slots.find(|slot| slot.pod == server.pod && slot.node == server.node)
    }

    /// An upper bound of the probes that a client makes in a round, without repeated ones.
    pub fn most_probes_of_a_round(&self) -> u64 {
        // Own server by Service and by pod, the balanced port, and three access paths of each peer.
        let paths = 3 + 3 * u64::from(self.peers).min(self.slots.len() as u64);
        2 * paths * self.families.len() as u64
    }

    /// Every address and port that it names.
    fn targets(&self) -> Vec<SocketAddr> {
        let of_slots = self.slots.iter().flat_map(|slot| {
            let pods = slot.addresses.iter();
            pods.map(|address| SocketAddr::new(*address, RESPONDER_PORT))
                .chain(slot.service.iter().copied())
                .chain(slot.node_port.iter().copied())
        });
        let services = self.local.iter().chain(&self.any).copied();
        services.chain(of_slots).collect()
    }

    fn check_numbers(&self) -> Result<(), StandingPlanError> {
        let bounded = |field, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            let bounds = format!("from {least} to {most}");
            Err(StandingPlanError::Bounds {
                field,
                value,
                bounds,
            })
        };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (least, most) = INTERVALS;
        bounded(
            "interval_ms",
            self.interval_ms.into(),
            millis(least),
            millis(most),
        )?;
        let (least, most) = DEADLINES;
        bounded(
            "deadline_ms",
            self.deadline_ms.into(),
            millis(least),
            millis(most),
        )?;
        let ConfirmRule { failures, of } = self.confirm;
        bounded("confirm.of", of.into(), 1, MAX_CONFIRM_OF.into())?;
        bounded("confirm.failures", failures.into(), 1, of.into())?;
        bounded(
            "number of slots",
            self.slots.len() as u64,
            0,
            MAX_STANDING_SLOTS as u64,
        )?;
        bounded(
            "number of allowed prefixes",
            self.allowed.len() as u64,
            0,
            MAX_PREFIXES as u64,
        )?;
        let lists = self.slots.iter().flat_map(|slot| {
            [
                slot.addresses.len(),
                slot.service.len(),
                slot.node_port.len(),
            ]
        });
        let longest = lists.chain([self.local.len(), self.any.len()]).max();
        bounded(
            "longest list of addresses",
            longest.unwrap_or(0) as u64,
            0,
            MAX_ADDRESSES as u64,
        )?;
        let most = u64::from(MAX_STANDING_RATE) * u64::from(self.interval_ms) / 1_000;
        bounded(
            "number of probes of a round",
            self.most_probes_of_a_round(),
            0,
            most,
        )
    }
}

impl StandingSlot {
    /// The server.
    pub fn server(&self) -> AgentId {
        AgentId {
            node: self.node.clone(),
            pod: self.pod.clone(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The slots of servers on `node-1`, `node-2` and so on.
    pub(crate) fn slots(count: usize) -> Vec<StandingSlot> {
        let slot = |at: usize| StandingSlot {
            node: NodeName::new(format!("node-{at}")),
            pod: format!("server-{at}"),
            addresses: vec![
                format!("10.77.0.{at}").parse().unwrap(),
                format!("fd77::{at}").parse().unwrap(),
            ],
            service: vec![
                format!("10.99.0.1:{}", 8_999 + at).parse().unwrap(),
                format!("[fd99::1]:{}", 8_999 + at).parse().unwrap(),
            ],
            node_port: vec![format!("192.168.0.{at}:{}", 29_999 + at).parse().unwrap()],
        };
        (1..=count).map(slot).collect()
    }

    /// A plan with these slots, every access path and both families, each 10 s.
    pub(crate) fn plan(slots: Vec<StandingSlot>) -> StandingPlan {
        StandingPlan {
            schema: STANDING_PLAN_SCHEMA.to_owned(),
            generation: 1,
            paused: false,
            probing_since: None,
            nonce: 7,
            interval_ms: 10_000,
            deadline_ms: 3_000,
            confirm: ConfirmRule::default(),
            families: Family::ALL.into(),
            access_paths: AccessPath::ALL.into(),
            peers: 3,
            local: addresses(&["10.99.0.2:8080", "[fd99::2]:8080"]),
            any: addresses(&["10.99.0.1:9100", "[fd99::1]:9100"]),
            slots,
            allowed: ["10.0.0.0/8", "192.168.0.0/24", "fd00::/8"]
                .map(|prefix| prefix.parse().unwrap())
                .into(),
        }
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ports() -> AllowedTargets {
        AllowedTargets::any().on_ports("8080-8081,9000-9100,30000-32767".parse().unwrap())
    }

    fn parse(plan: &StandingPlan) -> Result<StandingPlan, String> {
        let text = serde_json::to_vec(plan).unwrap();
        StandingPlan::parse(&text, &ports()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_plan_is_the_same_when_it_is_written_and_read() {
        let plan = plan(slots(64));
        assert_eq!(parse(&plan), Ok(plan));
    }

    #[test]
    fn what_may_be_absent_has_a_default() {
        let text = br#"{"schema":"prober.dev/standing-plan/v1","generation":3,"nonce":7,"interval_ms":10000,
            "deadline_ms":3000,"families":["ipv4"],"access_paths":["pod-ip","cluster-ip-local"],"peers":3,"allowed":[]}"#;
        let plan = StandingPlan::parse(text, &ports()).unwrap();
        assert!(!plan.paused && plan.slots.is_empty());
        assert_eq!(plan.confirm, ConfirmRule { failures: 3, of: 4 });
    }

    #[test]
    fn each_number_has_its_bounds() {
        type Change = fn(&mut StandingPlan);
        let cases: [(Change, &str); 9] = [
            (|plan| plan.interval_ms = 499, "interval_ms is 499"),
            (
                |plan| plan.interval_ms = 3_600_001,
                "interval_ms is 3600001",
            ),
            (|plan| plan.deadline_ms = 99, "deadline_ms is 99"),
            (|plan| plan.confirm.of = 33, "confirm.of is 33"),
            (|plan| plan.confirm.failures = 0, "confirm.failures is 0"),
            (
                |plan| plan.confirm.failures = 5,
                "confirm.failures is 5, and must be from 1 to 4",
            ),
            (|plan| plan.slots = slots(65), "number of slots is 65"),
            (
                |plan| plan.any = vec![plan.any[0]; 17],
                "longest list of addresses is 17",
            ),
            (
                |plan| (plan.interval_ms, plan.peers) = (500, 64),
                "number of probes of a round is 780",
            ),
        ];
        for (change, expected) in cases {
            let mut plan = plan(slots(64));
            change(&mut plan);
            let refused = parse(&plan).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }

    #[test]
    fn a_foreign_address_or_port_anywhere_refuses_the_whole_plan() {
        type Change = fn(&mut StandingPlan);
        let cases: [(Change, &str); 8] = [
            (|plan| plan.allowed.clear(), "10.99.0.2:8080"),
            (|plan| plan.local[0].set_port(22), "10.99.0.2:22"),
            (
                |plan| plan.any[1].set_ip([192, 0, 2, 1].into()),
                "192.0.2.1:9100",
            ),
            (
                |plan| plan.slots[1].addresses[0] = [192, 0, 2, 1].into(),
                "192.0.2.1:8080",
            ),
            (
                |plan| plan.slots[0].service[1].set_port(6443),
                "[fd99::1]:6443",
            ),
            (
                |plan| plan.slots[0].node_port[0].set_port(10250),
                "192.168.0.1:10250",
            ),
            (
                |plan| {
                    plan.allowed.push("0.0.0.0/0".parse().unwrap());
                    plan.local[0].set_ip([169, 254, 169, 254].into());
                },
                "169.254.169.254:8080",
            ),
            (
                |plan| {
                    plan.allowed.push("0.0.0.0/0".parse().unwrap());
                    plan.local[0].set_ip([127, 0, 0, 1].into());
                },
                "127.0.0.1:8080",
            ),
        ];
        for (change, target) in cases {
            let mut plan = plan(slots(2));
            change(&mut plan);
            let refused = parse(&plan).unwrap_err();
            assert!(refused.contains(target), "{refused}");
        }
    }

    #[test]
    fn a_plan_that_is_too_long_is_refused_before_it_is_parsed() {
        let refused = StandingPlan::parse(&vec![b' '; MAX_STANDING_PLAN_BYTES + 1], &ports());
        assert!(matches!(refused, Err(StandingPlanError::TooLong(_))));
    }

    #[test]
    fn the_command_line_restricts_what_a_plan_allows() {
        let started_for = AllowedTargets::new(vec!["10.99.0.0/16".parse().unwrap()]);
        let text = serde_json::to_vec(&plan(slots(1))).unwrap();
        let refused = StandingPlan::parse(&text, &started_for).unwrap_err();
        assert!(refused.to_string().contains("[fd99::2]:8080"), "{refused}");
    }
}
