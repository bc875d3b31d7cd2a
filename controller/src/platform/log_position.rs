//! The last line that was read from a log, and the recognition of lines that are read again.
//!
//! A followed log ends without an error when the kubelet stops, while the agent goes on writing. Each line carries the time at
//! which the container runtime received it, and the kubelet returns the lines since a time. A log is therefore read again from
//! somewhat before the last line, and lines up to that line are skipped: none is lost, and none is reported twice. The time of
//! a line only limits what is read again. The last line is recognised by its time and its text, because the clock of a node
//! may be set back, and because a runtime may give several lines the same time (conmon gives one time to all lines of a read).
//! If the last line is not there any more, the log was rotated.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How far the clock of a node may be set back while its log is not being read.
const MAX_STEP_BACK: SignedDuration = SignedDuration::from_secs(600);

/// The position up to which a log was read.
#[derive(Debug, Default)]
pub(super) struct LogPosition {
    last: Option<LastLine>,
    /// The latest time of any line.
    latest: Option<Timestamp>,
    /// While known lines are skipped: how many lines like the last one were skipped.
    skipped: Option<usize>,
    /// Whether the log is read from the last line itself, because the request before returned all that one returns.
    is_exact: bool,
}

/// The last line that was read.
#[derive(Clone, Debug)]
struct LastLine {
    time: Timestamp,
    /// The hashes of the texts of the lines in a row with this time; the last one is this line's.
    texts: Vec<u64>,
}

impl LastLine {
    /// Whether a line has the same time and text.
    fn is(&self, time: Timestamp, text: u64) -> bool {
        self.time == time && self.texts.last() == Some(&text)
    }

    /// How many lines like this one were read.
    fn count(&self) -> usize {
        let text = self.texts.last();
        self.texts
            .iter()
            .filter(|other| Some(*other) == text)
            .count()
    }
}

/// A line of a log, compared to what was read before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LogLine<'a> {
    /// A line that was not read before.
    New(&'a [u8]),
    /// A line that was read before.
    Known,
    /// The first line after a rotation. Lines before it may be missing.
    Rotated(&'a [u8]),
    /// The beginning of a line that was not read to its end.
    Partial,
}

impl LogPosition {
    /// Whether no line was read.
    pub(super) const fn is_start(&self) -> bool {
        self.last.is_none()
    }

    /// Returns the time from which the log is to be read; `None` for its beginning. The kubelet takes whole seconds.
    pub(super) fn since_time(&self) -> Option<Timestamp> {
        let last = self.last.as_ref()?.time;
        let since = if self.is_exact {
            last
        } else {
            last.checked_sub(MAX_STEP_BACK).ok()?
        };
        Timestamp::from_second(since.as_second()).ok()
    }

    /// Prepares for lines from [`Self::since_time`] on, some of which are known.
    pub(super) fn rewind(&mut self) {
        self.skipped = self.last.as_ref().map(|_| 0);
    }

    /// Ends what [`Self::rewind`] began. An attempt that read as many bytes as a request returns (`is_cut`) did not break, so the
    /// next one follows at once, without the lines before the last one: these may be more than a request returns.
    pub(super) fn end(&mut self, is_cut: bool) {
        self.is_exact = is_cut;
    }

    /// Classifies the next bytes of the log, up to a newline or the end of the stream: a time, a blank, and the agent's line.
    pub(super) fn advance<'a>(&mut self, bytes: &'a [u8]) -> LogLine<'a> {
        let Some(line) = bytes.strip_suffix(b"\n") else {
            return LogLine::Partial;
        };
        let Some((time, text)) = split_time(line) else {
            // A message of the kubelet about the log.
            return LogLine::New(line);
        };
        let hash = hash(text);
        let mut is_rotated = false;
        if let (Some(skipped), Some(last)) = (&mut self.skipped, &self.last) {
            if last.is(time, hash) {
                *skipped += 1;
                if *skipped == last.count() {
                    self.skipped = None;
                }
                return LogLine::Known;
            }
            if Some(time) <= self.latest {
                return LogLine::Known;
            }
            is_rotated = true;
            self.skipped = None;
        }
        self.latest = self.latest.max(Some(time));
        match &mut self.last {
            Some(last) if last.time == time => last.texts.push(hash),
            last => {
                *last = Some(LastLine {
                    time,
                    texts: vec![hash],
                });
            }
        }
        if is_rotated {
            LogLine::Rotated(text)
        } else {
            LogLine::New(text)
        }
    }
}

