//! The program under test, as users run it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

/// The path of the program, which is built once, together with a test: the tests of the workspace are built with the
/// same features, and a build of the program alone would rebuild its dependencies with others.
pub(crate) static PROBER: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["test", "--quiet", "--locked", "--workspace", "--no-run"])
        .args(["--test", "command_line"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    // Cargo sets these variables for tests; build scripts that read them would run again.
    let is_set_by_cargo =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_set_by_cargo) {
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
