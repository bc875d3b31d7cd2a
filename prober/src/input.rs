//! Input files; the path `-` is standard input.

use std::io::Read as _;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;
use std::{fs, io, thread};

use anyhow::Context as _;

/// How long standard input is still read after Ctrl-C: the program at the other end of the pipe receives SIGINT as
/// well, and flushes its buffer.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The size of the buffer for standard input, in bytes.
const BUFFER_SIZE: usize = 64 * 1024;

/// Returns the name of the file for messages: its path, or `standard input`.
pub(crate) fn name(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// Reads the whole file, or standard input to its end. The error names the file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    bytes.with_context(|| format!("cannot read {}", name(path)))
}

/// Reads the whole file, or standard input until its end or Ctrl-C, which ends `tcpdump -w - | prober replay -`.
///
/// Fails if the file cannot be read, or if no handler of Ctrl-C can be installed.
pub(crate) fn read_until_interrupted(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path != Path::new("-") {
        return read(path);
    }
    let (chunks, received) = mpsc::channel();
    let interrupt = chunks.clone();
    // The receiver is gone once standard input has ended: Ctrl-C then has no effect.
    ctrlc::set_handler(move || drop(interrupt.send(Chunk::Interrupted)))
        .context("cannot handle Ctrl-C")?;
    thread::spawn(move || send_chunks(&chunks));
    let mut bytes = Vec::new();
    let mut is_interrupted = false;
    loop {
        let next = if is_interrupted {
            received.recv_timeout(DRAIN_TIMEOUT)
        } else {
            received.recv().map_err(RecvTimeoutError::from)
        };
        match next {
            Ok(Chunk::Bytes(chunk)) => bytes.extend(chunk),
            Ok(Chunk::Failed(error)) => {
                return Err(error).context("cannot read standard input");
            }
            Ok(Chunk::Interrupted) => is_interrupted = true,
            Ok(Chunk::End) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Ok(bytes);
            }
        }
    }
}

/// A message from the reader of standard input or from the handler of Ctrl-C.
enum Chunk {
    /// The next bytes.
    Bytes(Vec<u8>),
    /// The user pressed Ctrl-C.
    Interrupted,
    /// Standard input has ended.
    End,
    /// Standard input cannot be read.
    Failed(io::Error),
}

/// Reads standard input and sends its chunks until its end, an error, or the end of the receiver.
fn send_chunks(chunks: &Sender<Chunk>) {
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        let chunk = match io::stdin().read(&mut buffer) {
            Ok(0) => Chunk::End,
            Ok(length) => Chunk::Bytes(buffer.iter().take(length).copied().collect()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Chunk::Failed(error),
        };
        let is_last = matches!(chunk, Chunk::End | Chunk::Failed(_));
        if chunks.send(chunk).is_err() || is_last {
            return;
        }
    }
}
