//! The page: what the canary knows, for people. One sentence, the outages, every node, and the packets that prove a cause.
//!
//! Everything but `server` and `forward` is pure: `snapshot` reads the state of the checks, `answer` makes the answer to a request from
//! it. No request changes anything, and none starts a probe.

mod age;
/// The answer to a request: which page, and its content.
pub mod answer;
mod api;
mod bounded;
mod coverage;
/// The reports of examinations in which outages were found.
pub mod failure_reports;
/// The page of a controller in a cluster, at a local address.
pub mod forward;
mod grid;
mod history;
mod layout;
mod links;
mod matrix;
mod node_page;
mod node_search;
mod outage_card;
mod outage_page;
mod overview;
/// The HTTP server of the page.
pub mod server;
/// From the state of the canary to that of the page.
pub mod snapshot;
/// What the page shows.
pub mod state;
mod summary;
