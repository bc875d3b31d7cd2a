//! The program under test, as users run it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

/// The program, built once: along with a test of its own, since all tests of the workspace are built
/// with the same features, and what is built alone is built anew from the first dependency on.
pub(crate) static PROBER: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["test", "--quiet", "--locked", "--workspace", "--no-run"])
        .args(["--test", "command_line"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo has told this test would be taken for a change by dependencies that look at it.
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(told) {
            build.env_remove(name);
        }
    }
    let built = build.status().expect("run cargo test --no-run");
    assert!(built.success(), "prober does not build");
    let test = std::env::current_exe().expect("know this test's path");
    // target/PROFILE/deps/TEST-HASH
    test.ancestors()
        .nth(2)
        .expect("a test lies in target/PROFILE/deps")
        .join("prober")
});
