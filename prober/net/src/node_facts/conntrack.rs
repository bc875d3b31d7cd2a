//! The connection tracking table: the file `/proc/net/nf_conntrack`, or ctnetlink where there is no such file.
//!
//! The file belongs to root, and reading it needs no capability: a descriptor that was opened before privileges were dropped
//! goes on giving fresh entries. Kernels without it (`CONFIG_NF_CONNTRACK_PROCFS`) have the entries by ctnetlink alone, which
//! needs `CAP_NET_ADMIN` with each request.
mod ctnetlink;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use prober_core::node_facts::conntrack::{ConntrackReading, ConntrackRequest, ConntrackSelection};

use crate::netlink::NetlinkError;

/// The table of the calling thread's network namespace.
pub(super) const PATH: &str = "/proc/thread-self/net/nf_conntrack";

/// The number of entries, a file that is there wherever connections are tracked.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// How much of the table is read: a table of the usual maximum, 262,144 entries, has some 50 MB and takes about 2 s.
const MAX_BYTES: u64 = 64 << 20;
const MAX_TIME: Duration = Duration::from_secs(3);

/// The table cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConntrackError {
    /// There is no such file, and no entry.
    #[error("this kernel has no connection tracking, or does not load it: nothing is tracked")]
    Untracked,
    /// There is no such file, and no right for the other source.
    #[error(
        "the kernel does not list connection tracking in a file (CONFIG_NF_CONNTRACK_PROCFS), and ctnetlink needs \
         CAP_NET_ADMIN: give it to the host agent, with uid 0"
    )]
    NotPermitted,
    /// The file was not opened.
    #[error(
        "{0}; uid 0 and gid 0 may open it: give the pod of the host agent the supplementary group 0"
    )]
    Open(io::ErrorKind),
    /// The file cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// Ctnetlink did not list the entries.
    #[error("ctnetlink: {0}")]
    Ctnetlink(NetlinkError),
}

/// Where the entries are read.
#[derive(Debug)]
enum Source {
    /// The file.
    File(File),
    /// The kernel lists them in no file.
    Ctnetlink,
    /// The file was not opened.
    None(io::Error),
}

/// The connection tracking table, of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct ConntrackTable(Source);

impl ConntrackTable {
    /// Opens the table, or keeps the reason why it cannot be opened. Loads no kernel module.
    pub fn open() -> Self {
        Self(match File::open(PATH) {
            Ok(file) => Source::File(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound && Path::new(COUNT).exists() => {
                Source::Ctnetlink
            }
            Err(error) => Source::None(error),
        })
    }

    /// The table by ctnetlink, as [`open`](Self::open) has it where there is no file: of the network namespace of the thread
    /// that reads it.
    pub const fn by_ctnetlink() -> Self {
        Self(Source::Ctnetlink)
    }

    /// Whether only a thread with `CAP_NET_ADMIN` can read it.
    pub const fn needs_net_admin(&self) -> bool {
        matches!(self.0, Source::Ctnetlink)
    }

    /// Reads the present entries of these connections.
    pub(super) fn read(
        &self,
        request: &ConntrackRequest,
    ) -> Result<ConntrackReading, ConntrackError> {
        let deadline = Instant::now() + MAX_TIME;
        let is_overdue = || Instant::now() > deadline;
        match &self.0 {
            Source::File(file) => {
                let mut file = file;
                file.seek(SeekFrom::Start(0))?;
                Ok(select(file, MAX_BYTES, is_overdue, request)?)
            }
            Source::Ctnetlink => ctnetlink::read(is_overdue, request).map_err(|error| {
                if error.refusal() == Some(libc::EPERM) {
                    ConntrackError::NotPermitted
                } else {
                    ConntrackError::Ctnetlink(error)
                }
            }),
            Source::None(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ConntrackError::Untracked)
            }
            Source::None(error) => Err(ConntrackError::Open(error.kind())),
        }
    }
}

/// Selects entries until the end of the table, this many bytes, or the deadline.
fn select(
    table: impl Read,
    max_bytes: u64,
    is_overdue: impl Fn() -> bool,
    request: &ConntrackRequest,
) -> io::Result<ConntrackReading> {
    let mut lines = BufReader::with_capacity(1 << 16, table.take(max_bytes));
    let mut selection = ConntrackSelection::new(request);
    let mut line = Vec::new();
    let is_read_to_its_end = loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break lines.get_ref().limit() > 0;
        }
        selection.add(&String::from_utf8_lossy(&line));
        if is_overdue() {
            break false;
        }
    };
    Ok(selection.finish(is_read_to_its_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "ipv4     2 tcp      6 117 SYN_SENT src=10.1.0.1 dst=10.2.0.1 sport=1 dport=80 [UNREPLIED] src=10.1.0.2 dst=10.1.0.1 sport=8080 dport=1 mark=0 zone=0 use=2\n";

    fn read(bytes: u64, is_overdue: bool) -> (usize, bool) {
        let request = ConntrackRequest {
            clients: ["10.1.0.1".parse().unwrap()].into(),
            targets: ["10.1.0.2:8080".parse().unwrap()].into(),
        };
        let table = LINE.repeat(3);
        let reading = select(table.as_bytes(), bytes, || is_overdue, &request).unwrap();
        (reading.entries.len(), reading.is_complete)
    }

    #[test]
    fn a_table_is_read_to_its_end_or_is_not_complete() {
        let length = LINE.len() as u64;
        assert_eq!(read(4 * length, false), (3, true));
        assert_eq!(read(2 * length + 20, false), (2, false));
        assert_eq!(read(2 * length, false), (2, false));
        assert_eq!(read(4 * length, true), (1, false));
    }

    #[test]
    fn a_table_that_was_not_opened_says_why() {
        let why = |kind: i32| {
            let table = ConntrackTable(Source::None(io::Error::from_raw_os_error(kind)));
            table
                .read(&ConntrackRequest::default())
                .unwrap_err()
                .to_string()
        };
        assert!(why(libc::ENOENT).contains("nothing is tracked"));
        assert!(why(libc::EACCES).contains("permission denied"));
    }
}
