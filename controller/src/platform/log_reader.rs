//! Follows the log of one agent's pod, and sends its lines as events.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use prober_core::probe::event::Event;
use prober_core::run::PlatformEvent;
use prober_core::topology::AgentId;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::platform::announced_addresses::addresses_of;
use crate::platform::api_calls::{ApiCalls, RETRY_TIMEOUT};
use crate::platform::log_position::{LogLine, LogPosition};

/// The first delay before a log is opened again.
const MIN_DELAY: Duration = Duration::from_millis(100);

/// The longest delay.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// How long opening a log may fail before its agent fails: as long as other requests are repeated.
const FAILURE_TIMEOUT: Duration = RETRY_TIMEOUT;

/// The longest line that is read, bytes: the facts of a node with thousands of routes are a tenth of it. A container runtime
/// splits lines at 16 KiB, and the kubelet joins them.
const MAX_LINE: u64 = 8 << 20;

/// Bytes that one request reads at most. The next request reads what follows.
const MAX_BYTES: i64 = 8 << 20;

/// Controls when log readers read. All readers of a run share it.
pub(super) struct ReadControl {
    /// Whether logs are read now.
    pub(super) is_enabled: watch::Receiver<bool>,
    /// Limits how many logs are opened at the same time.
    pub(super) opening_permits: Arc<Semaphore>,
}

/// The most bytes of one agent's log: its lines are kept until the run evaluates them.
const MAX_LOG: usize = 256 << 20;

/// The agent whose log is read.
pub(super) struct LogSource {
    pub(super) agent: AgentId,
    /// The addresses that the API server has of its pod.
    pub(super) pod_ips: Vec<IpAddr>,
}

/// Sends every line of an agent's log as an event, until the task is aborted or the agent fails.
///
/// The end of a stream is not the end of a pod: a kubelet that stops also ends it. So the log is opened again, from the second
/// of the last line, and known lines are skipped.
pub(super) async fn follow_log(
    calls: ApiCalls,
    source: LogSource,
    mut control: ReadControl,
    events: UnboundedSender<PlatformEvent>,
) {
    let pods: Api<Pod> = calls.api();
    let mut reader = LogReader {
        source,
        events,
        bytes: 0,
    };
    let mut position = LogPosition::default();
    let mut backoff = Backoff::new(MIN_DELAY, MAX_DELAY);
    let mut failing_since: Option<Instant> = None;
    loop {
        if !*control.is_enabled.borrow_and_update() {
            let enabled = control.is_enabled.wait_for(|is_enabled| *is_enabled);
            if enabled.await.is_err() {
                return;
            }
            backoff.reset();
            failing_since = None;
        }
        let params = LogParams {
            follow: true,
            timestamps: true,
            since_time: position.since_time(),
            limit_bytes: Some(MAX_BYTES),
            ..LogParams::default()
        };
        let task = format!("read the log of the Pod {}", reader.source.agent.pod);
        let opening = async {
            // The semaphore is never closed.
            let _permit = control.opening_permits.acquire().await;
            calls
                .request(&task, pods.log_stream(&reader.source.agent.pod, &params))
                .await
        };
        match opening.await {
            Ok(stream) => {
                failing_since = None;
                let stream = std::pin::pin!(stream);
                let new_lines = tokio::select! {
                    new_lines = reader.read(stream, &mut position) => new_lines,
                    _ = control.is_enabled.wait_for(|is_enabled| !*is_enabled) => continue,
                };
                if new_lines > 0 {
                    backoff.reset();
                }
                if reader.bytes > MAX_LOG {
                    let limit = MAX_LOG >> 20;
                    reader.fail(format!(
                        "its log has more than {limit} MiB, and the rest was not read"
                    ));
                    return;
                }
            }
            Err(error) => {
                let since = *failing_since.get_or_insert_with(Instant::now);
                if since.elapsed() > FAILURE_TIMEOUT {
                    let node = &reader.source.agent.node;
                    reader.fail(format!(
                        "{error}; is the kubelet of {node} up, and does the API server reach it?"
                    ));
                    return;
                }
            }
        }
        sleep(backoff.pause()).await;
    }
}

/// Parses the lines of one agent's log.
struct LogReader {
    source: LogSource,
    events: UnboundedSender<PlatformEvent>,
    /// The bytes of all lines that were sent.
    bytes: usize,
}

