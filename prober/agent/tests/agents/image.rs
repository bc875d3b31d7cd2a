//! The agent's image: its content, its size, and that it can be reproduced.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// The bound of the image, bytes.
const MOST: u64 = 12_000_000;

/// The root of the checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn script(what: &str) -> Output {
    let mut command = Command::new(root().join("scripts/image"));
    command.arg(what).output().unwrap()
}

/// Builds the image, and returns its reference.
fn make() -> String {
    let done = script("prober-agent");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "scripts/image: {said}");
    let reference = String::from_utf8(done.stdout).unwrap();
    reference.strip_suffix('\n').unwrap().to_owned()
}

/// The image of this machine's architecture, built once for all tests.
fn archive() -> (&'static str, PathBuf) {
    static REFERENCE: OnceLock<String> = OnceLock::new();
    let reference = REFERENCE.get_or_init(make);
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    (
        reference,
        root().join(target).join("image/prober-agent.tar"),
    )
}

fn extract(archive: &Path, into: &Path) {
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(archive);
    let status = tar.arg("--directory").arg(into).status().unwrap();
    assert!(status.success(), "extract {}", archive.display());
}

/// Extracts the image's root file system into a folder.
pub(crate) fn unpack(into: &Path) {
    let parts = tempfile::tempdir().unwrap();
    extract(&archive().1, parts.path());
    extract(&parts.path().join("layer.tar"), into);
}

fn sha256(file: &Path) -> String {
    let done = Command::new("sha256sum").arg(file).output().unwrap();
    let line = String::from_utf8(done.stdout).unwrap();
    line.split(' ').next().unwrap().to_owned()
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn the_archive_names_its_parts_by_their_digests_and_itself_by_the_reference_that_was_printed() {
    let (reference, archive) = archive();
    let parts = tempfile::tempdir().unwrap();
    extract(&archive, parts.path());
    let manifest = json(&parts.path().join("manifest.json"));
    assert_eq!(manifest[0]["RepoTags"][0], *reference);
    let name = manifest[0]["Config"].as_str().unwrap();
    let config = parts.path().join(name);
    assert_eq!(name.strip_suffix(".json").unwrap(), sha256(&config));
    let config = json(&config);
    let layer = parts
        .path()
        .join(manifest[0]["Layers"][0].as_str().unwrap());
    let diff = &config["rootfs"]["diff_ids"];
    assert_eq!(
        *diff,
        serde_json::json!([format!("sha256:{}", sha256(&layer))])
    );
    assert_eq!(
        config["config"]["Entrypoint"],
        serde_json::json!(["/prober-agent"])
    );
    // No user: a pod decides whether it starts as root, with NET_RAW, or as uid 65534.
    assert!(config["config"]["User"].is_null());
    let expected = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    };
    assert_eq!(config["architecture"], expected);
}

#[test]
fn there_is_nothing_in_it_but_a_static_program() {
    let dir = tempfile::tempdir().unwrap();
    unpack(dir.path());
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["prober-agent"]);
    let headers = Command::new("readelf")
        .args(["--program-headers", "--wide"])
        .arg(dir.path().join("prober-agent"))
        .output()
        .unwrap();
    let headers = String::from_utf8(headers.stdout).unwrap();
    assert!(
        headers.contains("LOAD") && !headers.contains("INTERP"),
        "{headers}"
    );
    let run = Command::new("chroot")
        .arg(dir.path())
        .args(["/prober-agent", "--version"])
        .output()
        .unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(said.starts_with("prober-agent "), "{said}");
}

#[test]
fn it_is_small_and_reproducible() {
    let (reference, archive) = archive();
    let first = (sha256(&archive), fs::metadata(&archive).unwrap().len());
    assert!(first.1 <= MOST, "{} bytes", first.1);
    assert_eq!(make(), reference);
    assert_eq!(sha256(&archive), first.0);
}

#[test]
fn an_unknown_architecture_is_refused_with_the_known_ones() {
    let done = script("sparc64");
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(
        said.contains("'sparc64'") && said.contains("x86_64 or aarch64"),
        "{said}"
    );
}

#[test]
fn the_containerfile_starts_the_same_program() {
    let text = fs::read_to_string(root().join("deploy/image/Containerfile")).unwrap();
    assert!(
        text.contains("\nENTRYPOINT [\"/prober-agent\"]\n"),
        "{text}"
    );
}
