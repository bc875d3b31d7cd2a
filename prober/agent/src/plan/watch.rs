//! Watches the folder of the plan's file for changes (inotify(7)), so that the file need not be polled often.
//!
//! The folder is watched instead of the file, since a file is replaced by rename, and in Kubernetes it is a link through
//! another link of the same folder, which is swapped.

use std::io;
use std::path::Path;
use std::thread;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, channel};

/// The folder cannot be watched; the file is polled instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// A system call failed.
    #[error("cannot watch the folder of the plan by inotify: {0}; the file is polled instead")]
    Inotify(#[from] nix::Error),
    /// No thread can be started.
    #[error(
        "cannot start the thread that watches the folder of the plan: {0}; the file is polled instead"
    )]
    Thread(#[from] io::Error),
}

/// Watches the folder of `path`. A message says that there were changes since the last one; the channel ends with the
/// watch.
pub(crate) fn watch(path: &Path) -> Result<Receiver<()>, WatchError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    };
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let kinds =
        AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE;
    inotify.add_watch(folder, kinds)?;
    let (change, changes) = channel(1);
    thread::Builder::new()
        .name("plan-watch".to_owned())
        .stack_size(64 << 10)
        .spawn(move || {
            while inotify.read_events().is_ok() {
                match change.try_send(()) {
                    Ok(()) | Err(TrySendError::Full(())) => {}
                    Err(TrySendError::Closed(())) => return,
                }
            }
        })?;
    Ok(changes)
}

/// Waits for the next change of the plan's folder; for ever, where the folder is not watched.
pub(crate) async fn next_change(watch: &mut Option<Receiver<()>>) -> Option<()> {
    match watch {
        Some(changes) => changes.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_rename_into_the_folder_is_a_change_and_so_is_a_written_file() {
        let dir = tempfile::tempdir().unwrap();
        let (new, plan) = (dir.path().join("new"), dir.path().join("plan"));
        let elsewhere = tempfile::tempdir().unwrap();
        let mut changes = watch(&plan).unwrap();
        fs::write(elsewhere.path().join("new"), "1").unwrap();
        fs::write(&new, "2").unwrap();
        assert_eq!(changes.blocking_recv(), Some(()));
        fs::rename(&new, &plan).unwrap();
        assert_eq!(changes.blocking_recv(), Some(()));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(watch(Path::new("/nowhere/plan")).is_err());
    }
}
