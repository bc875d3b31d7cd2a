//! Every data plane: healthy runs name nothing, and each fault is named at its place, or is among the causes that fit.
//!
//! The file of a data plane has the clusters on which its faults are tried and what their reports must say. The verdicts are
//! in `docs/data-planes.md`, which these trials write ([`table`]).

#[path = "data_planes/aws_vpc.rs"]
mod aws_vpc;
#[path = "data_planes/causes.rs"]
mod causes;
#[path = "data_planes/cilium.rs"]
mod cilium;
#[path = "data_planes/flannel_host_gw.rs"]
mod flannel_host_gw;
#[path = "data_planes/flannel_vxlan.rs"]
mod flannel_vxlan;
#[path = "data_planes/kube_router.rs"]
mod kube_router;
#[path = "data_planes/ptp_host_gw.rs"]
mod ptp_host_gw;
#[path = "data_planes/row.rs"]
mod row;
#[path = "data_planes/socket_lb.rs"]
mod socket_lb;
#[path = "data_planes/table.rs"]
mod table;

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};

use crate::cpu_load::CpuLoad;
use crate::faults::heal_completely;
use crate::harness::{self, Cluster, PTP, Shape};
use crate::pod_faults::report_from;
use crate::prober::{self, Report, nothing_left};
use row::{Row, Verdict, When, row};

pub(crate) use table::is_current as table_is_current;

/// The healthy runs of a data plane on an idle machine, and those with every processor taken, over all of its clusters.
const HEALTHY_RUNS: [usize; 2] = [20, 10];

/// The runs in the place of one, of which all but the last one are repeated if their agents had too little CPU time.
const ATTEMPTS: usize = 3;

/// A data plane, and how it is tried.
struct Plane {
    /// Its file in the folder `data-planes`.
    name: &'static str,
    /// The clusters on which it is tried.
    shapes: &'static [Shape],
    rows: Vec<Row>,
}

impl Plane {
    /// Whether a row is tried on a cluster of this shape.
    fn tries(&self, row: &Row, shape: Shape) -> bool {
        self.shapes
            .first()
            .is_some_and(|first| row.is_on(shape, *first))
    }

    /// The labels of all rows of its table, with what the reports must say on a cluster; `None` where a row is not tried.
    fn all_rows(&self) -> Vec<Row> {
        let healthy = [Machine::Idle, Machine::Busy].map(|machine| machine.row(self.shapes.len()));
        healthy
            .into_iter()
            .chain(self.rows.iter().cloned())
            .collect()
    }
}

/// Every data plane.
fn planes() -> Vec<Plane> {
    let mut planes = vec![
        flannel_vxlan::plane(),
        flannel_host_gw::plane(),
        ptp_host_gw::plane(),
        kube_router::plane(),
        aws_vpc::plane(),
        socket_lb::plane(),
    ];
    planes.extend(cilium::planes());
    planes
}

/// What else runs on the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Machine {
    Idle,
    Busy,
}

impl Machine {
    /// The number of healthy runs on each of so many clusters.
    const fn runs(self, clusters: usize) -> usize {
        let all = match self {
            Self::Idle => HEALTHY_RUNS[0],
            Self::Busy => HEALTHY_RUNS[1],
        };
        all.div_ceil(clusters)
    }

    /// The row of these runs in the table.
    fn row(self, clusters: usize) -> Row {
        let runs = self.runs(clusters);
        match self {
            Self::Idle => Row::healthy(format!("healthy, {runs} runs")),
            Self::Busy => Row::healthy(format!("healthy, {runs} runs, every processor taken")),
        }
    }
}

/// The trials of one data plane.
///
/// # Errors
///
/// There is no data plane of this name, or no trial of it.
pub(crate) fn trials(name: &str) -> Result<Vec<Trial>, String> {
    let planes = planes();
    let names: Vec<_> = planes.iter().map(|plane| plane.name).collect();
    let plane = planes.iter().find(|plane| plane.name == name);
    let plane = plane.ok_or_else(|| format!("no data plane {name}: {}", names.join(", ")))?;
    let mut trials = Vec::new();
    let mut runs = 0;
    for shape in plane.shapes.iter().copied() {
        for machine in [Machine::Idle, Machine::Busy] {
            runs += machine.runs(plane.shapes.len());
            let clusters = plane.shapes.len();
            let label = machine.row(clusters).label();
            trials.push(on(
                shape,
                format!("{label}: nothing is named"),
                move |cluster| healthy(cluster, machine, clusters),
            ));
        }
        trials.push(on(
            shape,
            "every fault is healed completely".to_owned(),
            |cluster| heal_completely(cluster, |_| true),
        ));
        for row in plane.rows.iter().filter(|row| plane.tries(row, shape)) {
            let row = row.clone();
            runs += 1;
            let name = format!("{} is named, or fits", row.label());
            trials.push(on(shape, name, move |cluster| fault(cluster, &row)));
        }
    }
    println!(
        "{name}: {runs} runs on {} clusters, about {} minutes on two idle cores",
        plane.shapes.len(),
        (runs * 12 + plane.shapes.len() * 40).div_ceil(60)
    );
    Ok(trials)
}

