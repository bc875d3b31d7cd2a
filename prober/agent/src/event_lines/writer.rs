//! Writes events to standard output in a thread of its own, one whole line each.
//!
//! A slow reader must not make probes late, so the agent never waits for it: lines are queued up to a bound. Beyond the
//! bound, lines about single probes and server traces are dropped and counted; tallies and lines that a run waits for are
//! dropped only beyond another bound, at which the reader is gone for good.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use prober_core::probe::event::Event;
use tokio::sync::oneshot;

/// The bound of the queue, bytes.
const MAX_QUEUED: usize = 4 << 20;
/// The bound of the queue for any line, bytes.
const MAX_QUEUED_OF_ALL: usize = 16 << 20;

/// The sender's end of the queue.
#[derive(Debug)]
pub(crate) struct EventWriter {
    queue: Sender<String>,
    queued_bytes: Arc<AtomicUsize>,
    dropped: u64,
    /// Of those dropped, the lines that a run waits for.
    dropped_needed: u64,
}

/// Completes when the thread ends: the reader is gone, or [`EventWriter`] was dropped and all lines are written.
pub(crate) type WriterEnd = oneshot::Receiver<io::Result<()>>;

impl EventWriter {
    /// Starts the thread that writes to `out`.
    pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<(Self, WriterEnd)> {
        let (queue, lines) = mpsc::channel();
        let (ended, writer_end) = oneshot::channel();
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&queued_bytes);
        thread::Builder::new()
            .name("lines".to_owned())
            .stack_size(64 << 10)
            .spawn(move || {
                // The receiver is gone if the agent no longer waits for a reader that is stuck.
                drop(ended.send(write_all(&lines, &counted, out)));
            })?;
        let lines = Self {
            queue,
            queued_bytes,
            dropped: 0,
            dropped_needed: 0,
        };
        Ok((lines, writer_end))
    }

    /// Queues one event.
    pub(crate) fn write(&mut self, event: &Event) {
        let queued = self.queued_bytes.load(Ordering::Relaxed);
        let is_full = queued > MAX_QUEUED;
        if is_full && is_droppable(event) {
            self.dropped += 1;
            return;
        }
        if queued > MAX_QUEUED_OF_ALL {
            self.dropped_needed += 1;
            return;
        }
        if !is_full && self.dropped_needed > 0 {
            let text = format!(
                "{} lines were dropped because their reader did not take any for long: counts are missing",
                std::mem::take(&mut self.dropped_needed)
            );
            self.push(&Event::Notice { text });
        }
        if !is_full && self.dropped > 0 {
            let text = format!(
                "{} lines about single probes or server traces were dropped because its reader did not take them in time: the counts \
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
        self.queued_bytes.fetch_add(line.len(), Ordering::Relaxed);
        // If the thread has ended, `WriterEnd` has completed.
        drop(self.queue.send(line));
    }
}

/// Whether a run can do without the line, since tallies count it.
const fn is_droppable(event: &Event) -> bool {
    match event {
        Event::Probe(_) | Event::ServerTrace { .. } | Event::StandingFailure(_) => true,
        Event::Hello(_)
        | Event::PlanAccepted { .. }
        | Event::PlanRefused { .. }
        | Event::Tally(_)
        | Event::TtlProbe(_)
        | Event::Reached { .. }
        | Event::Counters { .. }
        | Event::Capture { .. }
        | Event::Done { .. }
        | Event::Starved { .. }
        | Event::Alert
        | Event::Facts(_)
        | Event::Notice { .. } => false,
    }
}

/// Writes until the queue is closed; lines that are queued together are written together.
fn write_all(
    lines: &Receiver<String>,
    queued_bytes: &AtomicUsize,
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
        queued_bytes.fetch_sub(batch.len(), Ordering::Relaxed);
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
    fn lines_that_were_queued_before_the_end_are_written_in_order_and_whole() {
        let (reader, writer) = io::pipe().unwrap();
        let (mut writer, writer_end) = EventWriter::start(writer).unwrap();
        for n in 0..1000 {
            writer.write(&notice(&n.to_string()));
        }
        drop(writer);
        let text = io::read_to_string(reader).unwrap();
        writer_end.blocking_recv().unwrap().unwrap();
        let read: Vec<Event> = text
            .lines()
            .map(|line| Event::parse(line).unwrap())
            .collect();
        let expected: Vec<Event> = (0..1000).map(|n| notice(&n.to_string())).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_reader_that_is_gone_ends_the_writer_with_an_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let (mut writer, writer_end) = EventWriter::start(writer).unwrap();
        writer.write(&notice("lost"));
        let error = writer_end.blocking_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_reader_that_is_stuck_costs_server_traces_and_no_notices() {
        let (reader, writer) = io::pipe().unwrap();
        let (mut writer, _written) = EventWriter::start(writer).unwrap();
        let traces = Event::ServerTrace {
            handshakes: Vec::new(),
        };
        let long = "x".repeat(MAX_QUEUED);
        // More than the pipe holds: the thread is stuck in its first write.
        writer.write(&notice(&long));
        writer.write(&notice(&long));
        writer.write(&traces);
        writer.write(&notice("still here"));
        assert_eq!(writer.dropped, 1);
        drop(writer);
        let text = io::read_to_string(reader).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.ends_with("still here\"}\n"));
    }

    #[test]
    fn whatever_is_written_the_queue_is_bounded() {
        let (reader, writer) = io::pipe().unwrap();
        let (mut writer, _written) = EventWriter::start(writer).unwrap();
        let long = notice(&"x".repeat(MAX_QUEUED));
        for _ in 0..20 {
            writer.write(&long);
        }
        assert!(
            writer.queued_bytes.load(Ordering::Relaxed) <= MAX_QUEUED_OF_ALL + MAX_QUEUED + 100
        );
        assert!(writer.dropped_needed >= 15);
        drop(reader);
    }
}
