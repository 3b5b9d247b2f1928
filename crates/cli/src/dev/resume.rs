//! Carrying on: where simulated time stands on a data directory.
//!
//! Time is reserved ahead, a minute at a time, and does not pass what is reserved on disk: whatever instant a kill strikes, the
//! next run begins behind everything that was recorded, without a write for every second.

use std::fs;
use std::io;
use std::path::Path;

use agent::disk;
use anyhow::{Context, ensure};
use model::time::Clock;
use model::{Span, Time};
use serde::{Deserialize, Serialize};
use sim::clock::Participant;
use tokio_util::sync::CancellationToken;

use super::scenario::Scenario;

/// How far ahead time is reserved.
const AHEAD: Span = Span::secs(60);
/// Half of that: time stops there until the next minute is on disk.
pub const SLACK: Span = Span::secs(30);
const FILE: &str = "dev.json";

#[derive(Serialize, Deserialize)]
struct Reserved {
    schema: u32,
    seed: u64,
    origin: Time,
    until: Time,
}

/// When the first run on `data` began and when this one begins; `asked` where there was none.
pub fn begin(data: &Path, asked: Time, seed: u64) -> anyhow::Result<(Time, Time)> {
    let path = data.join(FILE);
    let reserved = match fs::read(&path) {
        Ok(bytes) => {
            let broken =
                || format!("{} is damaged; remove the directory, or restore the file", path.display());
            let reserved: Reserved = serde_json::from_slice(&bytes).with_context(broken)?;
            ensure!(reserved.schema == 1, "{} is of another version of flareshift", path.display());
            ensure!(
                reserved.seed == seed,
                "{} was begun with --seed {}; give the same, or another directory",
                data.display(),
                reserved.seed
            );
            eprintln!("flareshift dev: carries on in {}", data.display());
            reserved
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Reserved { schema: 1, seed, origin: asked, until: asked }
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let start = reserved.until;
    write(data, &Reserved { until: start + AHEAD, ..reserved })?;
    Ok((reserved.origin, start))
}

/// Keeps time reserved until cancelled.
pub async fn keep(scenario: &Scenario, clock: Participant, cancel: CancellationToken) {
    let mut until = scenario.start + AHEAD;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = clock.sleep_until(until - SLACK) => {}
        }
        until = clock.now() + AHEAD;
        let reserved = Reserved { schema: 1, seed: scenario.args.seed, origin: scenario.origin, until };
        if let Err(error) = write(&scenario.data, &reserved) {
            tracing::error!(error = %format!("{error:#}"), "simulated time cannot be reserved");
        }
    }
}

fn write(data: &Path, reserved: &Reserved) -> anyhow::Result<()> {
    Ok(disk::replace(&data.join(FILE), &serde_json::to_vec(reserved)?)?)
}
