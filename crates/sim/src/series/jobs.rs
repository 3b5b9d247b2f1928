//! Jobs of a GPU cluster: `name,num_gpu,gpu_milli,qos,creation_time,deletion_time`, times in seconds from the trace's start;
//! other columns may stand there and are ignored.
//!
//! A fraction of a GPU counts as one; jobs without GPUs are dropped and counted. A job's work is its GPUs × the time from
//! creation to deletion, at least [`SHORTEST`]. Latency-sensitive jobs (`LS`, and those that name no class) become firm or on
//! demand, one in [`FIRM_ONE_IN`] firm by a seeded draw on its name; best-effort ones (`BE`) become spot.

use std::path::Path;

use model::Span;
use model::workload::{GpuTime, Tier};

use super::{Error, Table, read};
use crate::dice::{Dice, Purpose, place};

/// One latency-sensitive job in so many is sold firm: firm capacity is N-1 capacity, the scarce kind.
pub const FIRM_ONE_IN: u64 = 3;
/// A job takes at least this long: shorter ones were failed starts.
pub const SHORTEST: Span = Span::secs(60);
/// Most GPUs one job may ask for; the largest clusters in the field have fewer.
const MAX_GPUS: u32 = 100_000;
/// Seconds of a day.
const DAY: i64 = 86_400;

const COLUMNS: &[&str] = &["name", "num_gpu", "gpu_milli", "qos", "creation_time", "deletion_time"];

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name in the trace.
    pub name: String,
    /// When it arrives, from the trace's start.
    pub created: Span,
    /// Whole GPUs.
    pub gpus: u32,
    /// GPU time it asks for.
    pub amount: GpuTime,
    /// What it is sold as.
    pub tier: Tier,
}

/// The jobs of a trace in order of arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jobs {
    /// The jobs with GPUs.
    pub jobs: Vec<Job>,
    /// Jobs without GPUs, dropped.
    pub dropped: usize,
    /// Jobs whose fraction of a GPU was rounded up.
    pub rounded: usize,
}

/// Reads the jobs; `seed` decides which latency-sensitive ones are firm.
pub fn jobs(path: &Path, seed: u64) -> Result<Jobs, Error> {
    let text = read(path)?;
    let mut rounded = 0;
    let rows = Table::new(path, &text, COLUMNS)?.rows(|row| {
        let count = |text: &str| text.parse::<u32>().ok().filter(|gpus| *gpus <= MAX_GPUS);
        let gpus = row.cell(1, "a whole number of GPUs", count)?;
        let milli = row.cell(2, "thousandths of a GPU, 0 to 1000", |text| {
            text.parse::<u32>().ok().filter(|milli| *milli <= 1_000)
        })?;
        let seconds = |text: &str| text.parse::<i64>().ok().filter(|s| (0..=DAY * 36_500).contains(s));
        let created = row.cell(4, "seconds from the trace's start", seconds)?;
        let after = |text: &str| seconds(text).filter(|deleted| *deleted >= created);
        let deleted = row.cell(5, "seconds from the trace's start, not before creation_time", after)?;
        let name = row.cell(0, "a name", |text| (!text.is_empty()).then(|| text.to_owned()))?;
        let tier = row.cell(3, "LS, BE, Guaranteed, Burstable or nothing", |qos| tier(qos, &name, seed))?;
        if gpus == 0 {
            return Ok(None);
        }
        rounded += usize::from(milli < 1_000);
        let length = Span::secs(deleted - created).max(SHORTEST);
        Ok(Some(Job { name, created: Span::secs(created), gpus, amount: GpuTime::of(gpus, length), tier }))
    })?;
    let total = rows.len();
    let mut jobs: Vec<Job> = rows.into_iter().flatten().collect();
    jobs.sort_by(|left, right| (left.created, &left.name).cmp(&(right.created, &right.name)));
    Ok(Jobs { dropped: total - jobs.len(), rounded, jobs })
}

impl Jobs {
    /// The day (from the trace's start, counted from 0) whose arrivals ask for the most GPU time, and that time; the earliest of
    /// equals. `None` without jobs.
    pub fn busiest_day(&self) -> Option<(i64, GpuTime)> {
        let mut days: std::collections::BTreeMap<i64, GpuTime> = std::collections::BTreeMap::new();
        for job in &self.jobs {
            *days.entry(job.created.millis() / (DAY * 1_000)).or_default() += job.amount;
        }
        // The last maximum of the reversed order is the earliest day.
        days.into_iter().rev().max_by_key(|(_, asked)| *asked)
    }

    /// The jobs that arrive in [`from`, `to`).
    pub fn between(&self, from: Span, to: Span) -> &[Job] {
        let first = self.jobs.partition_point(|job| job.created < from);
        let last = self.jobs.partition_point(|job| job.created < to);
        &self.jobs[first..last.max(first)]
    }
}

