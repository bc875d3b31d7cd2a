//! Follows the log of one agent's pod, and sends its lines as events.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt as _};
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
use crate::platform::api_calls::ApiCalls;
use crate::platform::log_position::{LogLine, LogPosition};

/// The first delay before a log is opened again.
const MIN_DELAY: Duration = Duration::from_millis(100);

/// The longest delay.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// How long opening a log may fail before its agent fails.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(6);

/// Bytes that one request reads at most. The next request reads what follows.
const MAX_BYTES: i64 = 8 << 20;

/// Lines from the end of the log of a standing agent that are read first: no more are written while the log is opened.
const TAIL_LINES: i64 = 200;

/// Where the reading of a log starts.
pub(super) enum LogStart {
    /// At its beginning: the pod is the run's own.
    Beginning,
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
    let reader = LogReader {
        agent,
        start,
        events,
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
            }
            Err(error) => {
                let since = *failing_since.get_or_insert_with(Instant::now);
                if since.elapsed() > FAILURE_TIMEOUT {
                    reader.send(PlatformEvent::AgentFailed {
                        agent: reader.agent.clone(),
                        reason: format!(
                            "{error}; is the kubelet of {} up, and does the API server reach it?",
                            reader.agent.node
                        ),
                    });
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
}

impl LogReader {
    /// Sends the new lines of a stream until the stream ends or breaks, and returns their number.
    async fn read(
        &self,
        mut stream: impl AsyncBufRead + Unpin,
        position: &mut LogPosition,
    ) -> usize {
        position.rewind();
        let mut new_lines = 0;
        let mut bytes = Vec::new();
        while let Ok(1..) = stream.read_until(b'\n', &mut bytes).await {
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
            bytes.clear();
        }
        new_lines
    }

    fn tail_lines(&self) -> Option<i64> {
        match &self.start {
            LogStart::Beginning => None,
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

    fn send_line(&self, line: &[u8]) {
        match &self.start {
            LogStart::Beginning => self.send_own_line(line),
            LogStart::Greeting(greeting) => self.send_line_of_standing_agent(greeting, line),
        }
    }

    /// Sends a line that a standing agent wrote for this run: after its greeting, and not about its standing plan.
    fn send_line_of_standing_agent(&self, greeting: &Greeting, line: &[u8]) {
        let has_greeted = *greeting.state.borrow() == LogState::Greeted;
        match Event::parse(&String::from_utf8_lossy(line)) {
            Ok(Event::Hello(hello)) if hello.run.as_ref() == Some(&greeting.run) => {
                self.set_state(LogState::Greeted);
                let (hello, note) = greeting.verified(hello);
                if let Some(note) = note {
                    self.send(PlatformEvent::Note(note));
                }
                self.send(PlatformEvent::AgentReady {
                    agent: self.agent.clone(),
                    addresses: greeting.addresses.clone(),
                });
                self.send(PlatformEvent::AgentLine {
                    agent: self.agent.clone(),
                    event: Event::Hello(hello),
                });
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
            Ok(event) => self.send_event(event),
            Err(error) => self.send_notice(error.to_string()),
        }
    }

    fn send_event(&self, event: Event) {
        if let Event::Hello(hello) = &event {
            self.send(PlatformEvent::AgentReady {
                agent: self.agent.clone(),
                addresses: hello.addresses.clone(),
            });
        }
        self.send(PlatformEvent::AgentLine {
            agent: self.agent.clone(),
            event,
        });
    }

    fn send_notice(&self, text: String) {
        self.send_event(Event::Notice { text });
    }

    /// Sends an event to the run. Sending fails only after the run has ended.
    fn send(&self, event: PlatformEvent) {
        drop(self.events.send(event));
    }
}

impl Greeting {
    /// Compares the addresses that an agent reports with those of its pod, which count. Returns the line with the latter, and a
    /// note if the agent does not have all of them. An agent in its node's network also has the node's other addresses, which
    /// may replace those of packets.
    fn verified(&self, mut hello: Hello) -> (Hello, Option<String>) {
        let missing: Vec<String> = (self.addresses.iter())
            .filter(|address| !hello.addresses.contains(address))
            .map(ToString::to_string)
            .collect();
        let note = (!missing.is_empty()).then(|| {
            let reported: Vec<String> = hello.addresses.iter().map(ToString::to_string).collect();
            format!(
                "the agent {} reports the addresses {}, and the API says {} in its status.podIPs, which are used",
                hello.agent,
                list(&reported),
                missing.join(", ")
            )
        });
        match self.role {
            AgentRole::Client | AgentRole::Server => hello.addresses.clone_from(&self.addresses),
            AgentRole::Host => {}
        }
        (hello, note)
    }
}

/// Words separated by commas, or "none".
fn list(words: &[String]) -> String {
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
mod tests;
