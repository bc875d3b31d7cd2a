//! A Kubernetes cluster as the platform of a run: it executes commands and reports events.
//!
//! Plans reach an agent through an annotation of its pod, which a downward-API volume shows as a file. Events come from the
//! pods' logs, and the state of the pods from a watch. So nothing of a run uses the data path under test, and nothing is
//! polled.
//!
//! ```text
//! PlatformCommand -> CommandLoop -- agent_pod of each agent -> pod, plans
//!                     |   \--- SharedObjects -> owner Job, Services, EndpointSlices
//!                     |<---- watch of the run's pods
//! PlatformEvent   <-  |<---- log_reader of each agent
//! ```

/// The pod of one agent, and its plans.
mod agent_pod;
/// The addresses that an agent announces, and those of its pod.
mod announced_addresses;
/// Requests with a short time limit, repeated where they may succeed later.
mod api_calls;
/// Whether the API server responds.
mod apiserver_health;
/// Executes the commands of a run.
mod command_loop;
/// The last line that was read from a log.
mod log_position;
/// Follows the log of one agent's pod.
mod log_reader;
/// The log readers of a run.
mod log_readers;
/// Deletes the objects of a run.
mod removal;
/// Limits the requests of a run.
mod request_limit;
/// The servers behind the test Services.
mod service_endpoints;
/// The objects that all agents of a run share.
mod shared_objects;
/// Standing agents as the platform of a run.
pub mod standing;

use std::io;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::{self, JoinHandle};

use prober_core::run::{PlatformCommand, PlatformEvent};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep_until};

use crate::kubernetes::api_client::ApiClient;
use crate::manifest::platform_config::PlatformConfig;
use command_loop::CommandLoop;

/// A cluster that executes the commands of a run on a thread of its own.
#[derive(Debug)]
pub struct ClusterPlatform {
    thread: JoinHandle<()>,
}

impl ClusterPlatform {
    /// Starts to execute commands. When the sender of `commands` is dropped, objects that are still there are removed.
    ///
    /// Requests are sent on `runtime`, in which `client` was made.
    ///
    /// # Errors
    ///
    /// If the operating system refuses a thread.
    pub fn start(
        runtime: Handle,
        client: ApiClient,
        config: PlatformConfig,
        commands: Receiver<PlatformCommand>,
        events: Sender<PlatformEvent>,
    ) -> io::Result<Self> {
        let (command_sender, async_commands) = mpsc::unbounded_channel();
        // Forwards from a blocking channel to an asynchronous one.
        thread::Builder::new()
            .name("cluster-commands".to_owned())
            .spawn(move || {
                // The command loop has ended if the channel is closed.
                while let Ok(command) = commands.recv()
                    && command_sender.send(command).is_ok()
                {}
            })?;
        let (event_sender, mut async_events) = mpsc::unbounded_channel();
        let forward_events = async move {
            while let Some(event) = async_events.recv().await
                && events.send(event).is_ok()
            {}
        };
        let thread = thread::Builder::new()
            .name("cluster".to_owned())
            .spawn(move || {
                let served = Self::serve(client, config, async_commands, event_sender);
                runtime.block_on(futures::future::join(served, forward_events));
            })?;
        Ok(Self { thread })
    }

    /// Executes commands as [`Self::start`] does, for callers within a runtime. Returns when the sender of `commands` is
    /// dropped and everything is removed.
    pub async fn serve(
        client: ApiClient,
        config: PlatformConfig,
        commands: UnboundedReceiver<PlatformCommand>,
        events: UnboundedSender<PlatformEvent>,
    ) {
        Box::pin(CommandLoop::new(client, config, events).run(commands)).await;
    }

    /// Waits until the sender of the commands is dropped and everything is removed.
    pub fn join(self) {
        drop(self.thread.join());
    }
}

/// Sleeps until `at`, or for ever.
async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
