//! The HTTP server of a controller: `/metrics`, `/healthz` and `/readyz`.

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

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyState {
    /// It is ready.
    Ready,
    /// It is not ready.
    NotReady {
        /// Why, as a sentence.
        reason: String,
    },
}

/// A listening server.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
}

/// Returns the readiness at the time of a request.
pub type ReadinessProbe = Arc<dyn Fn() -> ReadyState + Send + Sync>;

impl HttpServer {
    /// Listens on `address`; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `ended` completes.
    pub async fn serve(
        self,
        metrics: Arc<Metrics>,
        readiness: ReadinessProbe,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let router = Router::new()
            .route("/metrics", get(scrape))
            .with_state(metrics)
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready).with_state(readiness));
        axum::serve(self.listener, router)
            .with_graceful_shutdown(ended)
            .await
    }
}

async fn scrape(State(metrics): State<Arc<Metrics>>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let exposition = Exposition::accepted(accept.unwrap_or_default());
    // Writing the metrics of thousands of nodes takes long, so it runs on a thread that may block.
    let written = spawn_blocking(move || expose(&metrics, exposition)).await;
    let failed =
        |error: &dyn Error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
    match written {
        Ok(Ok(body)) => ([(CONTENT_TYPE, exposition.content_type())], body).into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

async fn ready(State(readiness): State<ReadinessProbe>) -> (StatusCode, String) {
    match readiness() {
        ReadyState::Ready => (StatusCode::OK, "ok\n".to_owned()),
        ReadyState::NotReady { reason } => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
