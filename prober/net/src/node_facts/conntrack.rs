//! The connection tracking table, as the file `/proc/net/nf_conntrack`.
//!
//! The file belongs to root, and reading it needs no capability: a descriptor that was opened before privileges were dropped
//! goes on giving fresh entries. Where the kernel has no such file (`CONFIG_NF_CONNTRACK_PROCFS`), only ctnetlink has the
//! entries; that needs `CAP_NET_ADMIN` with each request, which no agent keeps.
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use prober_core::node_facts::conntrack::{ConntrackReading, ConntrackRequest, ConntrackSelection};

/// The table of the calling thread's network namespace.
pub(super) const PATH: &str = "/proc/thread-self/net/nf_conntrack";

/// How much of the table is read: a table of the usual maximum, 262,144 entries, has some 50 MB and takes about 2 s.
const MAX_BYTES: u64 = 64 << 20;
const MAX_TIME: Duration = Duration::from_secs(3);

/// The table cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConntrackError {
    /// There is no such file.
    #[error(
        "the kernel has no connection tracking, or does not list it in a file (CONFIG_NF_CONNTRACK_PROCFS); ctnetlink needs \
         CAP_NET_ADMIN, which agents do not keep"
    )]
    Absent,
    /// The file was not opened.
    #[error(
        "{0}; uid 0 and gid 0 may open it: give the pod of the host agent the supplementary group 0"
    )]
    Open(io::ErrorKind),
    /// The file cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
}

/// An open connection tracking table, of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct ConntrackTable(io::Result<File>);

impl ConntrackTable {
    /// Opens the table, or keeps the reason why it cannot be opened. Loads no kernel module.
    pub fn open() -> Self {
        Self(File::open(PATH))
    }

    /// Reads the present entries of these connections.
    pub(super) fn read(
        &self,
        request: &ConntrackRequest,
    ) -> Result<ConntrackReading, ConntrackError> {
        let mut file = match &self.0 {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ConntrackError::Absent);
            }
            Err(error) => return Err(ConntrackError::Open(error.kind())),
        };
        file.seek(SeekFrom::Start(0))?;
        let deadline = Instant::now() + MAX_TIME;
        Ok(select(
            file,
            MAX_BYTES,
            || Instant::now() > deadline,
            request,
        )?)
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
            let table = ConntrackTable(Err(io::Error::from_raw_os_error(kind)));
            table
                .read(&ConntrackRequest::default())
                .unwrap_err()
                .to_string()
        };
        assert!(why(libc::ENOENT).contains("CONFIG_NF_CONNTRACK_PROCFS"));
        assert!(why(libc::EACCES).contains("permission denied"));
    }
}
