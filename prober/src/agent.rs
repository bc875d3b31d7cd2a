//! `prober agent`: the agent, which a run starts in each pod. The agent parses its own arguments.

use std::ffi::OsString;
use std::process::ExitCode;

/// Everything is for the agent.
#[derive(Debug, clap::Args)]
pub(crate) struct AgentArgs {
    /// The agent's own arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Runs `prober agent` and returns the agent's exit status.
pub(crate) fn agent(args: AgentArgs) -> ExitCode {
    let program = OsString::from("prober agent");
    prober_agent::run(std::iter::once(program).chain(args.words))
}
