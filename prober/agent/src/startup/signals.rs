//! The signals that end an agent, caught from its first moment on.
//!
//! The first process of a container is the init of its PID namespace, and the kernel drops every signal that such a
//! process has no handler for, SIGTERM too (pid_namespaces(7)): the kubelet would wait out the whole grace period and
//! then kill it. So the handlers are installed before anything else is done, and what comes early is kept.

use std::io;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches them from now on, to be waited for in this event loop.
    pub(crate) fn catch(runtime: &Runtime) -> io::Result<Self> {
        let _within = runtime.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them; those that came since the last wait count.
    pub(crate) async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
