//! Reads the state for the page: when it has changed, at most once a second, and as long as this controller leads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::shared::Shared;
use crate::clock::wall;
use crate::page::snapshot::{Sources, snapshot};
use crate::page::state::{PageState, Reading};

/// The shortest time from one reading to the next.
const PERIOD: Duration = Duration::from_secs(1);

/// How often it is read without a change, so that its age says whether this controller still leads.
const REFRESH: Duration = Duration::from_secs(10);

/// Reads for ever.
pub(super) async fn run(shared: Arc<Shared>, identity: String, page: watch::Sender<Reading>) {
    // Before, it would say that there is nothing.
    shared.evaluated().await;
    let mut reports = shared.reports();
    loop {
        // Without the Lease another controller may know better.
        if shared.client.fencing_token.is_valid() {
            publish(&page, read(&shared, &identity));
        }
        sleep(PERIOD).await;
        // Both a change and none for a while are a reason to read.
        drop(timeout(REFRESH, reports.changed()).await);
    }
}

fn read(shared: &Shared, identity: &str) -> PageState {
    let standing = shared.standing.borrow();
    let slots =
        (standing.as_ref()).map_or((0, 0), |standing| (standing.nodes.len(), standing.peers));
    drop(standing);
    let state = shared.state();
    let sources = Sources {
        identity,
        leads: true,
        inventory: &state.inventory,
        slots,
        now: wall(),
    };
    let checks = (state.checks.iter()).map(|(name, check)| (name.as_str(), &check.state));
    snapshot(sources, checks, &mut shared.failure_reports())
}

/// Notifies the readers only if the state differs.
fn publish(page: &watch::Sender<Reading>, state: PageState) {
    page.send_if_modified(|reading| {
        reading.at = wall();
        let differs = *reading.state != state;
        if differs {
            reading.version += 1;
            reading.state = Arc::new(state);
        }
        differs
    });
}
