//! Follows the log of one agent's pod, and sends its lines as events.

use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt as _};
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
    mut control: ReadControl,
    events: UnboundedSender<PlatformEvent>,
) {
    let pods: Api<Pod> = calls.api();
    let reader = LogReader { agent, events };
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

    fn send_line(&self, line: &[u8]) {
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
