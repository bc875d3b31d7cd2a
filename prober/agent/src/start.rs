//! From the command line to a running agent: sockets first, then privileges away, then the first line.

use std::io::{self, Write as _};
use std::net::IpAddr;

use anyhow::Context as _;
use nix::ifaddrs::getifaddrs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prober_core::event::{EVENT_SCHEMA, Event, Hello};
use prober_core::observation::Tier;
use prober_core::plan::Allowed;
use prober_net::facts::read_facts;

use crate::agent::{Orders, serve};
use crate::args::Args;
use crate::connects::now;
use crate::lines::Lines;
use crate::plan_file::PlanFile;

/// Starts what the arguments ask for, and returns when it has ended.
pub(crate) fn start(args: Args) -> anyhow::Result<()> {
    if args.facts {
        return tell_facts();
    }
    let agent = args.agent.context("--agent NODE/POD is missing")?;
    let plan = args.plan.context("--plan FILE is missing")?;
    raise_descriptor_limit().context("cannot raise the limit of open files to its hard bound")?;
    let mut limits = Vec::new();
    let tier = match args.tier.wanted() {
        Tier::T0 => {
            limits.push("tier T0 was asked for (--tier T0): no packets, only results of connect() and counters".to_owned());
            Tier::T0
        }
        Tier::T1 | Tier::T2 => Tier::T0,
    };
    let (mut lines, written) =
        Lines::start(io::stdout()).context("cannot start the thread that writes event lines")?;
    lines.write(&Event::Hello(Hello {
        schema: EVENT_SCHEMA.to_owned(),
        agent: agent.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tier,
        addresses: addresses().context("cannot list the own addresses")?,
        limits,
        at: now(),
    }));
    let orders = Orders {
        agent,
        plan: PlanFile::new(plan),
        allowed: Allowed::new(args.allow),
        run: args.run,
    };
    serve(orders, lines, written)
}

fn tell_facts() -> anyhow::Result<()> {
    let line = Event::Facts(Box::new(read_facts())).to_line();
    writeln!(io::stdout(), "{line}").context("cannot write the node facts to standard output")
}

/// A responder under a flood needs more than the 1024 that shells are given.
fn raise_descriptor_limit() -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65536).max(soft), hard)
}

/// The addresses of this network namespace that others can ask.
fn addresses() -> nix::Result<Vec<IpAddr>> {
    let addresses = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let v6 = || address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
        v4.or_else(v6)
    });
    let is_asked = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    Ok(addresses.filter(is_asked).collect())
}
