//! The archive from outside: the real binary writes it, DuckDB reads it, into a folder and onto a server that speaks S3.
//!
//! Needs a Python with `duckdb` and a server that plays S3 (`moto`), named by ARCHIVE_PYTHON; `make archive` makes one. Without it these tests say
//! that they skip. Read next: `archive.py`; the crate `archive` tests its own steps one by one.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use api::operator::operator_service_client::OperatorServiceClient;
use api::operator::{ArchiveStatus, GetStatusRequest};
use controller::ledger::Sink;
use model::ledger::{Energy, Gap, Gas, Import, Line, Run, Segment, ShareEnd, Shares, Use};
use model::site::GasVolume;
use model::workload::GpuTime;
use model::{
    MicroDollars, MinerGroupId, ModuleId, SiteId, Span, TenantId, Time, WattSeconds, Work, WorkloadId,
};

/// How long something may take that comes by itself: the task looks every 10 s, and tries again for a minute after an error.
const PATIENCE: Duration = Duration::from_secs(120);
/// 2026-01-31T23:30:00Z: the segments go over the end of a month.
const BEGIN: Time = Time(1_769_902_200_000);

type Sums = BTreeMap<String, i128>;

/// A directory that goes when the test ends.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("flareshift-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that ends with the test.
struct Process(Child);

/// What a controller's status says of its archive, once it answers.
fn status(grpc: &str) -> Option<ArchiveStatus> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = OperatorServiceClient::connect(format!("http://{grpc}")).await.ok()?;
        client.get_status(GetStatusRequest::default()).await.ok()?.into_inner().archive
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Starts the controller; its log goes to `log`.
    fn controller(dir: &TempDir, archive: &str, environment: &[(&str, &str)]) -> Self {
        Self::controller_at("127.0.0.1:0", dir, archive, environment)
    }

    fn controller_at(grpc: &str, dir: &TempDir, archive: &str, environment: &[(&str, &str)]) -> Self {
        let log = File::options().create(true).append(true).open(dir.at("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_flareshift-controller"));
        command.args(["--listen", grpc, "--rest", "127.0.0.1:0", "--archive", archive]);
        command.args(["--store", &format!("embedded:{}", dir.at("store")), "--data", &dir.at("ledger")]);
        command.envs(environment.iter().copied()).stderr(log).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Ends it as an operator does.
    fn stop(mut self) {
        let status = Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(status.success());
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
    }
}

/// The Python to read with; `None`: not asked for.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("ARCHIVE_PYTHON").map(PathBuf::from);
    if python.is_none() {
        println!("skipped: ARCHIVE_PYTHON names no Python with duckdb and moto; `make archive` makes one");
    }
    python
}

fn ask(python: &Path, arguments: &[&str]) -> Result<String, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/archive.py");
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Parquet files below a folder.
fn files(folder: &str) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let count = |path: PathBuf| match path.is_dir() {
        true => files(&path.display().to_string()),
        false => usize::from(path.extension().is_some_and(|extension| extension == "parquet")),
    };
    entries.map(|entry| count(entry.unwrap().path())).sum()
}

/// A module's segment, a minute after the one before; its numbers differ from all others'.
fn segment(module: &str, sequence: u64) -> Segment {
    let number = i64::try_from(sequence).unwrap() * if module == "m1" { 1 } else { 1_009 };
    let from = BEGIN + Span::minutes(i64::try_from(sequence).unwrap());
    let to = from + Span::secs(30);
    let (tenant, workload) = (TenantId::new("acme").unwrap(), WorkloadId::new("w1").unwrap());
    let site = SiteId::new("s1").unwrap();
    let group = MinerGroupId::new("g").unwrap();
    let uses = [
        (Use::Mining { group: group.clone() }, WattSeconds::new(17 * number)),
        (Use::Workload { tenant: tenant.clone(), workload: workload.clone() }, WattSeconds::new(3 * number)),
        (Use::Loss, WattSeconds::new(number)),
    ];
    let gas = |volume: i64| GasVolume::new(volume * number);
    let shares = |end: ShareEnd, count: u64| {
        let work = Work(u128::from(count) << 70);
        Line::Shares(Shares {
            group: group.clone(),
            worker: "acc.é".into(),
            end,
            count,
            work,
            credited: work,
            scale: 1,
        })
    };
    let import = Import {
        site: site.clone(),
        from,
        to,
        energy: WattSeconds::new(number),
        cost: Some(MicroDollars::new(7)),
    };
    let lines = vec![
        Line::Energy(Energy::attribute(from, to, WattSeconds::new(20 * number), uses.into())),
        Line::Run(Run {
            tenant,
            workload,
            incarnation: 1,
            from,
            to,
            held: GpuTime::new(30_000 * number),
            progress: GpuTime::new(29_000 * number),
            price: MicroDollars::cents(295),
            by_progress: false,
        }),
        Line::Gas(Gas { site, from, to, supplied: gas(9), burnt: gas(8), flared: gas(1) }),
        Line::Import(import.clone()),
        Line::Import(Import { cost: None, ..import }),
        Line::Gap(Gap { from: None, to: from, why: "began; 'quoted'".into() }),
        shares(ShareEnd::Accepted, sequence),
        shares(ShareEnd::Rejected("stale".into()), 2 * sequence),
    ];
    Segment { module: ModuleId::new(module).unwrap(), sequence, from, to, lines }
}

