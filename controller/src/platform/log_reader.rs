//! Follows the log of one agent's pod, and sends its lines as events.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use prober_core::probe::event::{Event, Hello};
use prober_core::run::PlatformEvent;
use prober_core::topology::{AgentId, AgentRole};
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

/// Lines from the end of the log of a standing agent that are read first: no more are written while the log is opened.
const TAIL_LINES: i64 = 200;

/// Where the reading of a log starts.
pub(super) enum LogStart {
    /// At its beginning: the pod is the run's own.
    Beginning {
        /// The addresses of the pod, from the API.
        pod_ips: Vec<IpAddr>,
    },
    /// At the line in which a standing agent greets the run.
    Greeting(Greeting),
}

/// How a standing agent greets a run.
pub(super) struct Greeting {
    /// The name of the run.
    pub(super) run: String,
    /// The role of the agent.
    pub(super) role: AgentRole,
    /// The addresses of its pod, from the API.
    pub(super) addresses: Vec<IpAddr>,
    /// What is read so far.
    pub(super) state: watch::Sender<LogState>,
}

/// What is read of a log so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogState {
    /// It is being opened.
    Opening,
    /// It is open.
    Open,
    /// Its agent has greeted the run.
    Greeted,
}

/// Controls when log readers read. All readers of a run share it.
pub(super) struct ReadControl {
    /// Whether logs are read now.
    pub(super) is_enabled: watch::Receiver<bool>,
    /// Limits how many logs are opened at the same time.
    pub(super) opening_permits: Arc<Semaphore>,
}

/// The most bytes of one agent's log: its lines are kept until the run evaluates them.
const MAX_LOG: usize = 256 << 20;

/// Sends every line of an agent's log as an event, until the task is aborted or the agent fails.
///
/// The end of a stream is not the end of a pod: a kubelet that stops also ends it. So the log is opened again, from the second
/// of the last line, and known lines are skipped.
pub(super) async fn follow_log(
    calls: ApiCalls,
    agent: AgentId,
    start: LogStart,
    mut control: ReadControl,
    events: UnboundedSender<PlatformEvent>,
) {
    let pods: Api<Pod> = calls.api();
    let mut reader = LogReader {
        agent,
        start,
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
            tail_lines: position.is_start().then(|| reader.tail_lines()).flatten(),
            limit_bytes: Some(MAX_BYTES),
            ..LogParams::default()
        };
        let task = format!("read the log of the Pod {}", reader.agent.pod);
        let opening = async {
            // The semaphore is never closed.
            let _permit = control.opening_permits.acquire().await;
            calls
                .request(&task, pods.log_stream(&reader.agent.pod, &params))
                .await
        };
        match opening.await {
            Ok(stream) => {
                failing_since = None;
                reader.set_state(LogState::Open);
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
                    let node = &reader.agent.node;
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
    agent: AgentId,
    start: LogStart,
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

    fn tail_lines(&self) -> Option<i64> {
        match &self.start {
            LogStart::Beginning { .. } => None,
            LogStart::Greeting(_) => Some(TAIL_LINES),
        }
    }

    /// Records how far the log of a standing agent is read.
    fn set_state(&self, state: LogState) {
        if let LogStart::Greeting(greeting) = &self.start {
            let has_greeted = *greeting.state.borrow() == LogState::Greeted;
            if !has_greeted {
                greeting.state.send_replace(state);
            }
        }
    }

    fn send_line(&mut self, line: &[u8]) {
        self.bytes += line.len();
        match &self.start {
            LogStart::Beginning { .. } => self.send_own_line(line),
            LogStart::Greeting(greeting) => self.send_line_of_standing_agent(greeting, line),
        }
    }

    /// Sends a line that a standing agent wrote for this run: after its greeting, and not about its standing plan.
    fn send_line_of_standing_agent(&self, greeting: &Greeting, line: &[u8]) {
        let has_greeted = *greeting.state.borrow() == LogState::Greeted;
        match Event::parse(&String::from_utf8_lossy(line)) {
            Ok(Event::Hello(hello)) if hello.run.as_ref() == Some(&greeting.run) => {
                self.set_state(LogState::Greeted);
                self.send_hello(hello);
            }
            Ok(Event::Hello(_) | Event::Alert | Event::StandingFailure(_)) => {}
            Ok(_) | Err(_) if has_greeted => self.send_own_line(line),
            Ok(_) | Err(_) => {}
        }
    }

    fn send_own_line(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        // The log also holds the agent's standard error, which is not JSON.
        if !text.starts_with('{') {
            self.send_notice(text.into_owned());
            return;
        }
        match Event::parse(&text) {
            Ok(Event::Hello(hello)) => self.send_hello(hello),
            Ok(event) => self.send_event(event),
            Err(error) => self.send_notice(error.to_string()),
        }
    }

    /// Sends the greeting of an agent, and that it is ready with the addresses of its pod. A standing agent in its node's network
    /// also keeps the node's other addresses that it announces, which may replace those of packets.
    fn send_hello(&self, mut hello: Hello) {
        let pod_ips = match &self.start {
            LogStart::Beginning { pod_ips } => pod_ips,
            LogStart::Greeting(greeting) => &greeting.addresses,
        };
        let (addresses, notice) = addresses_of(&hello.addresses, pod_ips);
        if let LogStart::Greeting(greeting) = &self.start {
            match greeting.role {
                AgentRole::Client | AgentRole::Server => hello.addresses.clone_from(&addresses),
                AgentRole::Host => {}
            }
        }
        self.send(PlatformEvent::AgentReady {
            agent: self.agent.clone(),
            addresses,
        });
        if let Some(notice) = notice {
            self.send_notice(notice);
        }
        self.send_event(Event::Hello(hello));
    }

    fn send_event(&self, event: Event) {
        self.send(PlatformEvent::AgentLine {
            agent: self.agent.clone(),
            event,
        });
    }

    fn send_notice(&self, text: String) {
        self.send_event(Event::Notice { text });
    }

    /// Reports that the log cannot be read any further.
    fn fail(&self, reason: String) {
        self.send(PlatformEvent::AgentFailed {
            agent: self.agent.clone(),
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
mod tests;
