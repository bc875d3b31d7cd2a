//! Reports each check: its status, then the Events that refer to it. A check that cannot be reported is tried again by
//! itself, and holds up no other.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Action};
use kube::runtime::{Controller, watcher};
use kube::{Api, Resource as _, ResourceExt as _};
use tokio::sync::watch;

use super::evaluation::Checks;
use super::event_queue::PendingEvent;
use super::observer::Reconciled;
use super::shared::Shared;
use crate::canary::crd::{ConnectivityCheck, ConnectivityCheckStatus};
use crate::canary::events::Regarding;
use crate::canary::status::{StatusContext, invalid, is_worth_writing, status};
use crate::clock::{steady, wall};
use crate::kubernetes::api_error::ApiError;

/// How long changes are collected before a check is reported.
const COLLECTING: Duration = Duration::from_millis(200);

/// The checks that are reported at the same time.
const CONCURRENCY: u16 = 4;

/// The pause after a failure.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// When a check is reported again without a change, so that counts that were held back are written.
const REFRESH: Duration = Duration::from_secs(30);

/// Starts the controller of checks: their store, and the task that reports them.
pub(super) fn controller(shared: Arc<Shared>) -> (Checks, impl Future<Output = ()> + Send) {
    let checks: Api<DeserializeGuard<ConnectivityCheck>> = Api::all(shared.client.kube.clone());
    let controller = Controller::new(checks, watcher::Config::default())
        .with_config(
            controller::Config::default()
                .debounce(COLLECTING)
                .concurrency(CONCURRENCY),
        )
        .reconcile_all_on(changes(shared.reports()));
    let store = controller.store();
    let reporting = async move {
        let ended = controller.run(reconcile, retry, Arc::clone(&shared));
        ended
            .for_each(|reconciled| async move {
                if let Err(error) = reconciled {
                    log(&error);
                }
            })
            .await;
    };
    (store, reporting)
}

fn log(error: &controller::Error<ApiError, watcher::Error>) {
    match error {
        // It was deleted meanwhile.
        controller::Error::ObjectNotFound(_) => {}
        controller::Error::ReconcilerFailed(..)
        | controller::Error::QueueError(_)
        | controller::Error::RunnerError(_) => {
            tracing::warn!(%error, "a ConnectivityCheck could not be reported, and is tried again");
        }
    }
}

/// An item for each change.
fn changes(changed: watch::Receiver<u64>) -> impl Stream<Item = ()> + Send {
    futures::stream::unfold(changed, |mut changed| async {
        changed.changed().await.ok()?;
        Some(((), changed))
    })
}

fn retry(_: Arc<DeserializeGuard<ConnectivityCheck>>, _: &ApiError, _: Arc<Shared>) -> Action {
    Action::requeue(RETRY_PAUSE)
}

/// Writes what is new about a check.
async fn reconcile(
    check: Arc<DeserializeGuard<ConnectivityCheck>>,
    shared: Arc<Shared>,
) -> Result<Action, ApiError> {
    let began = steady();
    let name = check.name_any();
    let reported = match &check.0 {
        Ok(_) => report(&shared, &name).await,
        Err(error) => report_invalid(&shared, &name, &error.error, check.meta().generation).await,
    };
    let how = match &reported {
        Ok(()) => Reconciled::Written,
        Err(_) => Reconciled::Failed,
    };
    shared.observer.reconciled(how, steady().since(began));
    reported.map(|()| Action::requeue(REFRESH))
}

async fn report(shared: &Shared, name: &str) -> Result<(), ApiError> {
    if let Some(status) = new_status(shared, name) {
        shared.status_writer.write_status(name, &status).await?;
        set_written(shared, name, status);
    }
    // The status is written before the Events that refer to it.
    while let Some((check, node_uid, event)) = next_event(shared, name) {
        let created = (shared.status_writer)
            .create_event(&check, node_uid, &event)
            .await;
        match created {
            Ok(()) => {}
            Err(error) if error.is_final() => {
                let (reason, note) = (event.event.reason, &event.event.note);
                tracing::warn!(check = name, reason, note, %error, "an Event is refused for good, and is lost");
            }
            Err(error) => return Err(error),
        }
        if let Some(check) = shared.state().checks.get_mut(name) {
            check.events.remove(&event);
        }
    }
    Ok(())
}

/// The status, if it says something new. Before the nodes are known, an earlier controller's stays.
fn new_status(shared: &Shared, name: &str) -> Option<ConnectivityCheckStatus> {
    let standing = shared.standing.borrow();
    let (slots, peers) =
        (standing.as_ref()).map_or((0, 0), |standing| (standing.nodes.len(), standing.peers));
    let state = shared.state();
    let check = state.checks.get(name)?;
    if !check.state.has_begun() {
        return None;
    }
    let written = check.written.as_ref();
    let context = StatusContext {
        before: written.map(|(status, _)| status),
        slots,
        peers,
        now: wall(),
    };
    let status = status(&check.state, context);
    let written = written.map(|(status, at)| (status, steady().since(*at)));
    is_worth_writing(written, &status).then_some(status)
}

fn set_written(shared: &Shared, name: &str, status: ConnectivityCheckStatus) {
    if let Some(check) = shared.state().checks.get_mut(name) {
        check.written = Some((status, steady()));
    }
}

type NextEvent = (Arc<ConnectivityCheck>, Option<String>, PendingEvent);

fn next_event(shared: &Shared, name: &str) -> Option<NextEvent> {
    let state = shared.state();
    let check = state.checks.get(name)?;
    let event = check.events.next()?.clone();
    let node = match &event.event.regarding {
        Regarding::Node(node) => state.inventory.node(node),
        Regarding::Check => None,
    };
    let uid = node.map(|node| node.uid.clone());
    Some((Arc::clone(&check.object), uid, event))
}

/// Reports a check that does not parse in its own status, once for each of its generations.
async fn report_invalid(
    shared: &Shared,
    name: &str,
    error: &str,
    generation: Option<i64>,
) -> Result<(), ApiError> {
    if shared.invalid().get(name) == Some(&generation) {
        return Ok(());
    }
    tracing::warn!(check = name, error, "a ConnectivityCheck does not parse");
    let status = invalid(error, generation, wall());
    shared.status_writer.write_status(name, &status).await?;
    shared.invalid().insert(name.to_owned(), generation);
    Ok(())
}
