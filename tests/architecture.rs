//! The house keeps its floors: what the compiler cannot forbid, these tests do.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot look fails"
)]

#[path = "architecture/floors.rs"]
mod floors;
#[path = "architecture/house.rs"]
mod house;
#[path = "architecture/rooms.rs"]
mod rooms;
#[path = "architecture/source.rs"]
mod source;

use std::path::{Path, PathBuf};
use std::process::Command;

use floors::Workspace;
use source::Source;

/// The root of the checkout.
fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the tests lie in the checkout")
        .to_path_buf()
}

/// What cargo knows of the workspace.
fn workspace() -> Workspace {
    let cargo = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--no-deps",
        ])
        .current_dir(root())
        .output()
        .expect("run cargo metadata");
    assert!(
        cargo.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&cargo.stderr)
    );
    serde_json::from_slice(&cargo.stdout).expect("cargo metadata writes JSON")
}

/// Every Rust file of the checkout.
fn files() -> Vec<Source> {
    let files = source::read_all(&root());
    assert!(
        files.len() > 10,
        "only {} files found: wrong folder?",
        files.len()
    );
    files
}

#[track_caller]
fn assert_none(violations: &[String]) {
    assert!(
        violations.is_empty(),
        "{} rules are broken:\n  {}",
        violations.len(),
        violations.join("\n  ")
    );
}

#[test]
fn every_crate_names_only_what_is_below_it() {
    assert_none(&floors::violations(&workspace().packages));
}

#[test]
fn every_module_of_the_core_imports_only_what_its_row_allows() {
    let core: Vec<Source> = files()
        .into_iter()
        .filter(|file| file.path.starts_with("prober/core/src/"))
        .collect();
    assert!(!core.is_empty(), "the core has files");
    assert_none(&rooms::violations(&core, rooms::ROOMS));
}

#[test]
fn every_file_is_short_documented_well_named_and_safe() {
    assert_none(&house::violations(&files()));
}

#[test]
fn every_file_is_compiled() {
    let workspace = workspace();
    let prefix = format!("{}/", workspace.workspace_root);
    let targets = workspace
        .packages
        .iter()
        .flat_map(|package| &package.targets);
    let mut roots: Vec<String> = targets
        .filter_map(|target| target.src_path.strip_prefix(&prefix).map(str::to_owned))
        .collect();
    assert!(
        roots.contains(&"tests/architecture.rs".to_owned()),
        "targets are read relative to the checkout"
    );
    // The fuzz targets are a workspace of their own, and the test `corpus` finds those that it does not declare.
    roots.extend(
        files()
            .into_iter()
            .map(|file| file.path)
            .filter(|path| path.starts_with("fuzz/fuzz_targets/")),
    );
    assert_none(&house::orphans(&files(), &roots));
}
