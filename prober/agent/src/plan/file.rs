//! The plan's file, which may be replaced at any time: by rename, or by the swap of a symbolic link.
//!
//! It is opened anew by its path each time, as Kubernetes projects volumes through a link to a
//! directory that is swapped. An empty or absent file is no plan yet, not a bad one.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes of a plan that are read; ten times what the largest sensible plan has.
const MAX_BYTES: u64 = 16 << 20;
/// Time between two looks where its folder is watched: for what that may miss.
const POLL_BESIDE_WATCH: Duration = Duration::from_secs(5);
/// Where it is not, while plans come and go: a run waits for its agents to notice.
const POLL_SOON_AFTER_CHANGE: Duration = Duration::from_millis(50);
/// Where it is not, when nothing has changed for [`SOON`].
const POLL: Duration = Duration::from_millis(250);
/// A file that has not changed for so long is looked at less often.
const SOON: Duration = Duration::from_secs(30);

/// What tells one state of a file from another without reading it.
type Stamp = (u64, u64, u64, i64, i64);

/// The file that plans come from.
#[derive(Debug)]
pub(crate) struct PlanFile {
    path: PathBuf,
    last_stamp: Option<Stamp>,
    text: Vec<u8>,
    changed: Instant,
}

/// How a change comes to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeDetection {
    /// Its folder is watched.
    Watched,
    /// Only by looking.
    Polled,
}

/// The plan's file could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanFileError {
    /// The kernel refused.
    #[error("cannot read the plan {path}: {source}; may this agent's uid read it?")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nobody needs such a plan.
    #[error("the plan {path} has over {MAX_BYTES} bytes: split the run")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

impl PlanFile {
    /// Watches a path; the file need not exist.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            last_stamp: None,
            text: Vec::new(),
            changed: Instant::now(),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How long to wait until the next look.
    pub(crate) fn poll_interval(&self, detection: ChangeDetection) -> Duration {
        match detection {
            ChangeDetection::Watched => POLL_BESIDE_WATCH,
            ChangeDetection::Polled if self.changed.elapsed() < SOON => POLL_SOON_AFTER_CHANGE,
            ChangeDetection::Polled => POLL,
        }
    }

    /// The file's text if it differs from what was last told; an error is told once a change.
    pub(crate) fn read_if_changed(&mut self) -> Result<Option<&[u8]>, PlanFileError> {
        let stamp = fs::metadata(&self.path).ok().map(|meta| {
            (
                meta.dev(),
                meta.ino(),
                meta.size(),
                meta.mtime(),
                meta.mtime_nsec(),
            )
        });
        if stamp == self.last_stamp {
            return Ok(None);
        }
        self.last_stamp = stamp;
        self.changed = Instant::now();
        if stamp.is_none() {
            return Ok(None);
        }
        let text = self.read()?;
        if text.iter().all(u8::is_ascii_whitespace) || text == self.text {
            return Ok(None);
        }
        self.text = text;
        Ok(Some(&self.text))
    }

    fn read(&self) -> Result<Vec<u8>, PlanFileError> {
        let unreadable = |source| PlanFileError::Unreadable {
            path: self.path.clone(),
            source,
        };
        let mut text = Vec::new();
        File::open(&self.path)
            .map_err(unreadable)?
            .take(MAX_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(unreadable)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(PlanFileError::TooLong {
                path: self.path.clone(),
            });
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn changed(file: &mut PlanFile) -> Option<String> {
        let text = file.read_if_changed().unwrap();
        text.map(|text| String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn an_absent_file_is_no_plan_and_its_arrival_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan");
        let mut file = PlanFile::new(path.clone());
        assert_eq!(changed(&mut file), None);
        fs::write(&path, "one").unwrap();
        assert_eq!(changed(&mut file).as_deref(), Some("one"));
        assert_eq!(changed(&mut file), None);
    }

    #[test]
    fn an_empty_file_is_no_plan() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan");
        fs::write(&path, " \n").unwrap();
        assert_eq!(changed(&mut PlanFile::new(path)), None);
    }

    #[test]
    fn a_renamed_file_is_told_and_the_same_text_again_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan");
        let mut file = PlanFile::new(path.clone());
        for (text, expected) in [
            ("one", Some("one")),
            ("one", None),
            ("two", Some("two")),
            ("one", Some("one")),
        ] {
            let new = dir.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &path).unwrap();
            assert_eq!(changed(&mut file).as_deref(), expected);
        }
    }

    #[test]
    fn the_swap_of_a_link_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        for (at, text) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir(dir.path().join(at)).unwrap();
            fs::write(dir.path().join(at).join("plan"), text).unwrap();
        }
        symlink("v1", dir.path().join("data")).unwrap();
        symlink("data/plan", dir.path().join("plan")).unwrap();
        let mut file = PlanFile::new(dir.path().join("plan"));
        assert_eq!(changed(&mut file).as_deref(), Some("one"));
        symlink("v2", dir.path().join("new")).unwrap();
        fs::rename(dir.path().join("new"), dir.path().join("data")).unwrap();
        assert_eq!(changed(&mut file).as_deref(), Some("two"));
    }

    #[test]
    fn a_file_without_end_is_refused_before_memory_is_full() {
        let mut file = PlanFile::new(PathBuf::from("/dev/zero"));
        assert!(matches!(
            file.read_if_changed(),
            Err(PlanFileError::TooLong { .. })
        ));
    }
}
