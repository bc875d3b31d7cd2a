//! What tests need besides, built where it is not there yet.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program of that name.
pub(crate) fn part(name: &str) -> Result<PathBuf, String> {
    let deps = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/deps");
    // What it says goes to the terminal: the first time it takes minutes.
    let output = Command::new(&deps)
        .args(["tool", name])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{} does not start: {error}", deps.display()))?;
    if !output.status.success() {
        return Err(format!("scripts/deps tool {name} failed, as it says above"));
    }
    let folder = String::from_utf8_lossy(&output.stdout);
    Ok(Path::new(folder.trim()).join(name))
}
