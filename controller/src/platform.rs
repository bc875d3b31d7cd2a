//! A Kubernetes cluster as the fleet of a run: commands in, events out, and all that lies between on a thread of its own.
//!
//! Plans go in through an annotation that the pod reads from a downward-API volume, what agents say comes out through their
//! pods' logs, and how pods stand is watched: nothing of a run uses the data path under test, and nothing is polled.
//!
//! ```text
//! PlatformCommand -> desk -- keeper of each agent -> pod, plans
//!                  | \--- ground -> anchor, Services, EndpointSlices
//!                  |<---- watch of the run's pods
//! PlatformEvent   <-  |<---- follower of each agent's log
//! ```

/// One agent's pod and its plans.
mod agent_pod;
/// RequestCount that answer or fail within a bound.
mod api_calls;
/// Whether the API server answers.
mod apiserver_health;
/// Executes the commands of a run and watches its pods.
mod command_loop;
/// Which lines of a log that is read again are new.
mod log_position;
/// Reads one agent's log.
mod log_reader;
/// The log readers of a run.
mod log_readers;
/// Deletes everything that a run placed.
mod removal;
/// The agents that serve behind the test Services.
mod service_endpoints;
/// The objects that all agents of a run share.
mod shared_objects;

use std::io;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::{self, JoinHandle};

use prober_core::run::{PlatformCommand, PlatformEvent};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::kubernetes::api_client::ApiClient;
use crate::manifest::platform_config::PlatformConfig;
use command_loop::CommandLoop;

/// A cluster as a fleet behind two channels.
#[derive(Debug)]
pub struct ClusterPlatform {
    thread: JoinHandle<()>,
}

impl ClusterPlatform {
    /// Obeys commands until their sender is gone; what was placed and not removed by then is removed.
    ///
    /// The requests are made on `runtime`, where the connection was made.
    pub fn start(
        runtime: Handle,
        connection: ApiClient,
        setting: PlatformConfig,
        commands: Receiver<PlatformCommand>,
        events: Sender<PlatformEvent>,
    ) -> io::Result<Self> {
        let (orders, received) = mpsc::unbounded_channel();
        // From a channel that blocks to one that is awaited.
        thread::Builder::new()
            .name("cluster-orders".to_owned())
            .spawn(move || {
                // A desk that is gone takes no more of them.
                while let Ok(command) = commands.recv()
                    && orders.send(command).is_ok()
                {}
            })?;
        let (told, mut telling) = mpsc::unbounded_channel();
        // And back.
        let pass_on = async move {
            while let Some(event) = telling.recv().await
                && events.send(event).is_ok()
            {}
        };
        let thread = thread::Builder::new()
            .name("cluster".to_owned())
            .spawn(move || {
                let served = Self::serve(connection, setting, received, told);
                runtime.block_on(futures::future::join(served, pass_on));
            })?;
        Ok(Self { thread })
    }

    /// As [`Self::start`], for who has a runtime: ends when the commands' sender is gone and everything is removed.
    pub async fn serve(
        connection: ApiClient,
        setting: PlatformConfig,
        commands: UnboundedReceiver<PlatformCommand>,
        events: UnboundedSender<PlatformEvent>,
    ) {
        CommandLoop::new(connection, setting, events)
            .serve(commands)
            .await;
    }

    /// Waits until the commands' sender is gone and everything is removed.
    pub fn join(self) {
        drop(self.thread.join());
    }
}
