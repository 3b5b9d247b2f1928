//! The commands about a store that no controller is using: export, import, migrate, fsck, raise-epoch, delete.
//!
//! Who changes something takes the leader's office first, and compares it in every write: while a controller leads, nothing is
//! changed, and while something is changed, no controller leads. An import that was left half done keeps every controller from
//! leading until it is done again (`store::key::import`).
//!
//! Two programs have these commands: `flareshift store` and `flareshift-controller store`; the latter is always built with etcd.
//! Read next: `maintenance/export.rs` for the file's format, docs/store.md for operators.

mod export;
mod fsck;
mod import;
mod migrate;
mod shape;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use store::record::{decode_entry, encode};
use store::{
    Clock, Compare, Election, Entry, Key, Leadership, Location, Op, Prefix, Range, Store, Txn, embedded, key,
};
use tokio::time::timeout;

use crate::commit::split;
use crate::config::Place;
use crate::records::EpochRecord;
use export::FileError;
pub use fsck::Finding;

/// A controller that was killed a moment ago leads by its lease: 5 s unless told otherwise, and etcd looks twice a second.
const PATIENCE: Duration = Duration::from_secs(7);
/// The office is held as long as the command lives.
const TTL: Duration = Duration::from_secs(10);

/// What is to be done.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Writes everything that is stored into a new file, at one revision. Controllers may run meanwhile on an etcd.
    Export {
        /// The file to make; there must be none of that name.
        file: PathBuf,
    },
    /// Brings back what an export holds, and raises the epoch, so that agents follow no leader of before.
    Import {
        /// What `export` wrote.
        file: PathBuf,
        /// Delete what is stored now; without it a store that holds anything is left alone.
        #[arg(long)]
        replace: bool,
    },
    /// Writes every record of an older schema anew in this version's.
    Migrate {
        /// Only say what would be written.
        #[arg(long)]
        dry_run: bool,
    },
    /// Reads every record and names each that is broken, and what to do about it. Changes nothing.
    Fsck,
    /// Raises the epoch: needed after the store's own files, or an etcd, were restored from a copy.
    RaiseEpoch,
    /// Deletes one record that `fsck` named.
    Delete {
        /// Its key, as `fsck` prints it.
        key: String,
    },
}

/// What was done.
#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "done", rename_all = "kebab-case")]
pub enum Answer {
    /// Everything is in the file.
    Export { file: PathBuf, records: usize, bytes: usize, sha256: String },
    /// Everything is in the store.
    Import { records: usize, deleted: usize, epoch: u64 },
    /// Records that were (or would be) written anew, by kind.
    Migrate { migrated: std::collections::BTreeMap<String, usize>, records: usize, dry_run: bool },
    /// What was found.
    Fsck { records: usize, findings: Vec<Finding> },
    /// The epoch that is in force from now on.
    RaiseEpoch { epoch: u64 },
    /// The record that is no more.
    Delete { key: String },
}

/// Why nothing, or not everything, was done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is wrong, or the store does not answer, or is broken.
    #[error("the store {name}: {source}")]
    Store {
        /// Which.
        name: String,
        /// Why.
        source: store::Error,
    },
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no store, or nothing in it.
    #[error("nothing is stored at {name}; check the address, and the installation's name")]
    Nothing {
        /// Where.
        name: String,
    },
    /// Somebody leads.
    #[error("a controller leads ({by}); stop every controller and try again")]
    Led {
        /// What it said of itself.
        by: String,
    },
    /// Another leader appeared meanwhile.
    #[error("the office was lost while the store was changed; stop every controller and do it again")]
    Lost,
    /// There is something already.
    #[error(
        "{records} records are stored at {name}; import with --replace to delete them first (export them before)"
    )]
    NotEmpty {
        /// Where.
        name: String,
        /// How many.
        records: usize,
    },
    /// Broken records stand in the way.
    #[error("{} records cannot be read, the first is {}; nothing was changed, run fsck", findings.len(), findings[0].key)]
    Broken {
        /// Which.
        findings: Vec<Finding>,
    },
    /// No such record.
    #[error("no record stands at {key}")]
    NoRecord {
        /// Which.
        key: String,
    },
}

impl Error {
    /// The exit code, the same for every version: 1 failed, 2 wrong command or file, 3 no answer, 4 refused.
    pub fn code(&self) -> u8 {
        use store::Error as E;
        match self {
            Self::Store { source: E::Refused { .. }, .. } | Self::File(_) => 2,
            Self::Store { source: E::Unavailable { .. } | E::UnknownOutcome { .. }, .. } => 3,
            Self::Store { source: E::Locked { .. }, .. } => 4,
            Self::Led { .. } | Self::Lost | Self::NotEmpty { .. } => 4,
            Self::Store { .. } | Self::Nothing { .. } | Self::Broken { .. } | Self::NoRecord { .. } => 1,
        }
    }
}

impl Answer {
    /// 1 where something was found broken, else 0.
    pub fn code(&self) -> u8 {
        match self {
            Self::Fsck { findings, .. } => u8::from(!findings.is_empty()),
            _ => 0,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Export { file, records, bytes, sha256 } => {
                write!(
                    f,
                    "{records} records exported to {} ({bytes} bytes, SHA-256 {sha256})",
                    file.display()
                )
            }
            Self::Import { records, deleted, epoch } => {
                write!(f, "{records} records imported, {deleted} deleted; the epoch is {epoch}")
            }
            Self::Migrate { migrated, records, dry_run } => {
                let verb = if *dry_run { "would be written anew" } else { "were written anew" };
                write!(f, "{} of {records} records {verb}", migrated.values().sum::<usize>())?;
                migrated.iter().try_for_each(|(kind, count)| write!(f, "\n  {kind}: {count}"))
            }
            Self::Fsck { records, findings } => {
                write!(f, "{records} records read, {} broken", findings.len())?;
                findings.iter().try_for_each(|finding| write!(f, "\n{finding}"))
            }
            Self::RaiseEpoch { epoch } => write!(f, "the epoch is {epoch}"),
            Self::Delete { key } => write!(f, "{key} is deleted"),
        }
    }
}

