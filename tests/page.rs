//! HTML reports, opened in Chromium in light and dark, on a wide and a narrow screen: axe-core and html-validate find
//! nothing, nothing overflows, and nothing is loaded. `PROBER_PAGES=FOLDER` keeps the pages, with a picture of each.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot look fails, and says why it was left out"
)]

#[path = "page/network.rs"]
mod network;
#[path = "tools/part.rs"]
mod part;

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
    let trials = match part("page") {
        Ok(program) => trials(&program),
        Err(why) if is_ci => vec![Trial::test("a browser is there", move || Err(why.into()))],
        Err(why) => {
            println!("left out: every test with a browser, since {why}");
            Vec::new()
        }
    };
    libtest_mimic::run(&arguments, trials).exit();
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
    let mut command = Command::new(program);
    if let Some(folder) = shots {
        command.arg("--shots").arg(folder);
    }
    let output = command
        .args(pages)
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
    let found: Vec<String> = findings(program, &pages, kept.as_deref())
        .iter()
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
