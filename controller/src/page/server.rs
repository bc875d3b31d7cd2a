//! The HTTP server of the page: GET and HEAD only, on loopback only.
//!
//! To read it takes the right to forward a port to the controller's pod, so the rights of the Kubernetes API are its login.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HOST, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, RETRY_AFTER, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::Stream;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::answer::{Answer, Query, View, answer, is_own_host};
use super::state::Reading;
use crate::clock::wall;

/// The most streams of updates at a time.
pub const STREAMS: usize = 64;

/// How often a stream says that it lasts.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The shortest time from one update of a stream to the next.
const UPDATE_PERIOD: Duration = Duration::from_secs(1);

/// How long a stream lasts before the browser opens it again: one that is not read ends some day.
const STREAM_LIFETIME: Duration = Duration::from_mins(10);

/// The most pages that are kept until the state changes.
const KEPT_PAGES: usize = 32;

/// The smallest content that is compressed, in bytes.
const COMPRESSED: usize = 1_000;

/// What a page may load: its own style, script and data.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
                          frame-ancestors 'none'; base-uri 'none'";

/// Headers of every answer.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
];

/// Why the page is not served.
#[derive(Debug, Error)]
pub enum PageServerError {
    /// The address is not of the loopback interface.
    #[error(
        "the page is served on loopback addresses only, and {0} is none: `kubectl prober ui` forwards a local port to it"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be used.
    #[error("listen on {address}: give another --page-address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// A listening server.
#[derive(Debug)]
pub struct PageServer {
    listener: TcpListener,
}

/// What requests share.
struct Shared {
    readings: watch::Receiver<Reading>,
    streams: Arc<Semaphore>,
    pages: Mutex<KeptPages>,
}

/// Pages of one version and minute, by their address.
#[derive(Default)]
struct KeptPages {
    key: (u64, bool, u64),
    pages: BTreeMap<String, Arc<Page>>,
}

/// An answer in both encodings.
struct Page {
    answer: Answer,
    etag: String,
    compressed: Option<Bytes>,
}

impl PageServer {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// If the address is not of the loopback interface, or is in use.
    pub async fn bind(address: SocketAddr) -> Result<Self, PageServerError> {
        if !address.ip().is_loopback() {
            return Err(PageServerError::NotLoopback(address));
        }
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| PageServerError::Listen { address, source })?;
        Ok(Self { listener })
    }

    /// The address that it listens on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves what `readings` has, for ever.
    pub async fn serve(self, readings: watch::Receiver<Reading>) -> io::Result<()> {
        let shared = Arc::new(Shared {
            readings,
            streams: Arc::new(Semaphore::new(STREAMS)),
            pages: Mutex::default(),
        });
        let router = Router::new()
            .route("/events", get(events))
            .fallback(get(page))
            .layer(middleware::from_fn(guard))
            .with_state(shared);
        axum::serve(self.listener, router).await
    }
}

/// Refuses other hosts, and adds the headers of every answer.
async fn guard(request: Request, next: Next) -> Response {
    let host = (request.headers().get(HOST)).and_then(|host| host.to_str().ok());
    let mut response = if host.is_some_and(is_own_host) {
        next.run(request).await
    } else {
        let why = "the page answers to localhost, 127.0.0.1 and [::1] only\n";
        (StatusCode::MISDIRECTED_REQUEST, why).into_response()
    };
    response.headers_mut().extend(HEADERS);
    response
}

async fn page(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    // To write the pages of thousands of nodes takes long, so it runs on a thread that may block.
    let Ok(page) = spawn_blocking(move || shared.page(&uri)).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    respond(&page, &headers)
}

