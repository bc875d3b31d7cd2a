//! The agent's main task: plans in, probes started, answers given, event lines out.

/// What it tells.
mod reporting;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use prober_core::plan::{
    AllowedTargets, LogReading, Method, NodeFactsReading, Plan, ProbePlan, SETTLING,
};
use prober_core::probe::event::Event;
use prober_core::probe::in_flight::pacing::Pace;
use prober_core::topology::AgentId;
use prober_net::node_facts::read_counters;
use prober_net::packet_socket::now;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, timeout};

use crate::commands::{Order, RawPlan};
use crate::connect_jobs::{Connects, Errands, Greeting, talk_of};
use crate::event_writer::{Lines, Written};
use crate::events::{News, NewsReceiver, NewsSender, Progress};
use crate::kernel_engine::Dialer;
use crate::local_addresses::Own;
use crate::node_facts_reader::{read, read_later};
use crate::packet_loop::{Loopback, needs_silence};
use crate::packet_thread::{Opened, Packets};
use crate::plan_file::{Notice, PlanFile};
use crate::plan_progress::Round;
use crate::plan_watch;
use crate::readiness_gate::Bell;
use crate::responder::Responder;
use crate::signals::Signals;
use crate::tally::is_healthy;
use crate::timers::lateness::Pulse;
use crate::timers::sleep::Alarm;
use crate::wait_for_services;

/// How often counts are told while a plan is young: a run decides by them what to look at more closely.
const EAGER: Duration = Duration::from_millis(250);
/// How often afterwards: a canary's plans last.
const STEADY: Duration = Duration::from_secs(5);
/// How often while nobody reads them: what was counted since is what a ring may cost.
const UNREAD: Duration = Duration::from_secs(20);
/// How long an agent that ends waits for its reader to take the last lines.
const FAREWELL: Duration = Duration::from_secs(2);

/// What an agent is told when it starts.
#[derive(Debug)]
pub(crate) struct Orders {
    /// Who it is.
    pub(crate) agent: AgentId,
    /// Where its plans come from.
    pub(crate) plan: PlanFile,
    /// Whom it may ask.
    pub(crate) allowed: AllowedTargets,
    /// The only run to take plans of.
    pub(crate) run: Option<String>,
    /// The port of its bell.
    pub(crate) bell: Option<u16>,
    /// Its own end.
    pub(crate) own: Own,
}

#[derive(Debug)]
struct Agent {
    orders: Orders,
    lines: Lines,
    responder: Responder,
    connects: Rc<Connects>,
    packets: Option<Rc<Packets>>,
    bell: Bell,
    /// Whether somebody reads its lines as they come.
    log_reading: LogReading,
    /// Why crafted connections end after the handshake here, if so.
    half_open: Option<String>,
    capture: Option<Event>,
    news: NewsSender,
    /// The run and generation of the last plan that was taken.
    taken: Option<(String, u32)>,
    /// The plans under way, by generation.
    rounds: BTreeMap<u32, Round>,
    /// When the last plan was taken.
    taken_at: Instant,
    /// The longest that it was late for what it had to do, since that was told.
    starved: Duration,
    /// The kernel probes under way.
    probing: JoinSet<()>,
    /// Notices that were given: nobody needs the same one a thousand times.
    noticed: BTreeSet<String>,
}

/// What a look at the plan's file found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Nothing new, or nothing to be done.
    Nothing,
    /// A plan that was taken.
    Plan,
}

/// The next change; never, where nobody watches.
async fn change(watch: &mut Option<Receiver<()>>) -> Option<()> {
    match watch {
        Some(changes) => changes.recv().await,
        None => std::future::pending().await,
    }
}

