//! One page per cause: the text of `prober explain`.

use std::fmt;

use super::catalogue::Cause;

/// The description of a cause, as paragraphs of plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The cause.
    pub cause: Cause,
    /// The fate of the packets.
    pub what_happens: &'static str,
    /// The symptoms at the client's end.
    pub client_end: &'static str,
    /// The symptoms at the server's end.
    pub server_end: &'static str,
    /// How it differs from similar causes.
    pub what_decides: &'static str,
    /// The remedy.
    pub remedy: &'static str,
    /// The sources.
    pub sources: &'static str,
}

impl Cause {
    /// Its page.
    pub fn page(self) -> Page {
        let text = self.page_text();
        Page {
            cause: self,
            what_happens: section(text, "What happens"),
            client_end: section(text, "At the client's end"),
            server_end: section(text, "At the server's end"),
            what_decides: section(text, "What decides"),
            remedy: section(text, "Remedy"),
            sources: section(text, "Sources"),
        }
    }
}

impl Page {
    /// Its sections in order: a heading, and paragraphs with an empty line between.
    pub const fn sections(&self) -> [(&'static str, &'static str); 6] {
        [
            ("What happens", self.what_happens),
            ("At the client's end", self.client_end),
            ("At the server's end", self.server_end),
            ("What decides", self.what_decides),
            ("Remedy", self.remedy),
            ("Sources", self.sources),
        ]
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.cause, self.cause.meaning())?;
        for (heading, text) in self.sections() {
            writeln!(f, "\n{heading}\n")?;
            for line in text.lines() {
                writeln!(f, "{}{line}", if line.is_empty() { "" } else { "  " })?;
            }
        }
        Ok(())
    }
}

/// The lines below a heading, up to the next; empty where there is none (a test finds those).
fn section(text: &'static str, heading: &str) -> &'static str {
    text.split("## ")
        .find_map(|part| part.strip_prefix(heading))
        .unwrap_or_default()
        .trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_every_section() {
        for &cause in Cause::ALL {
            let page = cause.page();
            for (heading, text) in page.sections() {
                assert!(text.len() >= 8, "{cause}: {heading}: {text:?}");
            }
        }
    }

    #[test]
    fn the_pages_of_all_causes() {
        let rule = "=".repeat(72);
        let pages: Vec<String> = Cause::ALL
            .iter()
            .flat_map(|cause| [cause.page().to_string(), rule.clone()])
            .collect();
        let all = pages.join("\n") + "\n";
        insta::assert_snapshot!(all);
    }
}
