//! Waits for what is asynchronous here, for callers that are not.

use std::io;

/// Runs `future` to its end on this thread.
pub fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
    // Whoever was here before has installed the same provider: ring is the only one there is.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}