/// Serves until a signal comes or nobody reads its lines any more.
pub(crate) fn serve(
    runtime: &Runtime,
    signals: Signals,
    orders: Orders,
    opened: Option<Opened>,
    (lines, written): (Lines, Written),
) -> anyhow::Result<()> {
    let (news, arriving) = mpsc::unbounded_channel();
    let half_open = opened
        .as_ref()
        .and_then(|opened| opened.unmuted.as_ref().map(ToString::to_string));
    let packets = opened
        .map(|opened| opened.start(&orders.own, Loopback::Ignored, news.clone()))
        .transpose()?
        .map(Rc::new);
    let dialer = Dialer::new(now().as_nanos());
    let pulse = Rc::new(Pulse::new(news.clone()));
    let connects = Connects::new(
        dialer,
        news.clone(),
        Rc::clone(&pulse),
        packets.clone(),
        Greeting::Banner,
    );
    let agent = Agent {
        responder: Responder::new(orders.agent.clone()),
        bell: Bell::new(orders.bell),
        log_reading: LogReading::Attended,
        orders,
        lines,
        connects: Rc::new(connects),
        packets,
        half_open,
        capture: None,
        news,
        taken: None,
        rounds: BTreeMap::new(),
        taken_at: Instant::now(),
        starved: Duration::ZERO,
        probing: JoinSet::new(),
        noticed: BTreeSet::new(),
    };
    let tasks = LocalSet::new();
    tasks.spawn_local(async move { pulse.beat().await });
    tasks.block_on(runtime, agent.run(signals, arriving, written))
}

