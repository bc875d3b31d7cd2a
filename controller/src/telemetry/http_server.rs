//! What a controller is asked over HTTP: `/metrics`, and how it stands: `/healthz` and `/readyz`.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use super::metrics::{Exposition, Metrics, expose};

/// Whether a controller can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// Not yet, or no more.
    NotReady {
        /// Why, as a sentence.
        reason: String,
    },
}

/// An address to be asked at.
#[derive(Debug)]
pub struct Desk {
    listener: TcpListener,
}

/// Tells how a controller stands.
pub type Standing = Arc<dyn Fn() -> Readiness + Send + Sync>;

impl Desk {
    /// Listens on `address`; port 0 takes a free one.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `ended` is.
    pub async fn answer(
        self,
        metrics: Arc<Metrics>,
        standing: Standing,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let router = Router::new()
            .route("/metrics", get(scrape))
            .with_state(metrics)
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready).with_state(standing));
        axum::serve(self.listener, router)
            .with_graceful_shutdown(ended)
            .await
    }
}

async fn scrape(State(metrics): State<Arc<Metrics>>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let exposition = Exposition::accepted(accept.unwrap_or_default());
    // Of thousands of nodes it takes a while, and others have work here.
    let written = spawn_blocking(move || expose(&metrics, exposition)).await;
    let failed =
        |error: &dyn Error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
    match written {
        Ok(Ok(body)) => ([(CONTENT_TYPE, exposition.content_type())], body).into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

async fn ready(State(standing): State<Standing>) -> (StatusCode, String) {
    match standing() {
        Readiness::Ready => (StatusCode::OK, "ok\n".to_owned()),
        Readiness::NotReady { reason } => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
