//! Further programs that tests need, built if they are not cached.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The path of the program `name`; builds it first if it is not cached.
///
/// # Errors
///
/// `scripts/deps tool` does not start or fails.
pub(crate) fn part(name: &str) -> Result<PathBuf, String> {
    let deps = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/deps");
    // Its messages go to the terminal: the first build takes minutes.
    let output = Command::new(&deps)
        .args(["tool", name])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{} does not start: {error}", deps.display()))?;
    if !output.status.success() {
        return Err(format!(
            "scripts/deps tool {name} failed: its messages are above"
        ));
    }
    let folder = String::from_utf8_lossy(&output.stdout);
    Ok(Path::new(folder.trim()).join(name))
}
