//! Counts the requests that are sent to the API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::Request;
use kube::client::Body;
use tower::util::MapRequestLayer;

/// The number of requests that a client has sent. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct RequestCount(Arc<AtomicU64>);

impl RequestCount {
    /// Returns the number of requests so far. A watch and a followed log count as one request each time they are opened.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The middleware that counts the requests of a client.
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