fn segments(module: &str, sequences: std::ops::RangeInclusive<u64>) -> Vec<Segment> {
    sequences.map(|sequence| segment(module, sequence)).collect()
}

/// Lays segments into a controller's ledger, as its sessions do.
fn seed(dir: &TempDir, segments: &[Segment]) {
    let sink = Sink::open(Path::new(&dir.at("ledger"))).unwrap();
    for segment in segments {
        sink.take(segment, &[7; 32], 0).unwrap();
    }
}

/// What the ledger's lines add up to.
fn expected(segments: &[Segment]) -> Sums {
    let mut sums = Sums::new();
    let mut add = |name: &str, amount: i128| *sums.entry(name.to_owned()).or_default() += amount;
    for line in segments.iter().flat_map(|segment| &segment.lines) {
        match line {
            Line::Energy(energy) => {
                add("energy.rows", 1 + i128::try_from(energy.uses.len()).unwrap());
                add("energy.energy_ws", energy.total().get().into());
                add("energy.meter_ws", energy.meter.get().into());
            }
            Line::Shares(shares) => {
                add("shares.rows", 1);
                add("shares.shares", shares.count.into());
                add("shares.work_hashes", i128::try_from(shares.work.0).unwrap());
                add("shares.credited_hashes", i128::try_from(shares.credited.0).unwrap());
            }
            Line::Run(run) => {
                add("run.rows", 1);
                add("run.held_gpu_ms", run.held.get().into());
                add("run.progress_gpu_ms", run.progress.get().into());
                add("run.cost_microdollars", run.held.cost(run.price).get().into());
            }
            Line::Gas(gas) => {
                add("gas.rows", 1);
                add("gas.supplied_scf", gas.supplied.get().into());
                add("gas.burnt_scf", gas.burnt.get().into());
                add("gas.flared_scf", gas.flared.get().into());
            }
            Line::Import(import) => {
                add("import.rows", 1);
                add("import.energy_ws", import.energy.get().into());
                add("import.cost_microdollars", import.cost.map_or(0, |cost| cost.get().into()));
            }
            Line::Gap(_) => add("gap.rows", 1),
        }
    }
    sums
}

/// What DuckDB finds in a folder is what the segments hold, in the types that the documents name.
fn check(python: &Path, folder: &str, segments: &[Segment]) {
    let answer: serde_json::Value = serde_json::from_str(&ask(python, &["sums", folder]).unwrap()).unwrap();
    let sums = answer["sums"].as_object().unwrap().iter();
    let sums: Sums = sums.map(|(name, sum)| (name.clone(), sum.as_str().unwrap().parse().unwrap())).collect();
    assert_eq!(sums, expected(segments));
    for (column, kind) in [
        ("energy.module", "VARCHAR"),
        ("energy.sequence", "BIGINT"),
        ("energy.from_utc", "TIMESTAMP WITH TIME ZONE"),
        ("energy.energy_ws", "BIGINT"),
        ("shares.work_hashes", "DECIMAL(38,0)"),
        ("run.cost_microdollars", "BIGINT"),
        ("gap.why", "VARCHAR"),
    ] {
        assert_eq!(answer["types"][column], kind, "{column}");
    }
}

