//! An hour that is over: its small files, and what was merged of it before, become one file, sorted and without doubles.
//!
//! Files are deleted only after the one that holds all their rows was put, the merged ones first: so whatever is cut off leaves
//! fresh files, and with them a reason to merge again. No file is ever changed, since its name is a digest of its rows; so two
//! controllers that merge the same hour at once, one of them long after it lost the office, cannot lose a row: each of them
//! deletes only what is in its own file. Assumes that the rows of one table in one hour fit into memory. Read next: `task.rs`.

use bytes::Bytes;
use model::{Span, Time};
use tokio::task::{JoinError, JoinSet, spawn_blocking};

use crate::file;
use crate::name::{Partition, Stage};
use crate::place::{self, IN_FLIGHT, Place};
use crate::rows::{Dropped, Rows};
use crate::table::Table;

/// How long after its end an hour is merged: two passes, which come every 5 minutes.
pub const GRACE: Span = Span::minutes(10);
/// Rows of one table and hour that are merged; at 160 bytes each, twice while they are sorted, 1.3 GB. A module makes about 600 rows
/// of energy in an hour, so 6,600 modules. A larger hour stays in its small files.
pub const MAX_ROWS: usize = 4_000_000;

/// Why an hour was not merged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The place failed: worth another try.
    #[error(transparent)]
    Place(#[from] place::Error),
    /// A file is not what was written.
    #[error("the archive's file {path} cannot be merged; its hour stays in small files: move it away")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: file::Error,
    },
    /// More rows than fit.
    #[error("{folder} has more than {limit} rows and stays in small files")]
    TooLarge {
        /// Which hour.
        folder: String,
        /// How many would have fitted.
        limit: usize,
    },
    /// A file on which the reader panicked.
    #[error("the reader of the archive's files panicked; report this with the log")]
    Panicked(#[from] JoinError),
}

/// One hour after it was put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Its file; `None` where there was nothing to merge.
    pub path: Option<String>,
    /// How many rows it has.
    pub rows: usize,
    /// What was left out.
    pub dropped: Dropped,
    /// What is in it, and may go: merged files first.
    pub gone: Vec<String>,
}

/// The hours that are over and have small files, oldest first within a table.
pub async fn due(place: &Place, now: Time) -> Result<Vec<Partition>, Error> {
    let mut due = Vec::new();
    for table in Table::ALL {
        let of_table = format!("{}/{}", Stage::Fresh.name(), table.name());
        for date in place.folders(&of_table).await? {
            for hour in place.folders(&format!("{of_table}/{date}")).await? {
                let over = |partition: &Partition| partition.hour + Span::hours(1) + GRACE <= now;
                due.extend(Partition::parse(table, &date, &hour).filter(over));
            }
        }
    }
    Ok(due)
}

/// Puts an hour together. Deletes nothing.
pub async fn merge(place: &Place, partition: &Partition, limit: usize) -> Result<Merged, Error> {
    let mut inputs = place.list(&partition.folder(Stage::Hour)).await?;
    inputs.extend(place.list(&partition.folder(Stage::Fresh)).await?);
    inputs.retain(|path| path.ends_with(".parquet"));
    let mut rows = Rows::new(partition.table);
    let mut read = Vec::new();
    for paths in inputs.chunks(IN_FLIGHT) {
        let files = get(place, paths).await?;
        read.extend(files.iter().map(|(path, _)| path.clone()));
        rows = add(rows, files).await?;
        if rows.len() > limit {
            return Err(Error::TooLarge { folder: partition.folder(Stage::Fresh), limit });
        }
    }
    if rows.is_empty() {
        return Ok(Merged { path: None, rows: 0, dropped: Dropped::default(), gone: read });
    }
    let (digest, bytes, count, dropped) = spawn_blocking(move || {
        let (sorted, dropped) = rows.sorted();
        drop(rows);
        file::encode(&sorted).map(|bytes| (sorted.digest(), bytes, sorted.len(), dropped))
    })
    .await?
    .map_err(|source| Error::File { path: partition.folder(Stage::Hour), source })?;
    let path = partition.merged(&digest);
    place.put(&path, bytes.into()).await?;
    let gone = read.into_iter().filter(|input| *input != path).collect();
    Ok(Merged { path: Some(path), rows: count, dropped, gone })
}

/// Deletes what was merged.
pub async fn clear(place: &Place, merged: &Merged) -> Result<(), Error> {
    Ok(place.delete(&merged.gone).await?)
}

/// Files that are there. One that is gone was merged by somebody else, into a file that the next turn finds.
async fn get(place: &Place, paths: &[String]) -> Result<Vec<(String, Bytes)>, Error> {
    let mut reads = JoinSet::new();
    for path in paths.iter().cloned() {
        let place = place.clone();
        reads.spawn(async move { place.get(&path).await.map(|found| (path, found)) });
    }
    let mut files = Vec::new();
    while let Some(read) = reads.join_next().await {
        let (path, found) = read??;
        files.extend(found.map(|bytes| (path, bytes)));
    }
    // Merged ones first, as they were listed: they are the first to be deleted.
    files.sort_by_key(|(path, _)| paths.iter().position(|listed| listed == path));
    Ok(files)
}

async fn add(mut rows: Rows, files: Vec<(String, Bytes)>) -> Result<Rows, Error> {
    let decode = move || {
        for (path, bytes) in files {
            let read = file::decode(rows.table(), bytes);
            rows.append(&read.map_err(|source| Error::File { path, source })?);
        }
        Ok(rows)
    };
    spawn_blocking(decode).await?
}

#[cfg(test)]
mod tests;