/// Does it. `now` is the wall clock in seconds since 1970, below which no new epoch lies.
pub async fn run(place: &Place, command: &Command, now: u64) -> Result<Answer, Error> {
    let location = place.location().map_err(|source| Error::Store { name: place.store.clone(), source })?;
    let name = location.to_string();
    // What an import needs not be there yet; everything else would only make an empty store by mistake.
    if let Location::Embedded { dir } = &location
        && !embedded::exists(dir)
        && !matches!(command, Command::Import { .. })
    {
        return Err(Error::Nothing { name });
    }
    let failed = |source| Error::Store { name: name.clone(), source };
    let store = place.open().await.map_err(failed)?;
    let desk = Desk { store, name: name.clone(), now };
    match command {
        Command::Export { file } => export::run(&desk, file).await,
        Command::Import { file, replace } => import::run(&desk, file, *replace).await,
        Command::Migrate { dry_run } => migrate::run(&desk, *dry_run).await,
        Command::Fsck => fsck::run(&desk).await,
        Command::RaiseEpoch => desk.raise().await,
        Command::Delete { key } => desk.delete(key).await,
    }
}

/// An open store, and what is needed to change it.
struct Desk {
    store: Store,
    name: String,
    now: u64,
}

impl Desk {
    fn failed(&self, source: store::Error) -> Error {
        Error::Store { name: self.name.clone(), source }
    }

    /// Everything that is stored and outlives its writer.
    async fn everything(&self) -> Result<Range, Error> {
        let mut range = self.store.range(&Prefix::all()).await.map_err(|error| self.failed(error))?;
        range.entries.retain(|entry| entry.lease.is_none());
        Ok(range)
    }

    /// The same, where nothing at all is a mistake.
    async fn something(&self) -> Result<Vec<Entry>, Error> {
        let entries = self.everything().await?.entries;
        if entries.is_empty() {
            return Err(Error::Nothing { name: self.name.clone() });
        }
        Ok(entries)
    }

    /// Takes the leader's office, so that nobody else writes.
    async fn office(&self) -> Result<Leadership, Error> {
        let election = Election::new(self.store.clone(), key::leader(), Clock::boot());
        let campaign = election.campaign(b"flareshift store".to_vec(), TTL);
        match timeout(PATIENCE, campaign).await {
            Ok(taken) => taken.map_err(|error| self.failed(error)),
            Err(_) => {
                let leader = election.leader().await.map_err(|error| self.failed(error))?;
                let by = leader.map_or_else(String::new, |l| String::from_utf8_lossy(&l.value).into_owned());
                Err(Error::Led { by })
            }
        }
    }

    /// Runs steps under the office, in as many transactions as they need.
    async fn write(&self, office: &Leadership, ops: Vec<Op>) -> Result<(), Error> {
        for then in split(ops).into_iter().filter(|then| !then.is_empty()) {
            let txn = Txn { compares: vec![office.fence_compare()], then, otherwise: Vec::new() };
            self.txn(txn).await?;
        }
        Ok(())
    }

    async fn txn(&self, txn: Txn) -> Result<(), Error> {
        let outcome = self.store.txn(txn).await.map_err(|error| self.failed(error))?;
        if outcome.succeeded { Ok(()) } else { Err(Error::Lost) }
    }

    async fn resign(&self, office: Leadership) -> Result<(), Error> {
        office.resign().await.map_err(|error| self.failed(error))
    }

    /// The stored epoch; 0 where there is none. One that cannot be read is replaced, and the clock keeps the new one above it.
    async fn epoch(&self) -> Result<u64, Error> {
        let entry = self.store.get(&key::epoch()).await.map_err(|error| self.failed(error))?;
        let record = entry.and_then(|entry| decode_entry::<EpochRecord>(&entry).ok());
        Ok(record.map_or(0, |record| record.epoch))
    }

    /// An epoch above all that were: one more than what is known, and never below the clock's seconds, so that the same copy
    /// restored twice does not yield the same epoch twice.
    async fn next_epoch(&self, known: u64) -> Result<EpochRecord, Error> {
        let known = self.epoch().await?.max(known);
        Ok(EpochRecord { epoch: (known + 1).max(self.now) })
    }

    async fn raise(&self) -> Result<Answer, Error> {
        self.something().await?;
        let office = self.office().await?;
        let record = self.next_epoch(0).await?;
        let value = encode(&record).map_err(|error| self.failed(error))?;
        self.write(&office, vec![Op::Put { key: key::epoch(), value, lease: None }]).await?;
        self.resign(office).await?;
        Ok(Answer::RaiseEpoch { epoch: record.epoch })
    }

    async fn delete(&self, text: &str) -> Result<Answer, Error> {
        let key = Key::stored(text);
        let office = self.office().await?;
        let txn =
            Txn::new().when(office.fence_compare()).when(Compare::Exists(key.clone())).delete(key.clone());
        let outcome = self.store.txn(txn).await.map_err(|error| self.failed(error))?;
        self.resign(office).await?;
        if outcome.succeeded {
            Ok(Answer::Delete { key: text.to_owned() })
        } else {
            Err(Error::NoRecord { key: text.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests;
