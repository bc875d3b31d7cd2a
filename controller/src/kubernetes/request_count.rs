//! Counts the requests that a run makes of its API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::Request;
use kube::client::Body;
use tower::util::MapRequestLayer;

/// A counter that all of a client's requests go by.
#[derive(Clone, Debug, Default)]
pub struct RequestCount(Arc<AtomicU64>);

impl RequestCount {
    /// How many there were so far; a watch or a followed log is one, until it has to be made anew.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// What a client is built with, to be counted here.
    pub(crate) fn layer(
        &self,
    ) -> MapRequestLayer<impl Fn(Request<Body>) -> Request<Body> + Clone + use<>> {
        let count = Arc::clone(&self.0);
        MapRequestLayer::new(move |request| {
            count.fetch_add(1, Ordering::Relaxed);
            request
        })
    }
}
