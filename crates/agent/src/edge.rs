//! Makes a running proxy of its settings: on the agent's directory, with the groups of its module or none.
//!
//! Assumes that the outbox of the directory is held by this process. Read next: [`crate::proxy`]; `settings.rs` for the file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use model::time::Clock;
use model::{MinerGroupId, Span};

use crate::disk;
use crate::proxy::journal::ShareJournal;
use crate::proxy::{self, Proxy};
use crate::settings::Settings;

/// Extranonce2 slices set aside for one run of the process; a miner takes one when it connects.
const SLICES_PER_RUN: u64 = 65_536;
/// Time over which a verified hash rate is taken.
const RATE_WINDOW: Span = Span::minutes(5);
/// The group that miners of nobody are counted in, when the module has no group of its own.
const OUTSIDE: &str = "outside";
/// Longest file of certificates: a hundred of 4 kB.
const MAX_ROOTS_BYTES: u64 = 409_600;

/// The Stratum side of an agent.
#[derive(Clone, Debug)]
pub struct Stratum {
    /// Where miners connect and where shares go.
    pub settings: Settings,
    /// Faults built in on purpose.
    pub sabotage: proxy::Sabotage,
}

/// Starts the proxy. `groups` are those of the module, each with its scale; shares are recorded in `journal`.
pub async fn start(
    stratum: &Stratum,
    groups: BTreeMap<MinerGroupId, u64>,
    data: &Path,
    clock: Arc<dyn Clock>,
    journal: Box<dyn ShareJournal>,
) -> anyhow::Result<Proxy> {
    let outside = match groups.keys().next() {
        Some(first) => first.clone(),
        None => MinerGroupId::new(OUTSIDE)?,
    };
    let Settings { listen, accounts, limits, .. } = &stratum.settings;
    let mut accounts = accounts.iter().map(|account| account.to_account());
    let first = accounts.next().context("the proxy's settings name no account")?;
    let mut pools = first.pools.into_iter();
    let config = proxy::Config {
        listen: *listen,
        pool: pools.next().context("the proxy's first account has no pool")?,
        account: first.name,
        password: first.password,
        upstreams: proxy::Upstreams {
            backups: pools.collect(),
            weight: first.weight,
            others: accounts.collect(),
            keep_alive: stratum.settings.keep_alive(),
            idle_after_ms: stratum.settings.idle_after_ms(),
            roots: roots(stratum.settings.tls_roots.as_deref())?,
            pass_through: stratum.settings.pass_through,
        },
        max_connections: usize::try_from(limits.connections)?,
        groups: proxy::Groups::new(groups, outside),
        first_slice: reserve_slices(data)?,
        window: RATE_WINDOW,
        session: stratum.settings.session(),
        sabotage: stratum.sabotage,
    };
    Ok(Proxy::start(config, clock, journal).await?)
}

/// The further authorities, read once at the start.
fn roots(path: Option<&Path>) -> anyhow::Result<proxy::Roots> {
    let Some(path) = path else { return Ok(proxy::Roots::default()) };
    let read = || format!("cannot read the certificates {} (tls_roots)", path.display());
    let size = fs::metadata(path).with_context(read)?.len();
    anyhow::ensure!(size <= MAX_ROOTS_BYTES, "{} is no file of certificates: {size} bytes", path.display());
    let pem = fs::read(path).with_context(read)?;
    proxy::Roots::from_pem(&pem).with_context(|| format!("{} (tls_roots)", path.display()))
}

/// Sets slices aside for this run, so that no miner of it gets one that a miner of an earlier run may still use.
fn reserve_slices(data: &Path) -> anyhow::Result<u64> {
    let path = data.join("slices");
    let first = match fs::read_to_string(&path) {
        Ok(text) => {
            text.trim().parse().with_context(|| format!("{} holds no number; remove it", path.display()))?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0u64,
        Err(error) => return Err(disk::at("read", &path)(error).into()),
    };
    disk::replace(&path, first.wrapping_add(SLICES_PER_RUN).to_string().as_bytes())?;
    Ok(first)
}
