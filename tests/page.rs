//! HTML reports and the page of the canary, opened in Chromium in light and dark, on a wide and a narrow screen: axe-core
//! and html-validate find nothing, nothing overflows, and nothing is loaded from elsewhere. `PROBER_PAGES=FOLDER` keeps the
//! reports, with a picture of each page.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot look fails, and says why it was left out"
)]

#[path = "page/cluster.rs"]
mod cluster;
#[path = "page/content.rs"]
mod content;
#[path = "page/network.rs"]
mod network;
#[path = "tools/part.rs"]
mod part;
#[path = "page/served.rs"]
mod served;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Trial};
use network::{Network, broken, healthy, replayed, sparse};
use part::part;
use prober_core::report::Report;
use prober_core::report::render::html;
use serde::Deserialize;

fn main() {
    let arguments = Arguments::from_args();
    let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    let in_browser = match part("page") {
        Ok(program) => trials(&program),
        Err(why) if is_ci => vec![Trial::test("a browser is there", move || Err(why.into()))],
        Err(why) => {
            println!("left out: every test with a browser, since {why}");
            Vec::new()
        }
    };
    let trials = content_trials().into_iter().chain(in_browser).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// The tests of what pages contain.
fn content_trials() -> Vec<Trial> {
    let trial = |name, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    vec![
        trial(
            "every_page_is_small_and_has_no_inline_style_or_script",
            content::every_page_is_small_and_has_no_inline_style_or_script,
        ),
        trial(
            "the_overview_reads_like_this",
            content::the_overview_reads_like_this,
        ),
        trial(
            "one_sentence_says_how_everything_is",
            content::one_sentence_says_how_everything_is,
        ),
        trial(
            "stale_data_is_grey_and_says_how_old_it_is",
            content::stale_data_is_grey_and_says_how_old_it_is,
        ),
        trial(
            "names_are_escaped_bounded_and_found",
            content::names_are_escaped_bounded_and_found,
        ),
        trial(
            "a_grid_of_many_nodes_names_those_that_do_not_work",
            content::a_grid_of_many_nodes_names_those_that_do_not_work,
        ),
        trial(
            "an_outage_is_shown_with_the_report_in_which_it_was_found",
            content::an_outage_is_shown_with_the_report_in_which_it_was_found,
        ),
        trial(
            "an_outage_shows_both_ends_and_its_report",
            content::an_outage_shows_both_ends_and_its_report,
        ),
    ]
}

fn trials(program: &Path) -> Vec<Trial> {
    let trial = |name, test: fn(&Path)| {
        let program = program.to_path_buf();
        Trial::test(name, move || {
            test(&program);
            Ok(())
        })
    };
    vec![
        trial(
            "pages_of_2_12_and_50_nodes_are_accessible_and_fit_every_screen",
            pages_of_2_12_and_50_nodes_are_accessible_and_fit_every_screen,
        ),
        trial(
            "the_page_of_2_50_1000_and_5000_nodes_is_accessible_and_fits_every_screen",
            served::the_page_is_accessible_and_fits_every_screen,
        ),
        trial(
            "an_open_page_shows_a_new_outage_without_being_loaded_again",
            served::an_open_page_shows_a_new_outage_without_being_loaded_again,
        ),
        trial(
            "what_judges_pages_finds_what_is_wrong",
            what_judges_pages_finds_what_is_wrong,
        ),
    ]
}

/// What is wrong with a page.
#[derive(Debug, Deserialize)]
struct Finding {
    file: PathBuf,
    scheme: Option<String>,
    width: Option<u32>,
    rule: String,
    what: String,
}

/// The largest page, in bytes.
const LARGEST: usize = 400_000;

fn reports() -> Vec<(&'static str, Report)> {
    let long = "node-that-has-a-name-as-long-as-a-cloud-gives-it.eu-central-1.compute.internal";
    let hostile = Network {
        name: |node| format!("<b onclick=alert({node})>&\"{node}"),
        ..Network::of(3)
    };
    let clouded = Network {
        name: |node| {
            format!("ip-10-0-{node}-{node}-in-a-cluster-whose-names-are-long.compute.internal")
        },
        ..Network::of(5)
    };
    let mut noisy = healthy(&Network::of(2));
    noisy.notes = (0..30).map(|n| format!("{long}: note {n}")).collect();
    vec![
        ("healthy-2", healthy(&Network::of(2))),
        ("broken-2", broken(&Network::of(2))),
        ("healthy-12", healthy(&Network::of(12))),
        ("broken-12", broken(&Network::of(12))),
        ("sparse-12", sparse(&Network::of(12))),
        ("healthy-50", healthy(&Network::of(50))),
        ("broken-50", broken(&Network::of(50))),
        ("hostile-3", broken(&hostile)),
        ("long-names-5", broken(&clouded)),
        ("notes-2", noisy),
        ("replayed", replayed()),
    ]
}

/// Everything that is wrong with these pages.
fn findings(program: &Path, pages: &[PathBuf], shots: Option<&Path>) -> Vec<Finding> {
    let shots = shots
        .iter()
        .flat_map(|folder| [Path::new("--shots"), folder]);
    judged(program, shots.chain(pages.iter().map(PathBuf::as_path)))
}

/// What the program that judges pages finds with these arguments.
fn judged(program: &Path, arguments: impl Iterator<Item = impl AsRef<OsStr>>) -> Vec<Finding> {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .expect("start what judges pages");
    assert!(output.status.success(), "{} failed", program.display());
    serde_json::from_slice(&output.stdout).expect("it writes its findings as JSON")
}

fn pages_of_2_12_and_50_nodes_are_accessible_and_fit_every_screen(program: &Path) {
    let kept = std::env::var_os("PROBER_PAGES").map(PathBuf::from);
    let scratch = tempfile::tempdir().expect("make a folder");
    let folder = kept.as_deref().unwrap_or_else(|| scratch.path());
    fs::create_dir_all(folder).expect("make a folder");
    let mut pages = Vec::new();
    for (name, report) in reports() {
        let page = html::report(&report);
        assert!(page.len() < LARGEST, "{name}: {} bytes", page.len());
        assert!(!page.contains("style="), "{name} has an inline style");
        let path = folder.join(format!("{name}.html"));
        fs::write(&path, page).expect("write a page");
        pages.push(path);
    }
    assert_nothing(&findings(program, &pages, kept.as_deref()));
}

/// Fails with what was found, if anything was.
fn assert_nothing(findings: &[Finding]) {
    let found: Vec<String> = (findings.iter())
        .map(|finding| {
            let Finding {
                file,
                scheme,
                width,
                rule,
                what,
            } = finding;
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            let scheme = scheme.as_deref().unwrap_or("source");
            format!("{name}, {scheme} {}: {rule}: {what}", width.unwrap_or(0))
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn what_judges_pages_finds_what_is_wrong(program: &Path) {
    let scratch = tempfile::tempdir().expect("make a folder");
    let path = scratch.path().join("wrong.html");
    let page = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>wrong</title>\
        <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\"></head>\
        <body><h1>wrong</h1><p style=\"color:#eee\">inline</p><font color=\"#eeeeee\">pale</font><img src=\"http://127.0.0.1:9/x.png\">\
        <table width=\"3000\"><tr><th></th></tr></table></body></html>";
    fs::write(&path, page).expect("write a page");
    let found = findings(program, &[path], None);
    for rule in [
        "no-inline-style",
        "console",
        "overflow",
        "image-alt",
        "color-contrast",
    ] {
        let is_found = found.iter().any(|finding| finding.rule == rule);
        assert!(is_found, "{rule} is not among {found:#?}");
    }
}
