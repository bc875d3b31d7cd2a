//! Files to read, of which `-` is standard input.

use std::io::Read as _;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;
use std::{fs, io, thread};

use anyhow::Context as _;

/// How long after Ctrl-C the rest of standard input is awaited: the program that writes it was interrupted as well,
/// and writes what it still holds.
const REST: Duration = Duration::from_secs(1);

/// The most that is read from standard input at once, bytes.
const CHUNK: usize = 64 * 1024;

/// What a message calls the file.
pub(crate) fn name(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// The whole file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    bytes.with_context(|| format!("cannot read {}", name(path)))
}

/// The whole file; of standard input all until its end or Ctrl-C, which ends `tcpdump -w - | prober replay -`.
pub(crate) fn read_until_interrupted(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path != Path::new("-") {
        return read(path);
    }
    let (chunks, received) = mpsc::channel();
    let interrupt = chunks.clone();
    // After the end of standard input there is nothing left to interrupt.
    ctrlc::set_handler(move || drop(interrupt.send(Chunk::Interrupted)))
        .context("cannot handle Ctrl-C")?;
    thread::spawn(move || send(&chunks));
    let mut bytes = Vec::new();
    let mut is_interrupted = false;
    loop {
        let next = if is_interrupted {
            received.recv_timeout(REST)
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

/// A piece of standard input, or why there is no further one.
enum Chunk {
    Bytes(Vec<u8>),
    Interrupted,
    End,
    Failed(io::Error),
}

/// Sends all of standard input.
fn send(chunks: &Sender<Chunk>) {
    let mut buffer = vec![0; CHUNK];
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
