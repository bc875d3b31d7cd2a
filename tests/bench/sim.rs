//! How many handshakes a second the machines and the simulated network do on one core.

#![expect(clippy::expect_used, reason = "a bench that cannot run stops")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prober_core::engine::{Engine, drive};
use prober_core::flight::{Flight, FlightConfig};
use prober_core::plan::{Method, ProbePlan};
use prober_core::sim::Sim;
use prober_core::sim::rule::{Reply, translate};
use prober_core::sim::server::{Manner, Server};
use prober_core::topology::PathId;
use prober_core::witness::Witnesses;

/// Probes in one measured round.
const PROBES: u32 = 20_000;

/// Probes launched at once, a fifth of a millisecond of virtual time apart: 320,000 a second.
const BURST: u32 = 64;

fn fly(method: Method) {
    let service = SocketAddr::from(([100, 67, 30, 133], 80));
    let pod = SocketAddr::from(([100, 96, 1, 20], 8080));
    let server = Server::new(pod, Manner::Healthy);
    let mut sim = Sim::new(server, Duration::from_micros(50), 1).with(translate(
        service,
        pod,
        Reply::Translated,
    ));
    let mut flight = Flight::new(FlightConfig {
        key: [7; 16],
        ports: 1024..=65_535,
        v4: Some(Ipv4Addr::new(100, 96, 1, 10)),
        v6: None,
        mtu: 1450,
    });
    let plan = ProbePlan {
        path: PathId(0),
        method,
        target: service,
        count: PROBES,
        start_ms: 0,
        interval_ms: 0,
        deadline_ms: 1000,
    };
    let mut witnesses = Witnesses::default();
    let (mut launched, mut done) = (0, 0);
    let mut next = sim.now();
    while done < PROBES {
        if launched < PROBES && sim.now() >= next {
            for _ in 0..BURST.min(PROBES - launched) {
                flight.launch(next, &plan).expect("a free port");
                launched += 1;
            }
            next = next + Duration::from_micros(200);
        }
        let until = if launched < PROBES {
            next
        } else {
            next + Duration::from_mins(1)
        };
        drive(&mut flight, &mut witnesses, &mut sim, until).expect("a simulation cannot fail");
        while let Some(result) = flight.poll_result() {
            std::hint::black_box(result);
            done += 1;
        }
    }
}

fn handshakes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sim");
    group.throughput(Throughput::Elements(u64::from(PROBES)));
    group.sample_size(10);
    group.bench_function("half-open", |bencher| {
        bencher.iter(|| fly(Method::Syn));
    });
    group.bench_function("with banner", |bencher| {
        bencher.iter(|| fly(Method::Exchange { echo_bytes: 0 }));
    });
    group.finish();
}

criterion_group!(benches, handshakes);
criterion_main!(benches);