#[test]
fn duckdb_finds_in_a_folder_what_the_ledger_holds_and_late_segments_too() {
    let Some(python) = python() else { return };
    let dir = TempDir::new("archive-folder");
    let (folder, place) = (dir.at("archive"), format!("file://{}", dir.at("archive")));
    let mut all = [segments("m1", 1..=90), segments("m2", 1..=40)].concat();
    seed(&dir, &all);
    let controller = Process::controller(&dir, &place, &[]);
    let merged = |dir: &TempDir| files(&dir.at("archive/fresh")) == 0 && files(&dir.at("archive/hour")) > 0;
    wait_for("the hours are merged", || merged(&dir));
    // 23:31 to 01:00 are three hours, of six tables.
    assert_eq!(files(&dir.at("archive/hour")), 18);
    check(&python, &folder, &all);
    controller.stop();
    // An agent was away for a while; and what was archived is not archived again.
    let late = [segments("m1", 91..=95), segments("m2", 41..=90)].concat();
    seed(&dir, &late);
    all.extend(late);
    let controller = Process::controller(&dir, &place, &[]);
    wait_for("the late ones are archived", || {
        fs::read_to_string(dir.at("ledger/archive.json")).unwrap().contains("\"m2\":90")
    });
    check(&python, &folder, &all);
    wait_for("their hours are merged again", || merged(&dir));
    assert_eq!(files(&dir.at("archive/hour")), 18);
    check(&python, &folder, &all);
    controller.stop();
    let log = fs::read_to_string(dir.at("log")).unwrap();
    assert!(log.contains("segments=130") && log.contains("segments=55"), "{log}");
}

#[test]
fn a_status_says_what_waits_what_fails_and_that_all_is_archived() {
    let dir = TempDir::new("archive-status");
    let all = [segments("m1", 1..=40), segments("m2", 1..=5)].concat();
    seed(&dir, &all);
    // The folder goes after the controller has looked at it.
    let grpc = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let place = format!("file://{}", dir.at("archive"));
    fs::create_dir(dir.at("archive")).unwrap();
    fs::write(dir.at("archive/fresh"), "no folder").unwrap();
    let controller = Process::controller_at(&grpc, &dir, &place, &[]);
    let found = |enough: &dyn Fn(&ArchiveStatus) -> bool| status(&grpc).is_some_and(|found| enough(&found));
    wait_for("it fails", || found(&|found| !found.error.is_empty()));
    let failing = status(&grpc).unwrap();
    assert_eq!((failing.place, failing.waiting_segments, failing.archived_at), (place, 45, None));
    let behind = failing.behind.unwrap();
    assert_eq!((behind.module.as_str(), behind.archived_sequence, behind.kept_sequence), ("m1", 0, 40));
    assert!(failing.failed_at.is_some());
    fs::remove_file(dir.at("archive/fresh")).unwrap();
    wait_for("it is archived", || found(&|found| found.archived_at.is_some() && found.error.is_empty()));
    let whole = status(&grpc).unwrap();
    assert_eq!((whole.waiting_segments, whole.behind, whole.held_up_modules), (0, None, 0));
    controller.stop();
}

#[test]
fn an_s3_server_that_comes_late_gets_everything() {
    let Some(python) = python() else { return };
    let dir = TempDir::new("archive-s3");
    let all = [segments("m1", 1..=40), segments("m2", 1..=5)].concat();
    seed(&dir, &all);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let environment = [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_ALLOW_HTTP", "true"),
    ];
    let controller = Process::controller(&dir, "s3://ledgers/fleet/one", &environment);
    let log = || fs::read_to_string(dir.at("log")).unwrap();
    wait_for("the error is told", || log().contains("the ledger is not archived, trying again"));
    assert!(!Path::new(&dir.at("ledger/archive.json")).exists(), "nothing counts as archived");
    let server = Command::new(&python)
        .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _server = Process(server.unwrap());
    wait_for("the bucket is made", || ask(&python, &["bucket", &endpoint, "ledgers"]).is_ok());
    wait_for("the hours are merged", || log().matches("archived hour merged").count() == 12);
    ask(&python, &["fetch", &endpoint, "ledgers", &dir.at("fetched")]).unwrap();
    let below = |stage: &str| files(&dir.at(&format!("fetched/fleet/one/{stage}")));
    assert_eq!((below("fresh"), below("hour")), (0, 12), "two hours of six tables");
    check(&python, &dir.at("fetched/fleet/one"), &all);
    controller.stop();
}
