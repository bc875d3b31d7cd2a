//! Measures prober itself; `scripts/bench` creates the network, runs other tools for comparison, and prints the table.
//!
//! ```text
//! bench raw half-open|exchange TARGET COUNT
//!     "rate answered sent drops" of crafted handshakes: half open, or complete ones with banner and FIN
//! bench serve ADDRESS:PORT
//!     sends a banner to every client, until it is killed
//! bench sim half-open|exchange COUNT
//!     the same in the simulated network, per second of processor time
//! bench rtt TARGET COUNT PCAP
//!     "p50 p99 joined" of the difference to a capture by tcpdump, nanoseconds
//! bench agent TARGET PROGRAM DIR
//!     "kib share probes" of an agent at ten probes a second
//! bench diagnosis
//!     the time to diagnose runs of 1,000, 10,000 and 100,000 probes, each with two faults; needs no network
//! bench capture FILE answered|silent|open CONNECTIONS
//!     writes a capture of so many connections; needs no network
//! bench cost PROGRAM ARGUMENT...
//!     "seconds kib" of a program that runs to its end
//! ```

#![expect(clippy::print_stdout, reason = "the figures are its output")]

mod agent;
mod capture;
mod diagnosis;
mod rate;
mod rtt;
mod serve;
mod sim;

use std::net::SocketAddr;

use anyhow::Context as _;

use rate::Kind;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve", at] => serve::serve(target_of(at)?)?,
        ["raw", kind, target, count] => {
            let rate = rate::measure(kind_of(kind)?, target_of(target)?, count_of(count)?)?;
            println!("{rate}");
        }
        ["sim", kind, count] => {
            let rate = sim::measure(kind_of(kind)?, count_of(count)?)?;
            println!("{rate}");
        }
        ["rtt", target, count, capture] => {
            let error = rtt::measure(target_of(target)?, count_of(count)?, capture.as_ref())?;
            println!("{error}");
        }
        ["agent", target, program, dir] => {
            let cost = agent::measure(target_of(target)?, program.as_ref(), dir.as_ref())?;
            println!("{cost}");
        }
        ["diagnosis"] => {
            for nodes in [25, 250, 2_500] {
                println!("{}", diagnosis::measure(nodes));
            }
        }
        ["capture", file, kind, connections] => {
            let kind = capture::Connections::named(kind)?;
            capture::write(file.as_ref(), kind, count_of(connections)?)?;
        }
        ["cost", program, arguments @ ..] => println!("{}", capture::cost(program, arguments)?),
        _ => anyhow::bail!("run scripts/bench, which creates the network that this needs"),
    }
    Ok(())
}

fn kind_of(text: &str) -> anyhow::Result<Kind> {
    match text {
        "half-open" => Ok(Kind::HalfOpen),
        "exchange" => Ok(Kind::Exchange),
        other => anyhow::bail!("'{other}' is no kind of handshake: half-open or exchange"),
    }
}

fn target_of(text: &str) -> anyhow::Result<SocketAddr> {
    text.parse()
        .with_context(|| format!("'{text}' is no target such as 10.98.0.2:80"))
}

fn count_of(text: &str) -> anyhow::Result<u32> {
    text.parse()
        .with_context(|| format!("'{text}' is no number of probes or connections"))
}
