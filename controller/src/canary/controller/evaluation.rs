//! Evaluates the checks: applies what has changed in the cluster to their states, examines the nodes that are due, and
//! passes on what follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use kube::{Api, Resource as _, ResourceExt as _};
use prober_core::time::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::event_queue::EventQueue;
use super::examiner::{self, Examined, Order};
use super::observer::{CheckRound, CheckStates};
use super::shared::{KnownCheck, Shared, State, random};
use crate::canary::check_state::{CheckState, Moment};
use crate::canary::crd::ConnectivityCheck;
use crate::canary::health::Transition;
use crate::canary::round_result::RoundResult;
use crate::clock::{steady, wall};

/// How long changes are collected before they are evaluated together.
const COLLECTING: Duration = Duration::from_millis(200);

/// The longest pause between evaluations: some states change with time alone.
const PERIOD: Duration = Duration::from_secs(1);

/// How long to wait for the checks that there were at the start.
const LISTING: Duration = Duration::from_secs(10);

/// How long examinations that are under way may take to end at a shutdown.
const ENDING: Duration = Duration::from_secs(10);

/// The checks as the API server has them.
pub(super) type Checks = Store<DeserializeGuard<ConnectivityCheck>>;

/// Evaluates until `stop` is true, then ends the examinations that are under way.
pub(super) async fn run(shared: Arc<Shared>, checks: Checks, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = checks_known(&shared, &checks) => {}
        () = stopped(&mut stop) => return,
    }
    let mut inputs = shared.inputs();
    let mut examinations: JoinSet<(String, Option<Examined>)> = JoinSet::new();
    let mut seen = BTreeMap::new();
    loop {
        let now = now();
        let listed = versions(&checks);
        let is_due = inputs.has_changed().unwrap_or_default() || listed != seen;
        if is_due || changes_with_time(&shared.state()) {
            inputs.mark_unchanged();
            seen = listed;
            evaluate(&shared, &checks, now);
            shared.observer.evaluated(steady().since(now.steady));
        }
        for (check, order) in due(&shared, now) {
            let examination = examiner::examine(Arc::clone(&shared), order, stop.clone());
            examinations.spawn(async move { (check, examination.await) });
        }
        tokio::select! {
            Ok(()) = inputs.changed() => {
                inputs.mark_changed();
                sleep(COLLECTING).await;
            }
            Some(ended) = examinations.join_next() => match ended {
                Ok((check, examined)) => end(&shared, &check, examined),
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            },
            () = sleep(pause(&shared, now)) => {}
            () = stopped(&mut stop) => break,
        }
    }
    let ended = tokio::time::timeout(ENDING, examinations.join_all()).await;
    if ended.is_err() {
        tracing::warn!(
            "an examination did not end in time: its plans stay in the annotations of its pods"
        );
    }
}

/// Waits until the store has every check that there is. `Store::wait_until_ready` wakes up only one of those that wait, and the
/// controller of checks waits as well.
async fn checks_known(shared: &Shared, checks: &Checks) {
    let api: Api<ConnectivityCheck> = Api::all(shared.client.kube.clone());
    let all = ListParams::default();
    let names = loop {
        let request = api.list_metadata(&all);
        let task = "list the ConnectivityChecks";
        match shared.client.request(task, request).await {
            Ok(list) => break list.items.into_iter().map(|check| check.name_any()),
            Err(error) => tracing::warn!(%error, "the ConnectivityChecks were not listed"),
        }
        sleep(PERIOD).await;
    };
    let names: BTreeSet<String> = names.collect();
    let are_known = async {
        while !names.iter().all(|name| versions(checks).contains_key(name)) {
            sleep(COLLECTING).await;
        }
    };
    // One may be deleted just now.
    drop(tokio::time::timeout(LISTING, are_known).await);
}

/// The current time.
fn now() -> Moment {
    Moment {
        wall: wall(),
        steady: steady(),
    }
}

/// The checks with their versions.
fn versions(checks: &Checks) -> BTreeMap<String, (Option<String>, Option<i64>)> {
    let checks = checks.state().into_iter();
    checks
        .map(|check| (check.name_any(), (check.uid(), check.meta().generation)))
        .collect()
}

fn changes_with_time(state: &State) -> bool {
    (state.checks.values()).any(|check| check.state.changes_with_time())
}

/// How long to wait without a change.
fn pause(shared: &Shared, now: Moment) -> Duration {
    let state = shared.state();
    let next = (state.checks.values()).filter_map(|check| check.state.next_at());
    let next = next.min().map(|at| at.since(now.steady));
    next.unwrap_or(PERIOD).min(PERIOD)
}

