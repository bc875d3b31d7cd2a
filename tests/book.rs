//! The book of `docs/`: its pages of causes are what the catalogue says, its tables are what the tests found, and every
//! link leads somewhere. `PROBER_WRITE_BOOK=1` writes what is generated.

#![expect(clippy::expect_used, reason = "a test that cannot look fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use prober_core::diagnosis::catalogue::Cause;
use prober_lab::data_plane::DataPlane;
use prober_lab::fault::Fault;

/// The first line of what is written by this test.
const GENERATED: &str =
    "<!-- Written by tests/book.rs: PROBER_WRITE_BOOK=1 cargo test -p prober-tests --test book -->";

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn docs() -> PathBuf {
    checkout().join("docs")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares a page with what it must be, or writes it.
fn assert_page(name: &str, expected: &str) {
    let path = docs().join(name);
    if std::env::var_os("PROBER_WRITE_BOOK").is_some() {
        fs::create_dir_all(path.parent().expect("a page is in a folder"))
            .and_then(|()| fs::write(&path, expected))
            .expect("a page can be written");
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/{name} is not what the catalogue says: PROBER_WRITE_BOOK=1 cargo test -p prober-tests --test book"
    );
}

/// Text as Markdown shows it: without characters that Markdown would take for markup.
fn escaped(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if matches!(c, '<' | '>' | '*' | '[' | ']' | '|') {
            shown.push('\\');
        }
        shown.push(c);
    }
    shown
}

/// The faults of the lab that make this cause.
fn faults_of(cause: Cause) -> impl Iterator<Item = Fault> {
    let makes = move |fault: &Fault| {
        let mut made = fault.causes().iter().chain(fault.causes_if_late());
        made.any(|made| *made == cause)
    };
    Fault::ALL.iter().copied().filter(makes)
}

/// The command that makes a fault in the lab.
fn command(fault: Fault) -> String {
    let default = DataPlane::ALL[0];
    let planes: Vec<DataPlane> = fault.data_planes().collect();
    let plane = match planes.first() {
        Some(first) if !planes.contains(&default) => format!(" --data-plane {first}"),
        Some(_) | None => String::new(),
    };
    format!("prober run --lab{plane} --fault {fault}")
}

fn page_of(cause: Cause) -> String {
    let page = cause.page();
    let slug = cause.slug();
    let mut text = format!("{GENERATED}\n\n# {slug}\n\n{}\n", escaped(cause.meaning()));
    if picture_of(cause).exists() {
        text.extend([format!(
            "\n![The packets of one probe, as its client and its server saw them](pictures/{slug}.svg)\n"
        )]);
    }
    for (heading, section) in page.sections() {
        text.extend([format!("\n## {heading}\n\n{}\n", escaped(section))]);
    }
    text += "\n## Make it yourself\n\nIn the lab, without a cluster:\n\n";
    for fault in faults_of(cause) {
        text.extend([format!(
            "- {}:\n\n  ```sh\n  {}\n  ```\n\n",
            escaped(fault.summary()),
            command(fault)
        )]);
    }
    text
}

fn picture_of(cause: Cause) -> PathBuf {
    docs().join(format!("causes/pictures/{}.svg", cause.slug()))
}

#[test]
fn each_cause_has_its_page() {
    for &cause in Cause::ALL {
        assert_page(&format!("causes/{}.md", cause.slug()), &page_of(cause));
    }
    let known: BTreeSet<String> = (Cause::ALL.iter())
        .map(|cause| format!("{}.md", cause.slug()))
        .collect();
    let files = fs::read_dir(docs().join("causes")).expect("docs/causes is a folder");
    for file in files {
        let name = file.expect("a folder can be listed").file_name();
        let name = name.to_string_lossy().into_owned();
        assert!(
            name == "pictures" || known.contains(&name),
            "docs/causes/{name} is of no cause"
        );
    }
}

