//! Which lines of a log are new, when it is read again after its stream broke, or after nobody read it for a while.
//!
//! A followed log ends without an error when a kubelet stops, and the agent goes on writing meanwhile. Each line carries the
//! time at which the runtime took it, so the log is read again from the second of the last line that was taken, and what was
//! taken is skipped up to that line: nothing is lost, nothing comes twice. A runtime may stamp several lines with one time
//! (conmon stamps what it reads at once), so those are counted. Where that line is not there any more, the log was rotated.

use k8s_openapi::jiff::Timestamp;

/// How far a log was taken.
#[derive(Debug, Default)]
pub(super) struct LogPosition {
    last: Option<Last>,
    /// While what was taken is skipped: how many lines of the last time that were.
    skipped: Option<usize>,
}

/// The last line that was taken.
#[derive(Clone, Copy, Debug)]
struct Last {
    at: Timestamp,
    /// How many lines of that time were taken.
    lines: usize,
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// One that was not taken before.
    New(&'a [u8]),
    /// One that was.
    Known,
    /// The first one after a rotation: some before it may be missing.
    Rotated(&'a [u8]),
    /// The beginning of one whose end has not been read.
    Partial,
}

impl LogPosition {
    /// From when on the log is to be read; `None`: from its start. A kubelet is told seconds.
    pub(super) fn since(&self) -> Option<Timestamp> {
        let second = self.last?.at.as_second();
        Timestamp::from_second(second).ok()
    }

    /// The log is read again, from there on.
    pub(super) fn restart(&mut self) {
        self.skipped = self.last.map(|_| 0);
    }

    /// Takes what was read up to a newline or the end of the stream: a time, a blank, and what the agent wrote.
    pub(super) fn take<'a>(&mut self, read: &'a [u8]) -> Line<'a> {
        let Some(line) = read.strip_suffix(b"\n") else {
            return Line::Partial;
        };
        let Some((at, said)) = stamped(line) else {
            // What a kubelet itself has to say of the log.
            return Line::New(line);
        };
        let mut is_rotated = false;
        if let (Some(skipped), Some(last)) = (&mut self.skipped, self.last) {
            if at < last.at {
                return Line::Known;
            }
            if at == last.at && *skipped < last.lines {
                *skipped += 1;
                return Line::Known;
            }
            is_rotated = *skipped == 0;
            self.skipped = None;
        }
        self.last = Some(match self.last {
            Some(last) if last.at == at => Last {
                lines: last.lines + 1,
                ..last
            },
            Some(_) | None => Last { at, lines: 1 },
        });
        if is_rotated {
            Line::Rotated(said)
        } else {
            Line::New(said)
        }
    }
}

/// When a line was taken, and what it says.
fn stamped(line: &[u8]) -> Option<(Timestamp, &[u8])> {
    let blank = line.iter().position(|&byte| byte == b' ')?;
    let (stamp, said) = (line.get(..blank)?, line.get(blank + 1..)?);
    let at = std::str::from_utf8(stamp).ok()?.parse().ok()?;
    Some((at, said))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A log of lines that came so many milliseconds after each other.
    fn log(lines: &[(String, i64)]) -> Vec<(Timestamp, String)> {
        let mut at = 1_795_689_992_000;
        let stamp = |(said, later): &(String, i64)| {
            at += later;
            let at = Timestamp::from_millisecond(at).unwrap();
            (at, format!("{at} {said}\n"))
        };
        lines.iter().map(stamp).collect()
    }

    /// What a kubelet gives of it.
    fn since(log: &[(Timestamp, String)], since: Option<Timestamp>) -> String {
        let lines = log
            .iter()
            .filter(|(at, _)| since.is_none_or(|since| *at >= since));
        lines.map(|(_, line)| line.as_str()).collect()
    }

    /// Reads `log` up to each of `cuts` in turn, and then whole.
    fn read(log: &[(Timestamp, String)], cuts: &[(usize, usize)]) -> Vec<String> {
        let mut resumption = LogPosition::default();
        let mut told = Vec::new();
        let whole = (log.len(), usize::MAX);
        for (lines, bytes) in cuts.iter().copied().chain([whole]) {
            let there = &log[..lines.min(log.len())];
            let given = since(there, resumption.since());
            resumption.restart();
            let read = &given.as_bytes()[..bytes.min(given.len())];
            for piece in read.split_inclusive(|&byte| byte == b'\n') {
                match resumption.take(piece) {
                    Line::New(line) => told.push(String::from_utf8(line.to_vec()).unwrap()),
                    Line::Known | Line::Partial => {}
                    Line::Rotated(line) => panic!("{line:?} is no rotation"),
                }
            }
        }
        told
    }

    proptest! {
        #[test]
        fn a_log_that_breaks_anywhere_and_any_number_of_times_is_told_whole_and_once(
            lines in proptest::collection::vec(("[a-z]{0,6}", prop_oneof![Just(0_i64), 1_i64..3_000]), 0..20),
            mut cuts in proptest::collection::vec((0_usize..20, 0_usize..400), 0..8),
        ) {
            // A log only grows.
            cuts.sort_unstable();
            let said: Vec<String> = lines.iter().map(|(said, _)| said.clone()).collect();
            prop_assert_eq!(read(&log(&lines), &cuts), said);
        }

        #[test]
        fn any_bytes_are_a_line(bytes: Vec<u8>) {
            let mut resumption = LogPosition::default();
            resumption.take(&bytes);
            resumption.restart();
            resumption.take(&bytes);
        }
    }

    #[test]
    fn a_log_without_the_line_that_was_taken_last_was_rotated() {
        let mut resumption = LogPosition::default();
        let lines = ["one", "two", "three", "four"].map(|said| (said.to_owned(), 10));
        let log = log(&lines);
        let [one, two, three, four] = [0, 1, 2, 3].map(|line: usize| log[line].1.as_bytes());
        assert_eq!(resumption.take(one), Line::New(b"one"));
        assert_eq!(resumption.take(two), Line::New(b"two"));
        resumption.restart();
        assert_eq!(resumption.take(three), Line::Rotated(b"three"));
        assert_eq!(resumption.take(four), Line::New(b"four"));
        resumption.restart();
        assert_eq!(resumption.take(three), Line::Known);
        assert_eq!(resumption.take(four), Line::Known);
    }

    #[test]
    fn a_clock_that_is_set_back_loses_nothing_of_a_stream() {
        let mut resumption = LogPosition::default();
        let early = b"2026-11-26T20:00:00Z early\n";
        let late = b"2026-11-26T22:00:00+01:00 late\n";
        assert_eq!(resumption.take(late), Line::New(b"late"));
        assert_eq!(resumption.take(early), Line::New(b"early"));
    }
}