fn respond(page: &Page, headers: &HeaderMap) -> Response {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let status =
        StatusCode::from_u16(page.answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let known = header(IF_NONE_MATCH).unwrap_or_default();
    let is_known = known.split(',').any(|tag| tag.trim() == page.etag);
    let common = [
        (ETAG, page.etag.clone()),
        (VARY, "Accept-Encoding".to_owned()),
    ];
    if is_known && status == StatusCode::OK {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let content_type = [(CONTENT_TYPE, page.answer.content_type)];
    let accepts_gzip = header(ACCEPT_ENCODING).is_some_and(accepts_gzip);
    match &page.compressed {
        Some(compressed) if accepts_gzip => {
            let encoding = [(CONTENT_ENCODING, "gzip")];
            let body = Body::from(compressed.clone());
            (status, common, content_type, encoding, body).into_response()
        }
        Some(_) | None => (status, common, content_type, page.answer.body.clone()).into_response(),
    }
}

/// Whether an `Accept-Encoding` header names gzip, and does not exclude it.
fn accepts_gzip(header: &str) -> bool {
    header.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip") && parts.all(|weight| !matches!(weight, "q=0" | "q=0.0"))
    })
}

impl Shared {
    /// The answer to a GET, made once for a version and minute.
    fn page(&self, uri: &Uri) -> Arc<Page> {
        let reading = self.readings.borrow().clone();
        let now = wall();
        let view = View::of(&reading, now);
        let minute = now.as_nanos() / 60_000_000_000;
        let key = (reading.version, view.is_stale(), minute);
        let address = uri.to_string();
        // The API says when the data was read.
        let is_kept = !uri.path().starts_with("/api/");
        if is_kept {
            let mut kept = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.key != key {
                *kept = KeptPages {
                    key,
                    pages: BTreeMap::new(),
                };
            }
            if let Some(page) = kept.pages.get(&address) {
                return Arc::clone(page);
            }
        }
        let query = Query::parse(uri.query().unwrap_or_default());
        let page = Arc::new(Page::new(answer(&view, uri.path(), &query)));
        if is_kept {
            let mut kept = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.key == key && kept.pages.len() < KEPT_PAGES {
                kept.pages.insert(address, Arc::clone(&page));
            }
        }
        page
    }
}

impl Page {
    fn new(answer: Answer) -> Self {
        let compressed = (answer.body.len() >= COMPRESSED)
            .then(|| compress(&answer.body))
            .and_then(Result::ok);
        Self {
            etag: answer.etag(),
            compressed,
            answer,
        }
    }
}

fn compress(body: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish().map(Bytes::from)
}

/// The stream of updates: `update` with the version of the state, `heartbeat` where nothing changes.
async fn events(State(shared): State<Arc<Shared>>) -> Response {
    let Ok(permit) = Arc::clone(&shared.streams).try_acquire_owned() else {
        let why = "too many streams are open: reload the page instead\n";
        let later = [(RETRY_AFTER, "60")];
        return (StatusCode::SERVICE_UNAVAILABLE, later, why).into_response();
    };
    Sse::new(updates(shared.readings.clone(), permit)).into_response()
}

/// A stream of updates. A slow reader misses versions, and delays nothing else.
fn updates(
    readings: watch::Receiver<Reading>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let end = Instant::now() + STREAM_LIFETIME;
    let start = (readings, permit, None::<Instant>);
    futures::stream::unfold(start, move |(mut readings, permit, last)| async move {
        let event = match last {
            None => update(&mut readings),
            Some(last) => {
                if last >= end {
                    return None;
                }
                match timeout_at(last + HEARTBEAT, readings.changed()).await {
                    Ok(Ok(())) => {
                        sleep_until(last + UPDATE_PERIOD).await;
                        update(&mut readings)
                    }
                    // Nothing will ever change.
                    Ok(Err(_)) => return None,
                    Err(_) => Event::default().event("heartbeat").data(""),
                }
            }
        };
        Some((Ok(event), (readings, permit, Some(Instant::now()))))
    })
}

fn update(readings: &mut watch::Receiver<Reading>) -> Event {
    let version = readings.borrow_and_update().version;
    Event::default().event("update").data(version.to_string())
}

#[cfg(test)]
mod tests;
