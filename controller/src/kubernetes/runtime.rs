//! Runs asynchronous code for synchronous callers.

use std::io;

use tokio::runtime::{Builder, Handle};

/// A tokio runtime with one worker thread.
#[derive(Debug)]
pub struct Runtime(tokio::runtime::Runtime);

impl Runtime {
    /// Starts the runtime.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the thread or the epoll instance.
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

    /// A handle for other threads that block on the runtime.
    pub fn handle(&self) -> Handle {
        self.0.handle().clone()
    }

    /// Stops the runtime without waiting for tasks that still run.
    pub fn shutdown_background(self) {
        self.0.shutdown_background();
    }
}

/// Runs `future` to its end on this thread, in a runtime of its own.
///
/// # Errors
///
/// If the kernel refuses the epoll instance.
pub fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
    install_crypto();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

/// Installs the TLS provider of the process. A second installation fails and changes nothing: the crate `ring` is the only provider.
fn install_crypto() {
    drop(rustls::crypto::ring::default_provider().install_default());
}
