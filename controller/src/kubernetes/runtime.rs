//! Waits for what is asynchronous here, for callers that are not.

use std::io;

use tokio::runtime::{Builder, Handle};

/// Where requests are made, and connections live.
#[derive(Debug)]
pub struct Runtime(tokio::runtime::Runtime);

impl Runtime {
    /// Starts it, with one thread beside those that wait.
    pub fn start() -> io::Result<Self> {
        install_crypto();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        Ok(Self(runtime))
    }

    /// Runs `future` to its end on this thread.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.block_on(future)
    }

    /// For threads of their own that wait here too.
    pub fn handle(&self) -> Handle {
        self.0.handle().clone()
    }

    /// Ends it without waiting for what still runs.
    pub fn shutdown_background(self) {
        self.0.shutdown_background();
    }
}

/// Runs `future` to its end on this thread.
pub fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
    install_crypto();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

/// Whoever was here before has installed the same provider: ring is the only one there is.
fn install_crypto() {
    drop(rustls::crypto::ring::default_provider().install_default());
}