/// A trial on a cluster that is ended when one of another shape begins.
fn on(
    shape: Shape,
    name: String,
    test: impl FnOnce(&Arc<Cluster>) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    harness::on(shape, name, move |cluster| {
        harness::end_others(shape);
        test(cluster)
    })
}

/// The tests on routed veths that run with every `make test`: the founding fault cannot be there.
pub(crate) fn essential() -> Vec<Trial> {
    vec![
        harness::on(PTP, "a healthy cluster has no diagnosis", |cluster| {
            prober::report(cluster, &["--node", "node-1"])?.is_healthy()?;
            nothing_left(cluster)
        }),
        harness::on(PTP, "a node that forwards nothing is named", |cluster| {
            let broken = cluster.inject("forward-drop", "node-1", "")?;
            let report = prober::report(cluster, &["--node", "node-1"])?;
            broken.heal()?;
            report.names(&[("forward-drop", "node-1")])?;
            nothing_left(cluster)
        }),
    ]
}

fn healthy(cluster: &Arc<Cluster>, machine: Machine, clusters: usize) -> Result<(), Failed> {
    let label = machine.row(clusters).label();
    let load = (machine == Machine::Busy).then(CpuLoad::on_all_cpus);
    let load = load.transpose()?;
    for _ in 0..machine.runs(clusters) {
        let report = whole(|| prober::report(cluster, &["--all"]))?;
        if let Err(failed) = report.is_healthy() {
            table::record(cluster.shape, &label, &verdicts(&report))?;
            return Err(failed);
        }
    }
    drop(load);
    table::record(cluster.shape, &label, &[])?;
    nothing_left(cluster)
}

/// The report of a run, which is repeated if it does not get to its end because its agents had too little CPU time.
fn whole(mut run: impl FnMut() -> Result<Report, Failed>) -> Result<Report, Failed> {
    for _ in 1..ATTEMPTS {
        match run() {
            Err(failed) if failed.message().is_some_and(prober::names_starvation) => {}
            ended => return ended,
        }
    }
    run()
}

fn fault(cluster: &Arc<Cluster>, row: &Row) -> Result<(), Failed> {
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        let report = whole(|| report(cluster, row))?;
        nothing_left(cluster)?;
        let verdicts = verdicts(&report);
        let accepted = row.accept(&verdicts);
        // A false proof is one on a busy machine as well.
        let is_fair = left == 0 || !report.was_starved() || row.proves_falsely(&verdicts);
        if accepted.is_ok() || is_fair {
            table::record(cluster.shape, &row.label(), &verdicts)?;
            return accepted.map_err(|wrong| format!("{wrong}\n{}", report.describe()).into());
        }
    }
}

/// The report of a run with the fault, which is healed afterwards.
fn report(cluster: &Arc<Cluster>, row: &Row) -> Result<Report, Failed> {
    let inject = |target: &str| cluster.inject(row.fault, row.node, target);
    match row.when {
        When::BeforeTheRun(target) => {
            let broken = inject(target)?;
            let report = prober::report(cluster, &["--all"]);
            broken.heal()?;
            report
        }
        When::WithThePod(end) => report_from(cluster, end, &["--all"], |pod| {
            inject(&format!("default/{pod}"))
        }),
    }
}

/// What a report says, each cause once for each place.
fn verdicts(report: &Report) -> Vec<Verdict> {
    let mut found: Vec<Verdict> = (report.diagnoses.iter())
        .map(|diagnosis| Verdict {
            cause: diagnosis.cause.clone(),
            place: diagnosis.place(),
            is_proven: diagnosis.confidence == "proven",
            rivals: diagnosis.rivals().map(str::to_owned).collect(),
        })
        .collect();
    found.sort();
    found.dedup();
    found
}
