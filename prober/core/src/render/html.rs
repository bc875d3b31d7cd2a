//! One self-contained page.

use maud::{DOCTYPE, html};

use super::text;
use crate::report::Report;

/// The page.
pub fn report(report: &Report) -> String {
    html! {
        (DOCTYPE)
        html lang="en" { body { pre { (text::report(report).to_string()) } } }
    }
    .into_string()
}