/// Applies the checks and the inventory to the states of the checks.
fn evaluate(shared: &Shared, checks: &Checks, now: Moment) {
    let mut state = shared.state();
    let State {
        inventory,
        checks: known,
    } = &mut *state;
    if !inventory.is_complete() {
        return;
    }
    let listed: BTreeMap<String, Arc<DeserializeGuard<ConnectivityCheck>>> = (checks.state())
        .into_iter()
        .filter(|check| check.meta().deletion_timestamp.is_none())
        .map(|check| (check.name_any(), check))
        .collect();
    remove_unlisted(shared, known, |name| listed.contains_key(name));
    let mut claimed = BTreeMap::new();
    for (name, check) in &listed {
        // An invalid check keeps what it had; its status says what is wrong.
        if let DeserializeGuard(Ok(check)) = &**check {
            put(known, name, check);
        }
        let Some(check) = known.get_mut(name) else {
            continue;
        };
        let before: BTreeSet<_> = check.state.nodes().keys().cloned().collect();
        let transitions = check.state.observe(name, inventory, &mut claimed, now);
        let nodes = check.state.nodes();
        for node in before.iter().filter(|node| !nodes.contains_key(*node)) {
            shared.observer.node_removed(name, node);
        }
        queue_events(name, check, &transitions);
        shared.observer.observe_states(&CheckStates {
            check: name,
            state: &check.state,
        });
    }
    drop(state);
    shared.set_evaluated();
    shared.notify_reports();
}

fn remove_unlisted(
    shared: &Shared,
    known: &mut BTreeMap<String, KnownCheck>,
    is_listed: impl Fn(&str) -> bool,
) {
    known.retain(|name, check| {
        let stays = is_listed(name);
        if !stays {
            for node in check.state.nodes().keys() {
                shared.observer.node_removed(name, node);
            }
            shared.observer.check_removed(name);
        }
        stays
    });
}

fn put(known: &mut BTreeMap<String, KnownCheck>, name: &str, object: &ConnectivityCheck) {
    let is_same = match known.get_mut(name) {
        Some(check) => check.state.set_spec(object),
        None => false,
    };
    if is_same {
        return;
    }
    let check = KnownCheck {
        object: Arc::new(object.clone()),
        state: CheckState::new(object),
        events: EventQueue::default(),
        written: None,
    };
    known.insert(name.to_owned(), check);
}

/// The examinations that begin now.
fn due(shared: &Shared, now: Moment) -> Vec<(String, Order)> {
    let Some(standing) = shared.standing.borrow().clone() else {
        return Vec::new();
    };
    let mut state = shared.state();
    let State { inventory, checks } = &mut *state;
    let begin = |(name, check): (&String, &mut KnownCheck)| {
        let nodes = check.state.begin_examination(now);
        if nodes.is_empty() {
            return None;
        }
        let order = Order::new(&check.state, nodes, inventory, &standing);
        Some((name.clone(), order))
    };
    checks.iter_mut().filter_map(begin).collect()
}

/// Applies the result of an examination.
fn end(shared: &Shared, name: &str, examined: Option<Examined>) {
    let now = now();
    let mut state = shared.state();
    let Some(check) = state.checks.get_mut(name) else {
        return;
    };
    let Some(examined) = examined else {
        check.state.abandon_examination(now);
        return;
    };
    let mut result = RoundResult::from_report(&examined.report);
    result.add_unresponsive(&examined.report, &examined.probing);
    result.examined = examined.nodes;
    let transitions = check.state.end_examination(result, now);
    shared.observer.observe(&CheckRound {
        check: name,
        matrix: &examined.matrix,
        report: &examined.report,
        state: &check.state,
        transitions: &transitions,
    });
    queue_events(name, check, &transitions);
    shared.observer.observe_states(&CheckStates {
        check: name,
        state: &check.state,
    });
    let report = Arc::new(examined.report);
    shared
        .failure_reports()
        .keep(name, &report, check.state.health().open());
    drop(state);
    shared.notify_reports();
}

fn queue_events(name: &str, check: &mut KnownCheck, transitions: &[Transition]) {
    check.events.push(name, transitions, random);
}

/// Waits until the controller is to stop.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Waits until `at` on the steady clock; `None` is never.
pub(super) async fn until(at: Option<Timestamp>) {
    match at {
        Some(at) => sleep(at.since(steady())).await,
        None => std::future::pending().await,
    }
}
