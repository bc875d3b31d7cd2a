//! The architecture: layers of crates, imports between modules, rules for files, and plain words.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot read the checkout fails"
)]

#[path = "architecture/file_rules.rs"]
mod file_rules;
#[path = "architecture/layers.rs"]
mod layers;
#[path = "architecture/modules.rs"]
mod modules;
#[path = "architecture/plain_words.rs"]
mod plain_words;
#[path = "architecture/source.rs"]
mod source;

use std::path::{Path, PathBuf};
use std::process::Command;

use layers::Workspace;
use source::Source;

/// The root of the checkout.
fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the tests are in a folder of the checkout")
        .to_path_buf()
}

/// The workspace, from cargo's metadata.
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
    let files = source::read_all(&root(), &["rs"]);
    assert!(
        files.len() > 10,
        "only {} files found: wrong folder?",
        files.len()
    );
    files
}

/// The Rust files in a folder.
fn files_in(folder: &str) -> Vec<Source> {
    let files: Vec<Source> = files()
        .into_iter()
        .filter(|file| file.path.starts_with(folder))
        .collect();
    assert!(!files.is_empty(), "{folder} has files");
    files
}

#[track_caller]
fn assert_none(violations: &[String]) {
    assert!(
        violations.is_empty(),
        "{} violations:\n  {}",
        violations.len(),
        violations.join("\n  ")
    );
}

#[test]
fn every_crate_depends_only_on_lower_layers() {
    assert_none(&layers::violations(&workspace().packages));
}

/// What the program is built from, with these further arguments of `cargo tree`.
fn crates_of_the_program(arguments: &[&str]) -> Vec<String> {
    let cargo = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", "prober"])
        .args(["--edges", "normal,build"])
        .args(arguments)
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("run cargo tree");
    let errors = String::from_utf8_lossy(&cargo.stderr);
    assert!(cargo.status.success(), "cargo tree: {errors}");
    String::from_utf8_lossy(&cargo.stdout)
        .lines()
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect()
}

#[test]
fn the_program_for_the_lab_is_built_without_kubernetes_telemetry_and_tls() {
    let crates = crates_of_the_program(&["--offline", "--no-default-features"]);
    assert!(crates.contains(&"prober-lab".to_owned()), "{crates:?}");
    let heavy = [
        "controller",
        "kube",
        "k8s-openapi",
        "opentelemetry",
        "prost",
        "tonic",
        "hyper",
        "rustls",
        "ring",
    ];
    for name in heavy {
        assert!(!crates.iter().any(|found| found == name), "{name}");
    }
}

/// `make portable` compiles it.
#[test]
fn the_program_for_other_systems_is_built_without_what_needs_linux() {
    let targets = [
        "x86_64-apple-darwin",
        "aarch64-apple-darwin",
        "x86_64-pc-windows-gnu",
    ];
    for target in targets {
        let crates = crates_of_the_program(&["--target", target]);
        assert!(crates.contains(&"controller".to_owned()), "{crates:?}");
        let linux = [
            "prober-lab",
            "prober-agent",
            "prober-net",
            "caps",
            "netlink-sys",
        ];
        for name in linux {
            assert!(
                !crates.iter().any(|found| found == name),
                "{target}: {name}"
            );
        }
    }
}

#[test]
fn every_module_of_the_core_imports_only_the_rows_in_its_table() {
    let core = files_in("prober/core/src/");
    assert_none(&modules::violations(
        &core,
        modules::CORE,
        modules::CORE_EXTERNAL,
    ));
}

#[test]
fn every_module_of_the_controller_imports_only_the_rows_in_its_table() {
    let controller = files_in("controller/src/");
    assert_none(&modules::violations(&controller, modules::CONTROLLER, &[]));
}

#[test]
fn every_file_is_short_documented_well_named_and_safe() {
    assert_none(&file_rules::violations(&files()));
}

#[test]
fn names_and_prose_use_plain_words() {
    let sources = source::read_all(&root(), &["rs", "md", "yaml"]);
    assert_none(&plain_words::violations(&sources));
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
        "targets are relative to the checkout"
    );
    // The fuzz targets are a workspace of their own; the test `corpus` finds those that it does not declare.
    roots.extend(
        files()
            .into_iter()
            .map(|file| file.path)
            .filter(|path| path.starts_with("fuzz/fuzz_targets/")),
    );
    assert_none(&file_rules::orphans(&files(), &roots));
}
