//! What every process says of itself, under the names that Prometheus' own clients use.
//!
//! Read from the kernel when somebody asks; what cannot be read is left out.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::page::{Metric, Page};

const BUILD: Metric = Metric::gauge("flareshift_build_info", "Always 1; the version is a label.");
const CPU: Metric = Metric::counter("process_cpu_seconds_total", "CPU time of this process.");
const MEMORY: Metric =
    Metric::gauge("process_resident_memory_bytes", "Memory of this process that is in RAM.");
const FILES: Metric = Metric::gauge("process_open_fds", "Open files and sockets.");
const MAX_FILES: Metric = Metric::gauge("process_max_fds", "Most files and sockets that may be open.");
const START: Metric = Metric::gauge("process_start_time_seconds", "When this process began, since 1970.");

/// Writes the process's own lines; `started` is when it began.
pub(crate) fn write(page: &mut Page, started: SystemTime) {
    page.add(&BUILD, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    page.add(&CPU, &[], cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    page.add_known(&MEMORY, &[], resident_bytes(&status));
    let files = fs::read_dir("/proc/self/fd").map(Iterator::count);
    page.add_known(&FILES, &[], files.ok().map(|files| files as f64));
    let most = getrlimit(Resource::Nofile).current;
    page.add(&MAX_FILES, &[], most.map_or(f64::INFINITY, |most| most as f64));
    let since = started.duration_since(UNIX_EPOCH).ok();
    page.add_known(&START, &[], since.map(|since| since.as_secs_f64()));
}

/// `VmRSS` of /proc/PID/status, which is in units of 1,024 bytes.
fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes_or_left_out() {
        let check = |status: &str, expected: Option<f64>| assert_eq!(resident_bytes(status), expected);
        check("Name:\tx\nVmRSS:\t    2048 kB\nRssAnon:\t 1 kB\n", Some(2_097_152.0));
        check("Name:\tkthread\n", None);
        check("VmRSS:\t many\n", None);
    }

    #[test]
    fn a_process_tells_its_own_use() {
        let mut page = Page::default();
        write(&mut page, SystemTime::now());
        let text = page.text();
        for metric in [BUILD, CPU, MEMORY, FILES, MAX_FILES, START] {
            assert!(text.contains(&format!("\n{}", metric.name)), "{} in {text}", metric.name);
        }
    }
}
