//! Standard input until its end or Ctrl-C, which ends `tcpdump -w - | prober replay -`.

use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

/// How long standard input is still read after Ctrl-C: the program at the other end of the pipe receives SIGINT as
/// well, and flushes its buffer.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The size of a chunk of standard input, in bytes.
const CHUNK_SIZE: usize = 64 * 1024;

/// How many chunks are read ahead of their use.
const CHUNKS_AHEAD: usize = 4;

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

/// Standard input as bytes that end at Ctrl-C.
pub(super) struct Interruptible {
    chunks: Receiver<Chunk>,
    /// Bytes that were received and not read yet.
    left: Vec<u8>,
    /// How many of them were read.
    place: usize,
    is_interrupted: bool,
    is_ended: bool,
}

/// Starts to read standard input. Fails if no handler of Ctrl-C can be installed.
pub(super) fn standard_input() -> anyhow::Result<Interruptible> {
    let (chunks, received) = mpsc::sync_channel(CHUNKS_AHEAD);
    let interrupt = chunks.clone();
    // The handler has a thread of its own, and waits its turn. The receiver is gone once standard input has ended: Ctrl-C
    // then has no effect.
    ctrlc::set_handler(move || drop(interrupt.send(Chunk::Interrupted)))
        .context("cannot handle Ctrl-C")?;
    thread::spawn(move || send_chunks(&chunks));
    Ok(Interruptible {
        chunks: received,
        left: Vec::new(),
        place: 0,
        is_interrupted: false,
        is_ended: false,
    })
}

impl Interruptible {
    /// Waits for the next chunk, after Ctrl-C only for a while; no bytes are the end.
    fn receive(&mut self) -> io::Result<()> {
        while !self.is_ended {
            let next = if self.is_interrupted {
                self.chunks.recv_timeout(DRAIN_TIMEOUT)
            } else {
                self.chunks.recv().map_err(RecvTimeoutError::from)
            };
            match next {
                Ok(Chunk::Bytes(bytes)) => {
                    self.left = bytes;
                    self.place = 0;
                    return Ok(());
                }
                Ok(Chunk::Failed(error)) => return Err(error),
                Ok(Chunk::Interrupted) => self.is_interrupted = true,
                Ok(Chunk::End)
                | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    self.is_ended = true;
                }
            }
        }
        Ok(())
    }
}

impl Read for Interruptible {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.place >= self.left.len() {
            self.receive()?;
        }
        let mut left = self.left.get(self.place..).unwrap_or_default();
        let count = left.read(into)?;
        self.place += count;
        Ok(count)
    }
}

/// Reads standard input and sends its chunks until its end, an error, or the end of the receiver.
fn send_chunks(chunks: &SyncSender<Chunk>) {
    let mut buffer = vec![0; CHUNK_SIZE];
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
