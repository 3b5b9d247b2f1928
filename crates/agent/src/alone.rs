//! The proxy alone: miners, pools and a ledger on disk. No module, no fleet, no controller, no plant.
//!
//! It is what a farm tries first, so it says where miners connect, tells every minute how it stands, and needs one file. The
//! ledger is the same outbox as an agent's; since no controller takes segments from it, the oldest go when [`KEEP_SEGMENTS`] are
//! there. Read next: `settings.rs` for the file, `edge.rs` for the proxy, docs/proxy.md for people.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::clock::WallClock;
use model::ModuleId;
use model::time::Clock;
use stratum::account::End;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::disk;
use crate::edge::{self, Stratum};
use crate::local;
use crate::metrics::{Part, Tallies, Watched};
use crate::outbox::{self, Outbox};
use crate::proxy::{Handle, Stats};
use crate::run::{finish, keep_synced};
use crate::settings::Settings;

/// The name under which the ledger's segments are written: there is no module.
pub const LEDGER: &str = "proxy";
/// A segment covers so much, as an agent's does.
const SEAL_EVERY: Duration = Duration::from_secs(30);
/// How often the log says how things stand.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Segments kept: seven days of one each 30 s. At a kilobyte each these are 20 MB.
const KEEP_SEGMENTS: u64 = 20_160;

/// Runs the proxy until cancelled, and has it `watched`. `file` is where `settings` came from: SIGHUP reads it again.
pub async fn run(
    settings: Settings,
    file: &Path,
    data: &Path,
    watched: &Watched,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let clock = Arc::new(WallClock);
    fs::create_dir_all(data).map_err(disk::at("create", data))?;
    let (dir, ledger, boot) = (data.join("outbox"), ModuleId::new(LEDGER)?, crate::boot::boot_id());
    let outbox = outbox::claim(|| Outbox::open(&dir, &ledger, &boot, clock.now(), None)).await?;
    let stratum = Stratum { settings, sabotage: Default::default() };
    let proxy = edge::start(&stratum, BTreeMap::new(), data, clock.clone(), Box::new(outbox.clone())).await?;
    let handle = proxy.handle();
    tell_where(&stratum.settings, &handle, data);
    let mut tasks = JoinSet::new();
    let tallies: Arc<Tallies> = Arc::default();
    let part = Part { reports: None, directive: None, proxy: Some(handle.clone()), tallies: tallies.clone() };
    watched.add(ledger, part);
    tasks.spawn(keep_synced(outbox.clone(), tallies));
    tasks.spawn(keep_sealed(outbox.clone()));
    tasks.spawn(keep_telling(handle.clone()));
    let accounts = names(&stratum.settings);
    tasks.spawn(keep_weights(handle.clone(), accounts, file.to_owned(), signal(SignalKind::hangup())?));
    let asked = local::Asked { proxy: Some(handle.clone()), commits: None };
    local::spawn(&mut tasks, data, asked, &cancel);
    let ended = tokio::select! {
        () = cancel.cancelled() => Ok(()),
        Some(Err(panic)) = tasks.join_next() => Err(anyhow::Error::from(panic).context("a task of the proxy panicked")),
    };
    tasks.shutdown().await;
    proxy.shutdown().await;
    tell(&handle.stats());
    finish(&outbox, clock.now());
    ended
}

fn tell_where(settings: &Settings, handle: &Handle, data: &Path) {
    for account in &settings.accounts {
        info!(account = account.name, weight = account.weight, pools = ?account.pools, "shares go to");
    }
    info!(
        url = %format_args!("stratum+tcp://{}", handle.address()),
        user = "any name, such as farm.rig1",
        password = "any",
        ledger = %data.display(),
        "point miners here"
    );
}

/// How the proxy stands: each share received has one end, or is on its way.
fn tell(stats: &Stats) {
    let sum = |which: fn(&End) -> bool| {
        stats.ends.iter().filter(|(end, _)| which(end)).map(|(_, tally)| tally.shares).sum::<u64>()
    };
    info!(
        miners = stats.connections,
        pool_up = stats.pool_up,
        received = stats.received.shares,
        accepted = sum(|end| *end == End::ForwardedAccepted),
        refused = sum(|end| matches!(end, End::ForwardedRejected(_))),
        rejected = sum(|end| matches!(end, End::RejectedLocally(_))),
        counted = sum(|end| *end == End::CountedBelowUpstream),
        keep_alive = sum(|end| *end == End::CountedKeepAlive),
        unknown = sum(|end| *end == End::Unknown),
        in_flight = stats.in_flight.shares,
        "shares since the start"
    );
    if !stats.balanced {
        error!("the books of the proxy do not balance; report this with the log");
    }
}

async fn keep_telling(handle: Handle) {
    let mut every = interval(TELL_EVERY);
    every.tick().await;
    loop {
        every.tick().await;
        tell(&handle.stats());
    }
}

/// Seals what came, and lets the oldest segments go.
async fn keep_sealed(outbox: Outbox) {
    let mut every = interval(SEAL_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let outbox = outbox.clone();
        // Sealing syncs files: milliseconds on a good disk, seconds on a bad one.
        let sealed = tokio::task::spawn_blocking(move || seal(&outbox, KEEP_SEGMENTS));
        match sealed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                error!(error, "a journal could not be sealed; it will be tried again");
            }
            Err(_) => return,
        }
    }
}

fn seal(outbox: &Outbox, keep: u64) -> Result<(), outbox::Error> {
    let Some(last) = outbox.seal(WallClock.now())? else { return Ok(()) };
    outbox.acknowledge(last.saturating_sub(keep))
}

/// The accounts in their order, which weights are given in.
fn names(settings: &Settings) -> Vec<String> {
    settings.accounts.iter().map(|account| account.name.clone()).collect()
}

/// Takes the accounts' weights from the file again at each SIGHUP; everything else needs a new start. `accounts` are those at the
/// start: in another order, weights would go to the wrong ones.
async fn keep_weights(handle: Handle, accounts: Vec<String>, file: PathBuf, mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        match Settings::read(&file) {
            Ok(settings) if names(&settings) == accounts && handle.set_weights(&settings.weights()) => {
                info!(weights = ?settings.weights(), "weights were read again; miners move one by one");
            }
            Ok(_) => {
                warn!(
                    "the settings name other accounts than at the start, or in another order; weights in force stay: stop the proxy and start it again"
                )
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                error!(error, "the settings were not read again; those in force stay");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::ledger::ShareEnd;
    use model::{MinerGroupId, Work};

    use super::*;
    use crate::outbox::record::ShareDetail;
    use crate::outbox::tests::Dir;

    #[test]
    fn the_oldest_segments_go_and_the_latest_stay() {
        let dir = Dir::new();
        let outbox = dir.open();
        for _ in 0..7 {
            let detail = ShareDetail {
                group: MinerGroupId::new("outside").unwrap(),
                worker: "farm".into(),
                work: Work(4_096),
                credited: Work::ZERO,
                scale: 1,
                hash: None,
            };
            outbox.ended(detail, ShareEnd::Counted).unwrap();
            seal(&outbox, 3).unwrap();
        }
        assert_eq!(outbox.waiting(), [5, 6, 7]);
        seal(&outbox, 3).unwrap();
        assert_eq!(outbox.waiting(), [5, 6, 7], "nothing came, nothing goes");
    }
}
