//! `prober explain`: the list of causes that a diagnosis can name, and the page of each.

use std::process::ExitCode;

use prober_core::diagnosis::catalogue::Cause;

use crate::show;
use crate::terminal::{width, wrap};
use crate::values::{ListFormat, cause};

/// Lists the causes, or explains one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    prober explain\n  \
    prober explain bridge-netfilter-off\n  \
    prober explain -o json")]
pub(crate) struct ExplainArgs {
    /// The cause, such as bridge-netfilter-off; without it, all are listed
    #[arg(value_parser = cause(), hide_possible_values = true)]
    cause: Option<Cause>,

    /// The output format
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    output: ListFormat,
}

/// Runs `prober explain`: lists the causes, or shows the page of one.
pub(crate) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let causes = args
        .cause
        .map_or_else(|| Cause::ALL.to_vec(), |cause| vec![cause]);
    show::list(
        args.output,
        || {
            args.cause
                .map_or_else(|| list(width()), |cause| page(cause, width()))
        },
        || causes.iter().copied().map(document).collect::<Vec<_>>(),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Renders the list of causes in lines of at most `width` columns.
fn list(width: usize) -> String {
    let lines = Cause::ALL.iter();
    let lines = lines.map(|cause| wrap(&format!("{:<24} ", cause.slug()), cause.meaning(), width));
    lines.collect()
}

/// Renders the page of a cause in lines of at most `width` columns.
fn page(cause: Cause, width: usize) -> String {
    let mut page = wrap("", &format!("{cause}: {}", cause.meaning()), width);
    for (heading, text) in cause.page().sections() {
        page.extend(["\n", heading, "\n"]);
        for paragraph in text.split("\n\n") {
            page.push('\n');
            page.push_str(&wrap("  ", paragraph, width));
        }
    }
    page
}

/// Returns a cause as a JSON object: its slug, its meaning and its page.
fn document(cause: Cause) -> serde_json::Value {
    serde_json::json!({"cause": cause.slug(), "meaning": cause.meaning(), "page": cause.page().to_string()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_pages_fit_the_width() {
        for width in [60, 100] {
            let pages = Cause::ALL.iter().map(|cause| page(*cause, width));
            for text in pages.chain([list(width)]) {
                let longest = text.lines().map(|line| line.chars().count()).max();
                assert!(longest <= Some(width), "{width}:\n{text}");
            }
        }
    }
}
