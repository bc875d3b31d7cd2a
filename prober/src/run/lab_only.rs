//! The modules `cluster` and `telemetry` of a build without the feature `cluster`: they refuse, and do nothing.

/// Refuses every run in a cluster.
pub(super) mod cluster {
    use std::ffi::OsString;
    use std::process::ExitCode;

    use anyhow::bail;

    use crate::output::Files;
    use crate::run::RunArgs;

    /// Fails, because this program cannot reach a cluster.
    pub(in crate::run) fn in_cluster(
        _args: &RunArgs,
        _command_line: &[OsString],
        _files: &Files,
    ) -> anyhow::Result<ExitCode> {
        bail!(
            "this program was built for the lab alone: give --lab, or build it with `cargo build -p prober` \
             to probe a cluster"
        )
    }
}

/// Sends nothing.
pub(super) mod telemetry {
    use prober_core::report::Report;

    /// Does nothing.
    pub(in crate::run) const fn send(_report: &Report) {}
}

/// Hands no report out of the lab.
#[cfg(target_os = "linux")]
pub(super) mod report_file {
    use std::path::Path;

    /// The counterpart of the file that carries a report out of the lab; there is none.
    #[derive(Debug)]
    pub(in crate::run) struct ReportFile;

    impl ReportFile {
        /// Prepares nothing.
        pub(in crate::run) const fn prepare() -> Self {
            Self
        }

        /// Returns no path.
        #[expect(
            clippy::unused_self,
            reason = "the signature is that of a build with the feature `cluster`"
        )]
        pub(in crate::run) const fn path(&self) -> Option<&Path> {
            None
        }

        /// Does nothing.
        #[expect(
            clippy::unused_self,
            reason = "the signature is that of a build with the feature `cluster`"
        )]
        pub(in crate::run) const fn send(&self) {}
    }
}
