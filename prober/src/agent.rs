//! `prober agent`: what a run starts in each pod; its command line is the agent's own.

use std::ffi::OsString;
use std::process::ExitCode;

/// Everything is for the agent.
#[derive(Debug, clap::Args)]
pub(crate) struct AgentArgs {
    /// The agent's own arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Runs as an agent.
pub(crate) fn agent(args: AgentArgs) -> ExitCode {
    let program = OsString::from("prober agent");
    prober_agent::run(std::iter::once(program).chain(args.words))
}
