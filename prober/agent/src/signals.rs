//! The signals that end an agent, caught before it does anything else.
//!
//! The first process of a container is the init of its PID namespace, and the kernel drops every signal that such a
//! process has no handler for, SIGTERM included (pid_namespaces(7)). Without handlers the kubelet would wait for the whole
//! grace period and then kill the agent. A signal that arrives during the start is kept.

use std::io;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Handlers of SIGTERM and SIGINT.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Installs the handlers, for waits in this event loop.
    pub(crate) fn catch(runtime: &Runtime) -> io::Result<Self> {
        let _within = runtime.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for a signal; one that has arrived since the last wait ends it at once.
    pub(crate) async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
