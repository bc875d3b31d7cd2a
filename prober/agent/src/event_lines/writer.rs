//! Events to standard output, one whole line each, by a thread of their own.
//!
//! A reader that is slow must not make probes late, so nobody waits for it: what it has not yet
//! taken is queued up to a bound. Beyond that, single probes and packets are dropped and counted;
//! tallies and what a run waits for never are.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use prober_core::probe::event::Event;
use tokio::sync::oneshot;

/// Bytes that may wait for the reader.
const MAX_QUEUED: usize = 4 << 20;

/// The end at which events go in.
#[derive(Debug)]
pub(crate) struct EventWriter {
    queue: Sender<String>,
    waiting: Arc<AtomicUsize>,
    dropped: u64,
}

/// Tells when writing has ended: by a reader that is gone, or because [`EventWriter`] was dropped and all is written.
pub(crate) type WriterEnd = oneshot::Receiver<io::Result<()>>;

impl EventWriter {
    /// Starts the thread that writes to `out`.
    pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<(Self, WriterEnd)> {
        let (queue, lines) = mpsc::channel();
        let (ended, written) = oneshot::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&waiting);
        thread::Builder::new()
            .name("lines".to_owned())
            .stack_size(64 << 10)
            .spawn(move || {
                // Nobody listens any more once the agent has stopped waiting for a reader that is stuck.
                drop(ended.send(write_all(&lines, &counted, out)));
            })?;
        let lines = Self {
            queue,
            waiting,
            dropped: 0,
        };
        Ok((lines, written))
    }

    /// Writes one event as soon as the reader takes it.
    pub(crate) fn write(&mut self, event: &Event) {
        let is_full = self.waiting.load(Ordering::Relaxed) > MAX_QUEUED;
        if is_full && is_droppable(event) {
            self.dropped += 1;
            return;
        }
        if !is_full && self.dropped > 0 {
            let text = format!(
                "{} lines about single probes or packets were dropped because nobody read them in time: the counts \
                 are complete, the packets are not",
                std::mem::take(&mut self.dropped)
            );
            self.push(&Event::Notice { text });
        }
        self.push(event);
    }

    fn push(&self, event: &Event) {
        let mut line = event.to_line();
        line.push('\n');
        self.waiting.fetch_add(line.len(), Ordering::Relaxed);
        // A reader that is gone is told by `WriterEnd`.
        drop(self.queue.send(line));
    }
}

/// Whether a run can do without the line, given the counts.
const fn is_droppable(event: &Event) -> bool {
    match event {
        Event::Probe(_) | Event::ServerTrace { .. } => true,
        Event::Hello(_)
        | Event::PlanAccepted { .. }
        | Event::PlanRefused { .. }
        | Event::Tally(_)
        | Event::TtlProbe(_)
        | Event::Counters { .. }
        | Event::Capture { .. }
        | Event::Done { .. }
        | Event::Starved { .. }
        | Event::Alert
        | Event::Facts(_)
        | Event::Notice { .. } => false,
    }
}

/// Writes until all senders are gone; what is there together goes out together.
fn write_all(
    lines: &Receiver<String>,
    waiting: &AtomicUsize,
    mut out: impl Write,
) -> io::Result<()> {
    while let Ok(line) = lines.recv() {
        let mut batch = line;
        while batch.len() < 64 << 10
            && let Ok(line) = lines.try_recv()
        {
            batch.push_str(&line);
        }
        out.write_all(batch.as_bytes())?;
        out.flush()?;
        waiting.fetch_sub(batch.len(), Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(text: &str) -> Event {
        Event::Notice {
            text: text.to_owned(),
        }
    }

    #[test]
    fn what_was_written_before_the_end_comes_out_in_order_and_whole() {
        let (reader, writer) = io::pipe().unwrap();
        let (mut lines, written) = EventWriter::start(writer).unwrap();
        for n in 0..1000 {
            lines.write(&notice(&n.to_string()));
        }
        drop(lines);
        let text = io::read_to_string(reader).unwrap();
        written.blocking_recv().unwrap().unwrap();
        let read: Vec<Event> = text
            .lines()
            .map(|line| Event::parse(line).unwrap())
            .collect();
        let expected: Vec<Event> = (0..1000).map(|n| notice(&n.to_string())).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_reader_that_is_gone_is_told() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let (mut lines, written) = EventWriter::start(writer).unwrap();
        lines.write(&notice("anybody?"));
        let error = written.blocking_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_reader_that_is_stuck_costs_packets_and_not_tallies() {
        let (reader, writer) = io::pipe().unwrap();
        let (mut lines, _written) = EventWriter::start(writer).unwrap();
        let witnessed = Event::ServerTrace {
            handshakes: Vec::new(),
        };
        let long = "x".repeat(MAX_QUEUED);
        // More than the pipe holds: the thread is stuck in its first write.
        lines.write(&notice(&long));
        lines.write(&notice(&long));
        lines.write(&witnessed);
        lines.write(&notice("still here"));
        assert_eq!(lines.dropped, 1);
        drop(lines);
        let text = io::read_to_string(reader).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.ends_with("still here\"}\n"));
    }
}
