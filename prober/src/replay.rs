//! `prober replay`: the diagnosis of existing packet captures.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use prober_core::replay::{Question, Replay, Replayer};
use prober_core::report::{Completion, Report};

use crate::drive::now;
use crate::input::CaptureInput;
use crate::output::OutputArgs;
use crate::progress::{Progress, Verbosity};
use crate::{run, usage};

/// The captures again, with comments.
mod annotate;

/// Frames between two updates of the progress display.
const SHOWN_EVERY: u64 = 16_384;

/// Diagnoses captures: of one end, of both, of nodes and routers between them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads pcap and pcapng, also as .gz and .zst: Ethernet, Linux cooked v1 and v2, raw IP, PPP, loopback, and \
    what VXLAN, Geneve, GRE and IP-in-IP carry. Files of one run are joined, whatever their clocks and their order. A capture \
    of one end alone decides only what that end can know.\n\n\
    Exit status: 0 every connection that can be judged works, 1 one fails, 2 inconclusive, or could not run.\n\n\
    Examples:\n  \
    tcpdump -i any -w client.pcap tcp or icmp     on the client's node, while it fails\n  \
    prober replay client.pcap\n  \
    prober replay client.pcap server.pcap -o html > report.html\n  \
    prober replay node.pcap --service 10.96.0.10:443 --client 10.244.1.7\n  \
    prober replay node.pcap --annotate commented.pcapng     for Wireshark\n  \
    ssh node-1 tcpdump -i any -U -w - tcp or icmp | prober replay -     until Ctrl-C"
)]
pub(crate) struct ReplayArgs {
    /// Capture files; - reads standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Judge only connections with this address at either end
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = address_and_port)]
    about: Option<(IpAddr, Option<u16>)>,

    /// Judge only connections to this Service or server
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = socket_address)]
    service: Option<SocketAddr>,

    /// Judge only connections of this client
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,

    /// Also write the captures as one pcapng file, with comments on the packets of what failed
    #[arg(long, value_name = "FILE")]
    annotate: Option<PathBuf>,

    /// Where the report goes
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs `prober replay`: diagnoses the captures together, and returns the exit status of the report.
///
/// The report starts with the first packet and ends with the last. Fails if a file is no capture, or if a destination
/// cannot be written.
pub(crate) fn run_replay(args: &ReplayArgs, command_line: &[OsString]) -> anyhow::Result<ExitCode> {
    let destinations = args.output.open()?;
    let is_stream = |path: &PathBuf| path.as_os_str() == "-";
    if args.annotate.is_some() && args.files.iter().any(is_stream) {
        return Err(usage::error(
            "cannot annotate standard input, which is read once: save the capture to a file first"
                .to_owned(),
        ));
    }
    if let Some(path) = &args.annotate
        && let Some(same) = args.files.iter().find(|file| is_same_file(file, path))
    {
        return Err(usage::error(format!(
            "--annotate would overwrite the capture {}: give another file",
            same.display()
        )));
    }
    let found = read(args)?;
    if let Some(path) = &args.annotate {
        annotate::write(path, &args.files, &found)?;
    }
    let mut meta = run::meta(command_line, now(), Completion::Complete);
    if let Some((first, last)) = found.span {
        meta.started = first;
        meta.duration = last.since(first);
    }
    meta.notes = found.notes;
    let mut report = Report::new(&found.matrix, &found.diagnoses, meta);
    report.connections = Some(found.connections);
    destinations.write(&report, args.output.output)?;
    Ok(ExitCode::from(report.exit_status))
}

/// Whether both paths lead to one file.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let resolved = |path: &Path| path.canonicalize().ok();
    resolved(one).is_some_and(|one| Some(one) == resolved(other))
}

/// Reads every file once, and judges them together.
fn read(args: &ReplayArgs) -> anyhow::Result<Replay> {
    let progress = Progress::new(Verbosity::Normal);
    let mut replayer = Replayer::about(Question {
        about: args.about,
        service: args.service,
        client: args.client,
    });
    for path in &args.files {
        read_file(path, &mut replayer, &progress)?;
    }
    progress.start_step("judging the connections");
    let found = replayer.finish();
    progress.clear();
    Ok(found)
}

fn read_file(path: &Path, replayer: &mut Replayer, progress: &Progress) -> anyhow::Result<()> {
    let mut input = CaptureInput::open(path)?;
    progress.start_reading(input.name(), input.size());
    let mut frames = 0_u64;
    while input.advance()? {
        if let Some(frame) = input.frame() {
            replayer.frame(&frame, input.reader().interfaces());
        }
        frames += 1;
        if frames.is_multiple_of(SHOWN_EVERY) {
            progress.set_read(input.bytes_read());
        }
    }
    let notes = input.reader().summary().notes().into_iter();
    replayer.end_file(notes.chain(input.compression_note().map(str::to_owned)));
    Ok(())
}

/// An address and a port.
fn socket_address(text: &str) -> Result<SocketAddr, String> {
    (text.parse()).map_err(|_| {
        "it is no ADDRESS:PORT such as 10.96.0.10:443 ([ADDRESS]:PORT for IPv6); --about takes an address alone".to_owned()
    })
}

/// An address, or an address and a port.
fn address_and_port(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address, None));
    }
    text.parse::<SocketAddr>()
        .map(|end| (end.ip(), Some(end.port())))
        .map_err(|_| {
            "it is neither an address nor ADDRESS:PORT ([ADDRESS]:PORT for IPv6)".to_owned()
        })
}
