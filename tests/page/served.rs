//! The page of the canary, served and opened in a browser.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use controller::page::server::PageServer;
use controller::page::state::Reading;
use prober_core::time::{Timestamp, nanos};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::content::{MISSING, addresses};
use crate::{assert_nothing, judged};

/// A server of pages, which ends with this.
struct Served {
    address: SocketAddr,
    readings: watch::Sender<Reading>,
    _runtime: Runtime,
}

impl Served {
    /// Serves a state that stays current during the test.
    fn start(reading: Reading) -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("it is later");
        let at = Timestamp::from_nanos(nanos(since + Duration::from_hours(1)));
        let (sender, receiver) = watch::channel(Reading { at, ..reading });
        let runtime = Runtime::new().expect("start a runtime");
        let bound = runtime.block_on(PageServer::bind((Ipv4Addr::LOCALHOST, 0).into()));
        let server = bound.expect("listen on loopback");
        let address = server.address().expect("it listens");
        runtime.spawn(server.serve(receiver));
        Self {
            address,
            readings: sender,
            _runtime: runtime,
        }
    }

    fn url(&self, address: &str) -> String {
        format!("http://{}{address}", self.address)
    }
}

pub(crate) fn the_page_is_accessible_and_fits_every_screen(program: &Path) {
    let kept = std::env::var_os("PROBER_PAGES").map(PathBuf::from);
    let shots = |name: &str| {
        let folder = kept.as_ref().map(|folder| folder.join(name));
        folder.map(|folder| ["--shots".to_owned(), folder.display().to_string()])
    };
    for nodes in [2, 50, 1_000, 5_000] {
        let reading = Cluster::of(nodes).reading();
        let served = Served::start(reading.clone());
        // The pages beside the overview do not depend on the number of nodes.
        let mut addresses = addresses(&reading);
        addresses.retain(|address| address != MISSING);
        if nodes != 50 {
            addresses.truncate(1);
        }
        let urls = addresses.iter().map(|address| served.url(address));
        let shots = shots(&format!("nodes-{nodes}"));
        assert_nothing(&judged(program, shots.into_iter().flatten().chain(urls)));
    }
    let stale = Reading {
        at: Timestamp::from_nanos(1),
        ..Cluster::of(50).reading()
    };
    let served = Served::start(stale.clone());
    served.readings.send_replace(stale);
    assert_nothing(&judged(program, [served.url("/")].into_iter()));
}

pub(crate) fn an_open_page_shows_a_new_outage_without_being_loaded_again(program: &Path) {
    let before = Cluster::of(50).with_failing(0);
    let served = Served::start(before.reading());
    let at = served.readings.borrow().at;
    let readings = served.readings.clone();
    // One receiver is the server's, the other that of the browser's stream.
    let watching = std::thread::spawn(move || {
        while readings.receiver_count() < 2 {
            std::thread::yield_now();
        }
        readings.send_replace(Reading {
            at,
            version: 2,
            state: Arc::new(before.with_failing(1).state()),
        });
    });
    let news = "#news:not(:empty)";
    let selector = format!("body[data-version=\"2\"]:has({news}):has(#outages a.failing)");
    let url = served.url("/");
    let found = judged(program, ["--until".to_owned(), selector, url].into_iter());
    watching.join().expect("the browser opened a stream");
    assert_nothing(&found);
}