impl LogReader {
    /// Sends the new lines of a stream until the stream ends or breaks, and returns their number.
    async fn read(
        &mut self,
        mut stream: impl AsyncBufRead + Unpin,
        position: &mut LogPosition,
    ) -> usize {
        position.rewind();
        let mut new_lines = 0;
        let mut received = 0;
        let mut bytes = Vec::new();
        while self.bytes <= MAX_LOG
            && let Ok(count @ 1..) = read_line(&mut stream, &mut bytes).await
        {
            received += count;
            match position.advance(&bytes) {
                LogLine::New(line) => {
                    self.send_line(line);
                    new_lines += 1;
                }
                LogLine::Rotated(line) => {
                    self.send_notice(
                        "its log was rotated while it was read: some lines may be missing or reported twice"
                            .to_owned(),
                    );
                    self.send_line(line);
                    new_lines += 1;
                }
                LogLine::Known | LogLine::Partial => {}
            }
        }
        position.end(i64::try_from(received).is_ok_and(|received| received >= MAX_BYTES));
        new_lines
    }

    fn send_line(&mut self, line: &[u8]) {
        self.bytes += line.len();
        let text = String::from_utf8_lossy(line);
        // The log also holds the agent's standard error, which is not JSON.
        if !text.starts_with('{') {
            self.send_notice(text.into_owned());
            return;
        }
        match Event::parse(&text) {
            Ok(event) => self.send_event(event),
            Err(error) => self.send_notice(error.to_string()),
        }
    }

    fn send_event(&self, event: Event) {
        if let Event::Hello(hello) = &event {
            let (addresses, notice) = addresses_of(&hello.addresses, &self.source.pod_ips);
            self.send(PlatformEvent::AgentReady {
                agent: self.source.agent.clone(),
                addresses,
            });
            if let Some(notice) = notice {
                self.send_notice(notice);
            }
        }
        self.send(PlatformEvent::AgentLine {
            agent: self.source.agent.clone(),
            event,
        });
    }

    fn send_notice(&self, text: String) {
        self.send_event(Event::Notice { text });
    }

    /// Reports that the log cannot be read any further.
    fn fail(&self, reason: String) {
        self.send(PlatformEvent::AgentFailed {
            agent: self.source.agent.clone(),
            reason,
        });
    }

    /// Sends an event to the run. Sending fails only after the run has ended.
    fn send(&self, event: PlatformEvent) {
        drop(self.events.send(event));
    }
}

/// Reads the next line with its line end, or what follows the last one, and returns the number of its bytes. Of a line that is
/// longer than [`MAX_LINE`] only the beginning is kept, with a line end.
async fn read_line(
    mut stream: impl AsyncBufRead + Unpin,
    line: &mut Vec<u8>,
) -> std::io::Result<usize> {
    line.clear();
    let read = (&mut stream).take(MAX_LINE).read_until(b'\n', line).await?;
    let is_cut = |line: &[u8]| line.len() as u64 == MAX_LINE && !line.ends_with(b"\n");
    if is_cut(line) {
        let mut rest = Vec::new();
        loop {
            rest.clear();
            (&mut stream)
                .take(MAX_LINE)
                .read_until(b'\n', &mut rest)
                .await?;
            if !is_cut(&rest) {
                break;
            }
        }
        line.push(b'\n');
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use futures::io::{BufReader, Cursor};

    use super::*;
    use crate::kubernetes::runtime::block_on;

    #[test]
    fn a_line_without_an_end_occupies_no_more_than_its_bound() {
        let long = usize::try_from(MAX_LINE).unwrap() * 2 + 7;
        let text = [b"one\n".as_slice(), &vec![b'x'; long], b"\ntwo\nend"].concat();
        let lines = async {
            let mut stream = BufReader::new(Cursor::new(text));
            let (mut line, mut lengths) = (Vec::new(), Vec::new());
            while let Ok(1..) = read_line(&mut stream, &mut line).await {
                lengths.push(line.len());
            }
            lengths
        };
        let bound = usize::try_from(MAX_LINE).unwrap() + 1;
        assert_eq!(block_on(lines).unwrap(), [4, bound, 4, 3]);
    }
}
