//! The arguments that select a cluster, named as in kubectl.

use std::path::PathBuf;

#[cfg(feature = "cluster")]
use controller::kubernetes::kubeconfig::ConnectOptions;

/// Which cluster, as whom, and in which namespace.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ReachArgs {
    /// The kubeconfig [default: as kubectl: $KUBECONFIG, else ~/.kube/config, else the service
    /// account of this pod]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,

    /// The namespace to work in [default: the context's, else default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

#[cfg(feature = "cluster")]
impl ReachArgs {
    /// Returns the options for a connection to the API server.
    pub(crate) fn reach(&self) -> ConnectOptions {
        ConnectOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            namespace: self.namespace.clone(),
        }
    }
}