fn tier(qos: &str, name: &str, seed: u64) -> Option<Tier> {
    match qos {
        "BE" => Some(Tier::Spot),
        "LS" | "Guaranteed" | "Burstable" | "" => {
            let draw = Dice::new(seed, Purpose::JobTier, [place(name), 0]).unit();
            Some(if draw * (FIRM_ONE_IN as f64) < 1.0 { Tier::Firm } else { Tier::OnDemand })
        }
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A file that goes when its test is done with it.
    pub(crate) struct Fixture(PathBuf);

    impl std::ops::Deref for Fixture {
        type Target = Path;

        fn deref(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// Writes a fixture to a file of its own.
    pub(crate) fn written(text: &str) -> Fixture {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sim-series-{}-{}.csv", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Fixture(path)
    }

    /// The real series, where they are there; says so when they are not.
    pub(crate) fn data() -> Option<PathBuf> {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
        let there = path.is_dir();
        if !there {
            eprintln!("skipped: no ../shared/data");
        }
        there.then_some(path)
    }

    const HEADER: &str = "name,cpu_milli,num_gpu,gpu_milli,qos,creation_time,deletion_time\n";

    fn load(rows: &str) -> Result<Jobs, Error> {
        jobs(&written(&format!("{HEADER}{rows}")), 1)
    }

    fn check_error(row: &str, part: &str) {
        let error = load(row).expect_err(row).to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn fractions_round_up_and_jobs_without_gpus_are_counted() {
        let jobs = load("c,1,2,1000,BE,50,150\na,1,0,0,LS,5,9\nb,1,1,460,LS,7,8\n").unwrap();
        assert_eq!((jobs.dropped, jobs.rounded), (1, 1));
        let seen: Vec<(&str, u32, i64)> =
            jobs.jobs.iter().map(|job| (job.name.as_str(), job.gpus, job.amount.get())).collect();
        assert_eq!(seen, vec![("b", 1, 60_000), ("c", 2, 200_000)], "in order of arrival, a minute at least");
        assert_eq!(jobs.jobs[1].tier, Tier::Spot);
        assert_ne!(jobs.jobs[0].tier, Tier::Spot);
    }

    #[test]
    fn one_latency_sensitive_job_in_three_is_firm() {
        let rows: String = (0..3_000).map(|n| format!("job-{n},1,1,1000,LS,{n},9000\n")).collect();
        let jobs = load(&rows).unwrap();
        let firm = jobs.jobs.iter().filter(|job| job.tier == Tier::Firm).count();
        assert!((900..1_100).contains(&firm), "{firm}");
        assert_eq!(jobs, load(&rows).unwrap(), "the same seed draws the same");
    }

    #[test]
    fn the_busiest_day_has_the_most_gpu_time_asked() {
        let day = 86_400;
        let rows = format!(
            "a,1,8,1000,LS,10,110\nb,1,1,1000,LS,{d1},{e1}\nc,1,4,1000,BE,{d2},{e2}\n",
            d1 = day + 1,
            e1 = day + 301,
            d2 = day + 2,
            e2 = day + 502
        );
        let jobs = load(&rows).unwrap();
        assert_eq!(jobs.busiest_day(), Some((1, GpuTime::new(300_000 + 2_000_000))));
        let second = jobs.between(Span::hours(24), Span::hours(48));
        assert_eq!(second.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), vec!["b", "c"]);
        assert!(jobs.between(Span::hours(48), Span::hours(24)).is_empty());
    }

    #[test]
    fn errors_name_the_cell() {
        check_error(
            "a,1,x,1000,LS,0,1\n",
            "line 2, column 3 (num_gpu): expected a whole number of GPUs, found \"x\"",
        );
        check_error("a,1,1,2000,LS,0,1\n", "column 4 (gpu_milli): expected thousandths");
        check_error("a,1,1,1000,VIP,0,1\n", "column 5 (qos): expected LS, BE");
        check_error("a,1,1,1000,LS,-4,1\n", "column 6 (creation_time)");
        check_error(
            "a,1,1,1000,LS,9,1\n",
            "column 7 (deletion_time): expected seconds from the trace's start, not before",
        );
        check_error(",1,1,1000,LS,0,1\n", "column 1 (name): expected a name");
        check_error("a,1\n", "line 2: the row has 2 cells, the header 7");
        let long = format!("a,1,{},1000,LS,0,1\n", "9".repeat(5_000));
        assert!(
            load(&long).expect_err("too many").to_string().len() < 300,
            "a long cell is cut in the message"
        );
    }

    #[test]
    fn the_real_jobs_load() {
        let Some(data) = data() else { return };
        let jobs = jobs(&data.join("gpu-jobs/openb_first_half.csv"), 1).unwrap();
        assert_eq!((jobs.jobs.len() + jobs.dropped, jobs.dropped, jobs.rounded), (4_076, 608, 1_486));
        let (day, asked) = jobs.busiest_day().unwrap();
        assert!(asked > GpuTime::of(100, Span::hours(1)), "day {day}: {asked}");
    }
}
