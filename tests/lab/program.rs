//! The program under test, as users run it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

/// The program, built once.
pub(crate) static PROBER: LazyLock<PathBuf> = LazyLock::new(|| {
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "prober",
            "--bin",
            "prober",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("run cargo build");
    assert!(built.success(), "prober does not build");
    let test = std::env::current_exe().expect("know this test's path");
    // target/PROFILE/deps/TEST-HASH
    test.ancestors()
        .nth(2)
        .expect("a test lies in target/PROFILE/deps")
        .join("prober")
});
