//! The answer to a request: which page, and its content.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use prober_core::report::render::html::STYLE;
use prober_core::time::Timestamp;

use super::state::{Grouping, PageState, Reading};
use super::{api, coverage, history, layout, node_page, node_search, outage_page, overview};

/// How old data may be and still be called current: a leader reads its state every few seconds.
pub const CURRENT: Duration = Duration::from_secs(30);

/// The most bytes of a query.
const QUERY: usize = 2_048;

/// The style of the page, beside that of the reports.
const OWN_STYLE: &str = include_str!("page.css");

/// The script of the page.
const SCRIPT: &str = include_str!("page.js");

/// A state, as it is seen at a point in time.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The state.
    pub state: &'a PageState,
    /// Differs where the state differs.
    pub version: u64,
    /// When the state was read.
    pub read_at: Timestamp,
    /// How long ago that is.
    pub age: Duration,
    /// The current time.
    pub now: Timestamp,
}

impl<'a> View<'a> {
    /// A reading, as it is seen now.
    pub fn of(reading: &'a Reading, now: Timestamp) -> Self {
        Self {
            state: &reading.state,
            version: reading.version,
            read_at: reading.at,
            age: now.since(reading.at),
            now,
        }
    }

    /// Whether the data is too old to say how anything is now.
    pub fn is_stale(&self) -> bool {
        self.age > CURRENT
    }
}

/// The parameters of a query; of one that occurs twice the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Parses a query. One that is too long has no parameters.
    pub fn parse(query: &str) -> Self {
        if query.len() > QUERY {
            return Self::default();
        }
        Self(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The media type.
    pub content_type: &'static str,
    /// The content.
    pub body: Vec<u8>,
}

impl Answer {
    fn html(status: u16, page: String) -> Self {
        Self {
            status,
            content_type: "text/html; charset=utf-8",
            body: page.into_bytes(),
        }
    }

    fn text(content_type: &'static str, body: String) -> Self {
        Self {
            status: 200,
            content_type,
            body: body.into_bytes(),
        }
    }

    fn json(document: serde_json::Result<Vec<u8>>) -> Self {
        let (status, body) = match document {
            Ok(body) => (200, body),
            Err(error) => (500, error.to_string().into_bytes()),
        };
        Self {
            status,
            content_type: "application/json",
            body,
        }
    }

    /// The entity tag of the content.
    pub fn etag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.body.hash(&mut hasher);
        format!("W/\"{:016x}\"", hasher.finish())
    }
}

/// The answer to a GET of `path`.
pub fn answer(view: &View<'_>, path: &str, query: &Query) -> Answer {
    let found = |page| Answer::html(200, page);
    match path {
        "/" => {
            let grouping = query.get("group").and_then(Grouping::parse);
            found(overview::overview(view, grouping))
        }
        "/nodes" => found(node_search::node_search(view, query)),
        "/outages" => found(history::history(view)),
        "/coverage" => found(coverage::coverage(view)),
        "/node" => match query.get("name").and_then(|name| view.state.node(name)) {
            Some(node) => found(node_page::node_page(view, node)),
            None => missing(view, "No check selects a node of this name."),
        },
        "/outage" => match query.get("id").and_then(|id| view.state.outage(id)) {
            Some(outage) => found(outage_page::outage_page(view, outage)),
            None => missing(
                view,
                "This outage is not known any more, or has another explanation now.",
            ),
        },
        "/style.css" => Answer::text("text/css; charset=utf-8", format!("{STYLE}{OWN_STYLE}")),
        "/script.js" => Answer::text("text/javascript; charset=utf-8", SCRIPT.to_owned()),
        "/api/v1/report.json" => {
            let outage = query.get("outage").and_then(|id| view.state.outage(id));
            match outage.and_then(|outage| outage.report.as_ref()) {
                Some(kept) => Answer::json(serde_json::to_vec(&*kept.report)),
                None => missing(view, "No report of this outage is kept."),
            }
        }
        _ => {
            let document = path
                .strip_prefix("/api/v1/")
                .and_then(|name| name.strip_suffix(".json"))
                .and_then(|name| api::document(view, name));
            match document {
                Some(document) => Answer::json(document),
                None => missing(view, "There is no such page."),
            }
        }
    }
}

fn missing(view: &View<'_>, why: &str) -> Answer {
    let content = maud::html! {
        section id="missing" data-swap="" {
            p { (why) }
            p { a href="/outages" { "All outages" } ", " a href="/nodes" { "all nodes" } }
        }
    };
    let page = layout::Page {
        path: "",
        title: Some("Not found"),
        content,
    };
    Answer::html(404, layout::page(view, &page))
}

/// Whether a `Host` header names this machine, with any port: a page of another name, which resolves to this machine, may
/// not read it.
pub fn is_own_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    name.eq_ignore_ascii_case("localhost") || matches!(name, "127.0.0.1" | "[::1]")
}
