//! The plan's file, which may be replaced at any time by rename or by the swap of a symbolic link.
//!
//! It is opened by its path each time, since Kubernetes projects a volume through a link to a directory that it swaps. An
//! empty or absent file means that there is no plan yet.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest plan that is read, bytes; ten times the largest sensible plan.
const MAX_BYTES: u64 = 16 << 20;
/// The time between two checks of the file where its folder is watched, for changes that the watch misses.
const POLL_BESIDE_WATCH: Duration = Duration::from_secs(5);
/// The time between two checks without a watch, soon after a change: a run waits until its agents accept their plans.
const POLL_SOON_AFTER_CHANGE: Duration = Duration::from_millis(50);
/// The time between two checks without a watch, when nothing has changed for [`RECENT`].
const POLL: Duration = Duration::from_millis(250);
/// For so long after a change the file is checked often.
const RECENT: Duration = Duration::from_secs(30);

/// Device, inode, size and modification time: they differ between two versions of a file.
type Stamp = (u64, u64, u64, i64, i64);

/// The file that plans come from.
#[derive(Debug)]
pub(crate) struct PlanFile {
    path: PathBuf,
    last_stamp: Option<Stamp>,
    text: Vec<u8>,
    /// When `last_stamp` changed.
    changed: Instant,
    /// The longest text that is read, bytes.
    max_bytes: u64,
    /// Whether the file was there with a text when it was last read.
    has_text: bool,
}

/// How a change of the file is detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeDetection {
    /// By inotify on its folder.
    Watched,
    /// By checking the file at intervals.
    Polled,
}

/// The plan's file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanFileError {
    /// A system call failed.
    #[error("cannot read the plan {path}: {source}; may this agent's uid read it?")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The file is longer than any sensible plan.
    #[error("the plan {path} has over {max_bytes} bytes: split the run")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The longest text that is read, bytes.
        max_bytes: u64,
    },
}

impl PlanFile {
    /// Reads plans from a path; the file need not exist.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            last_stamp: None,
            text: Vec::new(),
            changed: Instant::now(),
            max_bytes: MAX_BYTES,
            has_text: false,
        }
    }

    /// The same file, of which no more bytes are read.
    pub(crate) fn at_most(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// Forgets the last text, so that the same text is read again.
    pub(crate) fn forget_text(&mut self) {
        self.text.clear();
    }

    /// Whether the file was there with a text when it was last read.
    pub(crate) const fn has_text(&self) -> bool {
        self.has_text
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The time until the next check.
    pub(crate) fn poll_interval(&self, detection: ChangeDetection) -> Duration {
        match detection {
            ChangeDetection::Watched => POLL_BESIDE_WATCH,
            ChangeDetection::Polled if self.changed.elapsed() < RECENT => POLL_SOON_AFTER_CHANGE,
            ChangeDetection::Polled => POLL,
        }
    }

    /// Reads the file if it has changed since the last call; `None` if its text is the same. Each error is returned once.
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
        self.has_text = false;
        if stamp.is_none() {
            return Ok(None);
        }
        let text = self.read()?;
        self.has_text = !text.iter().all(u8::is_ascii_whitespace);
        if !self.has_text || text == self.text {
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
            .take(self.max_bytes + 1)
            .read_to_end(&mut text)
            .map_err(unreadable)?;
        if text.len() as u64 > self.max_bytes {
            return Err(PlanFileError::TooLong {
                max_bytes: self.max_bytes,
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
    fn an_absent_file_is_no_plan_and_a_new_one_is_read_once() {
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
        let mut file = PlanFile::new(path.clone());
        assert_eq!(changed(&mut file), None);
        assert!(!file.has_text());
        fs::write(&path, "one").unwrap();
        assert_eq!(changed(&mut file).as_deref(), Some("one"));
        assert!(file.has_text());
        fs::remove_file(&path).unwrap();
        assert_eq!(changed(&mut file), None);
        assert!(!file.has_text());
    }

    #[test]
    fn a_renamed_file_is_read_and_the_same_text_is_not_read_again() {
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
    fn the_swap_of_a_link_is_detected() {
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
