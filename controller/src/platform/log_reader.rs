//! What an agent says, read from its pod's log while it is to be read, for as long as the pod is there.

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
use crate::platform::log_position::{Line, LogPosition};

/// The first pause before a log that broke is read again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long a kubelet may refuse a log before its agent is given up.
const PATIENCE: Duration = Duration::from_secs(6);

/// Bytes that one request may read; what is beyond them is the next one's.
const MOST_BYTES: i64 = 8 << 20;

/// When a follower reads.
pub(super) struct ReadControl {
    /// Whether it does.
    pub(super) listening: watch::Receiver<bool>,
    /// Places for those who open a log.
    pub(super) openings: Arc<Semaphore>,
}

/// Tells every line of an agent, until whoever started it ends it.
///
/// The end of a stream is not the end of a pod (a kubelet that stops ends it too), so the log is read again, from the last
/// second that was read, and what is known is skipped.
pub(super) async fn follow(
    calls: ApiCalls,
    agent: AgentId,
    mut ear: ReadControl,
    events: UnboundedSender<PlatformEvent>,
) {
    let pods: Api<Pod> = calls.api();
    let teller = LogReader { agent, events };
    let mut resumption = LogPosition::default();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut refused: Option<Instant> = None;
    loop {
        if !*ear.listening.borrow_and_update() {
            if ear
                .listening
                .wait_for(|listening| *listening)
                .await
                .is_err()
            {
                return;
            }
            backoff.reset();
            refused = None;
        }
        let how = LogParams {
            follow: true,
            timestamps: true,
            since_time: resumption.since(),
            limit_bytes: Some(MOST_BYTES),
            ..LogParams::default()
        };
        let task = format!("read the log of the Pod {}", teller.agent.pod);
        let opening = async {
            // Closed never.
            let _place = ear.openings.acquire().await;
            calls
                .request(&task, pods.log_stream(&teller.agent.pod, &how))
                .await
        };
        match opening.await {
            Ok(stream) => {
                refused = None;
                let stream = std::pin::pin!(stream);
                let told = tokio::select! {
                    told = teller.read(stream, &mut resumption) => told,
                    _ = ear.listening.wait_for(|listening| !*listening) => continue,
                };
                if told > 0 {
                    backoff.reset();
                }
            }
            Err(error) => {
                let since = *refused.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE {
                    teller.tell(PlatformEvent::AgentFailed {
                        agent: teller.agent.clone(),
                        reason: format!(
                            "{error}; does the kubelet of {} run, and does the API server reach it?",
                            teller.agent.node
                        ),
                    });
                    return;
                }
            }
        }
        sleep(backoff.pause()).await;
    }
}

/// Passes on what one agent says.
struct LogReader {
    agent: AgentId,
    events: UnboundedSender<PlatformEvent>,
}

impl LogReader {
    /// Tells the new lines of a stream until it ends, and how many there were.
    async fn read(
        &self,
        mut stream: impl AsyncBufRead + Unpin,
        resumption: &mut LogPosition,
    ) -> usize {
        resumption.restart();
        let mut told = 0;
        let mut line = Vec::new();
        // A stream that breaks is read again, as is one that ends.
        while let Ok(1..) = stream.read_until(b'\n', &mut line).await {
            match resumption.take(&line) {
                Line::New(line) => {
                    self.line(line);
                    told += 1;
                }
                Line::Rotated(line) => {
                    self.notice(
                        "its log was rotated while it was read: some of what it said may be missing, or told twice"
                            .to_owned(),
                    );
                    self.line(line);
                    told += 1;
                }
                Line::Known | Line::Partial => {}
            }
            line.clear();
        }
        told
    }

    fn line(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        // What an agent writes to its standard error is in the same log.
        if !text.starts_with('{') {
            self.notice(text.into_owned());
            return;
        }
        match Event::parse(&text) {
            Ok(event) => self.event(event),
            Err(error) => self.notice(error.to_string()),
        }
    }

    fn event(&self, event: Event) {
        if let Event::Hello(hello) = &event {
            self.tell(PlatformEvent::AgentReady {
                agent: self.agent.clone(),
                addresses: hello.addresses.clone(),
            });
        }
        self.tell(PlatformEvent::AgentLine {
            agent: self.agent.clone(),
            event,
        });
    }

    fn notice(&self, text: String) {
        self.event(Event::Notice { text });
    }

    /// A run that has stopped listening has ended: nobody is left to tell.
    fn tell(&self, event: PlatformEvent) {
        drop(self.events.send(event));
    }
}
