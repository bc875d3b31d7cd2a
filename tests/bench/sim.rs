//! The rate of handshakes of the state machines and the simulated network on one core.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use prober_core::plan::ProbePlan;
use prober_core::probe::engine::{Engine as _, drive};
use prober_core::probe::in_flight::{InFlight, InFlightConfig, ProbeOutput};
use prober_core::probe::server_trace::ServerTraces;
use prober_core::simulation::SimulatedNetwork;
use prober_core::simulation::fault::{ReplyTranslation, translate};
use prober_core::simulation::server::{Server, ServerBehaviour};
use prober_core::topology::PathId;

use crate::rate::{Kind, Rate};

/// Probes per burst, and the virtual time between bursts: a hundred thousand per second, the rate of a raw socket.
const BURST: u32 = 64;
const APART: Duration = Duration::from_micros(640);

/// Runs `count` handshakes through a simulated Service. The rate is per second of this thread's processor time, so that
/// other load does not count.
pub(crate) fn measure(kind: Kind, count: u32) -> anyhow::Result<Rate> {
    let service = SocketAddr::from(([100, 67, 30, 133], 80));
    let pod = SocketAddr::from(([100, 96, 1, 20], 8080));
    let server = Server::new(pod, ServerBehaviour::Healthy);
    let mut sim = SimulatedNetwork::new(server, Duration::from_micros(50), 1).with(translate(
        service,
        pod,
        ReplyTranslation::Applied,
    ));
    let mut in_flight = InFlight::new(InFlightConfig {
        key: [7; 16],
        ports: 1024..=65_535,
        v4: Some(Ipv4Addr::new(100, 96, 1, 10)),
        v6: None,
        mtu: 1450,
    });
    let plan = ProbePlan {
        path: PathId(0),
        method: kind.method(),
        target: service,
        count,
        start_ms: 0,
        interval_ms: 0,
        deadline_ms: 1000,
    };
    let mut server_traces = ServerTraces::default();
    let (mut sent, mut outputs, mut answered) = (0, 0, 0);
    let mut next = sim.now();
    let start = time_on_core()?;
    while outputs < count {
        if sent < count && sim.now() >= next {
            for _ in 0..BURST.min(count - sent) {
                in_flight.launch(next, &plan)?;
                sent += 1;
            }
            next = next + APART;
        }
        let until = if sent < count {
            next
        } else {
            next + Duration::from_mins(1)
        };
        drive(&mut in_flight, &mut server_traces, &mut sim, until)?;
        while let Some(ProbeOutput::Probe(result)) = in_flight.poll_output() {
            outputs += 1;
            answered += u32::from(kind.is_answered(&result) && result.is_first_syn_success());
        }
    }
    let spent = time_on_core()?.saturating_sub(start);
    Ok(Rate {
        per_second: f64::from(answered) / spent.as_secs_f64(),
        answered,
        sent,
        drops: 0,
    })
}

/// The processor time of this thread so far (linux/Documentation/scheduler/sched-stats.rst).
fn time_on_core() -> anyhow::Result<Duration> {
    let line = fs::read_to_string("/proc/thread-self/schedstat")
        .context("cannot read this thread's time")?;
    let nanos = line.split(' ').next().unwrap_or_default().parse();
    Ok(Duration::from_nanos(
        nanos.with_context(|| format!("'{line}' is no schedstat"))?,
    ))
}