/// A hash of a line's text, to recognise the line.
fn hash(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Splits a line into its time and its text.
fn split_time(line: &[u8]) -> Option<(Timestamp, &[u8])> {
    let blank = line.iter().position(|&byte| byte == b' ')?;
    let (time, text) = (line.get(..blank)?, line.get(blank + 1..)?);
    let time = std::str::from_utf8(time).ok()?.parse().ok()?;
    Some((time, text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A log of these lines, each so many milliseconds after the one before, or before it where the clock is set back.
    fn log(lines: &[(String, i64)]) -> Vec<(Timestamp, String)> {
        let mut at = 1_795_689_992_000;
        let stamp = |(text, delay): &(String, i64)| {
            at += delay;
            let at = Timestamp::from_millisecond(at).unwrap();
            (at, format!("{at} {text}\n"))
        };
        lines.iter().map(stamp).collect()
    }

    /// The lines that a kubelet returns from this time on.
    fn since(log: &[(Timestamp, String)], since: Option<Timestamp>) -> String {
        let lines = log
            .iter()
            .filter(|(at, _)| since.is_none_or(|since| *at >= since));
        lines.map(|(_, line)| line.as_str()).collect()
    }

    /// Reads `log` up to each of `cuts` in turn, then to its end, and returns the new lines.
    fn read(log: &[(Timestamp, String)], cuts: &[(usize, usize)]) -> Vec<String> {
        let mut position = LogPosition::default();
        let mut read_lines = Vec::new();
        let whole = (log.len(), usize::MAX);
        for (lines, bytes) in cuts.iter().copied().chain([whole]) {
            let written = &log[..lines.min(log.len())];
            let returned = since(written, position.since_time());
            position.rewind();
            let read = &returned.as_bytes()[..bytes.min(returned.len())];
            for bytes in read.split_inclusive(|&byte| byte == b'\n') {
                match position.advance(bytes) {
                    LogLine::New(line) => {
                        read_lines.push(String::from_utf8(line.to_vec()).unwrap());
                    }
                    LogLine::Known | LogLine::Partial => {}
                    LogLine::Rotated(line) => panic!("{line:?} is no rotation"),
                }
            }
            position.end(false);
        }
        read_lines
    }

    proptest! {
        #[test]
        fn each_line_of_an_interrupted_log_is_read_exactly_once(
            lines in proptest::collection::vec(("[a-z]{0,6}", prop_oneof![Just(0_i64), 1_i64..3_000]), 0..20),
            mut cuts in proptest::collection::vec((0_usize..20, 0_usize..400), 0..8),
        ) {
            // A log only grows.
            cuts.sort_unstable();
            let texts: Vec<String> = lines.iter().map(|(text, _)| text.clone()).collect();
            prop_assert_eq!(read(&log(&lines), &cuts), texts);
        }

        #[test]
        fn each_line_is_read_exactly_once_though_the_clock_is_set_back(
            delays in proptest::collection::vec(prop_oneof![0_i64..3_000, -29_000_i64..0], 0..20),
            mut cuts in proptest::collection::vec((0_usize..20, 0_usize..400), 0..8),
        ) {
            cuts.sort_unstable();
            let lines = delays.into_iter().enumerate();
            let lines: Vec<_> = lines.map(|(line, delay)| (line.to_string(), delay)).collect();
            let texts: Vec<String> = lines.iter().map(|(text, _)| text.clone()).collect();
            prop_assert_eq!(read(&log(&lines), &cuts), texts);
        }

        #[test]
        fn any_bytes_are_accepted(bytes: Vec<u8>) {
            let mut position = LogPosition::default();
            position.advance(&bytes);
            position.rewind();
            position.advance(&bytes);
        }
    }

    #[test]
    fn a_log_without_the_last_line_was_rotated() {
        let mut position = LogPosition::default();
        let lines = ["one", "two", "three", "four"].map(|text| (text.to_owned(), 10));
        let log = log(&lines);
        let [one, two, three, four] = [0, 1, 2, 3].map(|line: usize| log[line].1.as_bytes());
        assert_eq!(position.advance(one), LogLine::New(b"one"));
        assert_eq!(position.advance(two), LogLine::New(b"two"));
        position.rewind();
        assert_eq!(position.advance(three), LogLine::Rotated(b"three"));
        assert_eq!(position.advance(four), LogLine::New(b"four"));
        position.rewind();
        assert_eq!(position.advance(three), LogLine::Known);
        assert_eq!(position.advance(four), LogLine::Known);
    }

    #[test]
    fn no_line_is_lost_when_the_clock_is_set_back_while_the_log_is_not_read() {
        let minutes = |minutes: i64| minutes * 60_000;
        let lines = [
            ("before", 10),
            ("last", 10),
            ("set back", minutes(-9)),
            ("after", 10),
        ];
        let log = log(&lines.map(|(text, delay)| (text.to_owned(), delay)));
        assert_eq!(read(&log, &[(2, usize::MAX)]), lines.map(|(text, _)| text));
    }

    #[test]
    fn a_log_with_more_lines_than_a_request_returns_is_read_on_without_reading_it_twice() {
        let lines: Vec<(String, i64)> = (0..100).map(|line| (line.to_string(), 1_000)).collect();
        let log = log(&lines);
        let mut position = LogPosition::default();
        let mut found = Vec::new();
        // Of twelve lines that a request returns, the first is the last one of the request before.
        for _ in 0..10 {
            let returned = since(&log, position.since_time());
            position.rewind();
            // A request returns few bytes.
            for bytes in returned.as_bytes()[..returned.len().min(300)]
                .split_inclusive(|&byte| byte == b'\n')
            {
                if let LogLine::New(line) = position.advance(bytes) {
                    found.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            position.end(true);
        }
        assert_eq!(
            found,
            lines
                .iter()
                .map(|(text, _)| text.clone())
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn no_line_is_lost_when_the_clock_is_set_back() {
        let mut position = LogPosition::default();
        let early = b"2026-11-26T20:00:00Z early\n";
        let late = b"2026-11-26T22:00:00+01:00 late\n";
        assert_eq!(position.advance(late), LogLine::New(b"late"));
        assert_eq!(position.advance(early), LogLine::New(b"early"));
    }
}