impl Agent {
    async fn run(
        mut self,
        mut signals: Signals,
        mut arriving: NewsReceiver,
        mut written: Written,
    ) -> anyhow::Result<()> {
        // Where the folder cannot be watched, looking does as well.
        let mut watch = plan_watch::watch(self.orders.plan.path()).ok();
        let mut next_look = Instant::now();
        let mut next_tally = Instant::now();
        let (look, tally) = (Alarm::new(), Alarm::new());
        loop {
            tokio::select! {
                () = signals.any() => break,
                // Nobody reads: there is nothing left to do, and nobody to tell.
                _ = &mut written => return Ok(()),
                Some(news) = arriving.recv() => {
                    self.handle_news(news)?;
                    while let Ok(news) = arriving.try_recv() {
                        self.handle_news(news)?;
                    }
                    self.finish_rounds();
                }
                changed = change(&mut watch) => {
                    if changed.is_none() {
                        watch = None;
                    }
                    next_look = Instant::now();
                }
                () = look.sleep_until(next_look) => {
                    if self.look().await == Look::Plan {
                        next_tally = Instant::now() + self.until_tally();
                    }
                    let notice = if watch.is_some() { Notice::Told } else { Notice::Sought };
                    next_look = Instant::now() + self.orders.plan.pause(notice);
                }
                () = tally.sleep_until(next_tally), if self.has_counts() => {
                    self.tell_tallies();
                    next_tally = Instant::now() + self.until_tally();
                }
            }
        }
        self.probing.shutdown().await;
        if let Some(packets) = &self.packets {
            packets.stop();
        }
        while let Ok(news) = arriving.try_recv() {
            self.handle_news(news)?;
        }
        self.tell_tallies();
        drop(self.lines);
        match timeout(FAREWELL, written).await {
            Ok(Ok(Err(error))) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("cannot write event lines to standard output")
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn look(&mut self) -> Look {
        let orders = &mut self.orders;
        let plan = match orders.plan.look() {
            Ok(None) => return Look::Nothing,
            Ok(Some(text)) => {
                Plan::parse(text, &orders.agent, &orders.allowed).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        let plan = plan.and_then(|plan| match &orders.run {
            Some(run) if plan.run != *run => Err(format!(
                "the plan is of run '{}', this agent was started for run '{run}': is the plan's file an old one?",
                plan.run
            )),
            Some(_) | None => Ok(plan),
        });
        match plan {
            Err(reason) => self.lines.write(&Event::PlanRefused { reason }),
            Ok(plan) if self.is_old(&plan) => {}
            Ok(plan) => {
                self.take(plan).await;
                return Look::Plan;
            }
        }
        Look::Nothing
    }

    fn is_old(&self, plan: &Plan) -> bool {
        let taken = self.taken.as_ref();
        taken.is_some_and(|(run, generation)| *run == plan.run && *generation >= plan.generation)
    }

    async fn take(&mut self, plan: Plan) {
        let is_of_another_run = self.taken.as_ref().is_some_and(|(run, _)| *run != plan.run);
        if is_of_another_run || self.log_reading == LogReading::Unattended {
            self.forget().await;
        }
        self.log_reading = plan.log_reading;
        self.still_bell().await;
        // A run that reads `plan-accepted` may rely on the listeners.
        for refused in self.responder.apply(&plan.responder, plan.nonce).await {
            self.notice(refused.to_string());
        }
        let silent = wait_for_services::settle(&plan.wait_for_services, &plan.wait_for_pods).await;
        if !silent.is_empty() {
            let silent: Vec<String> = silent.iter().map(ToString::to_string).collect();
            self.notice(format!(
                "no answer from {} for {} s before its first probe",
                silent.join(" and "),
                SETTLING.as_secs()
            ));
        }
        let generation = plan.generation;
        self.taken = Some((plan.run.clone(), generation));
        self.taken_at = Instant::now();
        self.lines.write(&Event::PlanAccepted { generation });
        match plan.facts {
            NodeFactsReading::Skip => {}
            NodeFactsReading::Take => self.tell_read(read().await),
            NodeFactsReading::Twice { after_ms } => {
                self.tell_read(read().await);
                let after = Duration::from_millis(after_ms.into());
                (self.probing).spawn_local(read_later(generation, after, self.news.clone()));
            }
        }
        let mut round = Round::new(&plan, read_counters());
        let start = now();
        let (kernel, raw): (Vec<_>, Vec<_>) = plan
            .probes
            .into_iter()
            .partition(|probe| talk_of(probe).is_some());
        if let Some(packets) = self.packets.clone() {
            packets.order_now(Order::Take(RawPlan {
                generation,
                probes: self.as_possible(raw),
                ports: plan.responder.ports,
                start,
                pace: Pace::WakeupCoalescing,
            }));
        } else if !raw.is_empty() {
            let probes = raw.iter().map(|probe| u64::from(probe.count)).sum();
            round.handle_ended(probes);
            self.notice(format!(
                "{probes} probes with crafted packets were not sent: this agent is of tier T0 (see the limits of its \
                 first line)"
            ));
        }
        self.rounds.insert(generation, round);
        self.probing
            .spawn_local(Rc::clone(&self.connects).run(Errands {
                generation,
                probes: kernel,
                start,
                pace: Pace::WakeupCoalescing,
            }));
        self.finish_rounds();
    }

    /// Ends what is under way: it belongs to a run that is over, or was not read.
    async fn forget(&mut self) {
        self.tell_tallies();
        self.rounds.clear();
        self.probing.shutdown().await;
        if let Some(packets) = &self.packets {
            packets.order(Order::Forget);
        }
    }

    /// Where the kernel cannot be kept silent, crafted connections end after the handshake.
    fn as_possible(&mut self, mut probes: Vec<ProbePlan>) -> Vec<ProbePlan> {
        let Some(why) = self.half_open.clone() else {
            return probes;
        };
        if probes.iter().any(|probe| needs_silence(&probe.method)) {
            self.notice(why);
        }
        for probe in &mut probes {
            match probe.method {
                Method::Exchange { .. } => probe.method = Method::Syn,
                Method::Connect { .. } | Method::Syn | Method::TtlProbe { .. } => {}
            }
        }
        probes
    }

    fn handle_news(&mut self, news: News) -> anyhow::Result<()> {
        match news {
            News::Round(generation, progress) => self.handle_progress(generation, progress),
            News::Read(generation, read) => {
                self.tell_read(read);
                if let Some(round) = self.rounds.get_mut(&generation) {
                    round.handle_ended(1);
                }
            }
            News::ServerTrace(handshakes) => match self.log_reading {
                LogReading::Attended => self.lines.write(&Event::ServerTrace { handshakes }),
                LogReading::Unattended => {}
            },
            News::Capture { received, dropped } => {
                self.capture = Some(Event::Capture { received, dropped });
            }
            News::Late(late) => self.starved = self.starved.max(late),
            News::Trouble(text) => self.notice(text),
            News::Failed(why) => anyhow::bail!("the packets thread has ended: {why}"),
        }
        Ok(())
    }

    fn handle_progress(&mut self, generation: u32, progress: Progress) {
        // Leftovers of a run that is over.
        let Some(round) = self.rounds.get_mut(&generation) else {
            return;
        };
        match progress {
            Progress::Result(result) => {
                let is_alarming =
                    self.log_reading == LogReading::Unattended && !is_healthy(&result);
                if let Some(line) = round.handle_result(*result) {
                    self.lines.write(&line);
                }
                if is_alarming {
                    self.ring();
                }
            }
            Progress::TtlProbe(ladder) => {
                round.handle_ended(1);
                self.lines.write(&Event::TtlProbe(ladder));
            }
            Progress::Unsent(probes, why) => {
                round.handle_ended(probes);
                self.notice(why);
            }
        }
    }
}