#[test]
fn the_list_of_causes_has_each_with_its_meaning() {
    let mut text = format!(
        "{GENERATED}\n\n# Causes\n\nWhat a report can name, in the words of `prober explain`. Each page says what happens to the \
         packets, how it looks at each end, and what distinguishes it from similar causes.\n\n| cause | meaning |\n| --- | --- |\n"
    );
    for cause in Cause::ALL {
        let (slug, meaning) = (cause.slug(), escaped(cause.meaning()));
        text.extend([format!("| [{slug}](causes/{slug}.md) | {meaning} |\n")]);
    }
    assert_page("causes.md", &text);
}

#[test]
fn the_table_of_what_is_distinguished_is_that_of_the_tests() {
    let snapshot = checkout().join(
        "prober/core/tests/profiles/snapshots/profiles__identifiability__identifiability.snap",
    );
    let table = read(&snapshot);
    let (_, table) = table
        .split_once("---\n")
        .and_then(|(_, rest)| rest.split_once("---\n"))
        .expect("a snapshot has a head");
    let text = format!(
        "{GENERATED}\n\n# What can be distinguished\n\nEach fault, simulated on each data plane. *right*: the report names it, \
         alone and at its place, and calls it *proven* only where no other cause gives the same packets. *consistent*: it is named, \
         and another cause would look the same. *unknown*: no cause is named, and the place is right. `-`: the data plane cannot \
         have the fault.\n\nReal clusters are in [Data planes](data-planes.md).\n\n{}\n",
        table.trim()
    );
    assert_page("identifiability.md", &text);
}

/// The pages in the table of contents.
fn summary() -> Vec<String> {
    links(&read(&docs().join("SUMMARY.md")))
}

/// The targets of a page's links.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1);
    targets
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

#[test]
fn every_page_is_in_the_table_of_contents_and_every_cause_is_among_them() {
    let listed: BTreeSet<String> = summary().into_iter().collect();
    for cause in Cause::ALL {
        let page = format!("causes/{}.md", cause.slug());
        assert!(listed.contains(&page), "docs/SUMMARY.md has no {page}");
    }
    for file in fs::read_dir(docs()).expect("docs is a folder") {
        let name = file.expect("a folder can be listed").file_name();
        let name = name.to_string_lossy().into_owned();
        let is_page =
            Path::new(&name).extension().is_some_and(|end| end == "md") && name != "SUMMARY.md";
        assert!(
            !is_page || listed.contains(&name),
            "docs/SUMMARY.md has no {name}"
        );
    }
}

/// The anchors that mdBook and GitHub give to the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| {
        let heading = line.trim_start_matches('#');
        (heading.len() < line.len()).then_some(heading.trim())
    });
    let anchor = |heading: &str| {
        let kept = heading.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
            _ => None,
        });
        kept.collect()
    };
    headings.map(anchor).collect()
}

/// The documents that people read.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [checkout(), docs(), docs().join("causes")] {
        for file in fs::read_dir(folder).expect("a folder of documents") {
            let path = file.expect("a folder can be listed").path();
            if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn every_link_of_a_document_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = read(&document);
        let folder = document.parent().expect("a document is in a folder");
        for target in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() {
                document.clone()
            } else {
                folder.join(file)
            };
            let is_found =
                path.exists() && (heading.is_empty() || anchors(&read(&path)).contains(heading));
            if !is_found {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn pictures_run_nothing_load_nothing_and_belong_to_a_cause() {
    let known: BTreeSet<PathBuf> = Cause::ALL.iter().copied().map(picture_of).collect();
    let folder = docs().join("causes/pictures");
    let files = fs::read_dir(folder).expect("docs/causes/pictures is a folder");
    for file in files {
        let path = file.expect("a folder can be listed").path();
        assert!(known.contains(&path), "{} is of no cause", path.display());
        let text = read(&path);
        let is_whole = text.starts_with("<svg ") && text.trim_end().ends_with("</svg>");
        assert!(is_whole, "{} is no picture", path.display());
        let outside = text.replace("http://www.w3.org/2000/svg", "");
        for word in [
            "<script",
            "http:",
            "https:",
            "href",
            "@import",
            "foreignObject",
        ] {
            assert!(!outside.contains(word), "{}: {word}", path.display());
        }
    }
}
