//! One pass: segments that are not archived yet become small files, one for each hour, table and stretch of a module.
//!
//! At most one stretch is in memory. Files first, then the state: a pass that is cut off, or repeated, writes files of the same
//! names or rows of the same keys. A segment that cannot be read holds up its module alone. Read next: `merge.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model::ModuleId;
use model::ledger::Segment;
use tokio::task::{JoinError, JoinSet, spawn_blocking};

use crate::ledger::{Failed, Ledger};
use crate::place::{self, IN_FLIGHT, Place};
use crate::progress::Lag;
use crate::state::{self, State};
use crate::{file, lines};

/// Segments of one module that are read and written together: two hours at one every 30 s; some 20 lines of 200 bytes each make
/// it 1 MB in memory.
const STRETCH: u64 = 240;
/// After so many stretches the state is saved, and at the end. What lies between is archived twice after a crash.
const SAVE_EVERY: u64 = 64;

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The place did not take a file.
    #[error(transparent)]
    Place(#[from] place::Error),
    /// The state was not written.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Rows did not become a file.
    #[error("the file {path} could not be made")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: file::Error,
    },
    /// A defect of ours.
    #[error("a worker of the archive panicked; report this with the log")]
    Panicked(#[from] JoinError),
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Segments that are archived now.
    pub segments: u64,
    /// Files that were written.
    pub files: u64,
    /// Modules that have a segment which cannot be read.
    pub held_up: u64,
}

/// What is archived from.
#[derive(Clone)]
pub struct Source {
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Where the state lies.
    pub state: PathBuf,
}

/// Files of one stretch.
struct Stretch {
    first: u64,
    last: u64,
    files: Vec<(String, Bytes)>,
}

enum Read {
    Stretch(Stretch),
    Done,
    HeldUp(Failed),
}

/// Archives what is not archived yet. What was done before an error stays done.
pub async fn pass(place: &Place, source: &Source, state: &mut State) -> Result<Passed, Error> {
    let before = state.clone();
    let outcome = run(place, source, state).await;
    if *state != before {
        save(state, &source.state).await?;
    }
    outcome
}

/// What waits.
pub fn lag(ledger: &dyn Ledger, state: &State) -> Lag {
    Lag::between(ledger.kept(), &state.archived)
}

async fn run(place: &Place, source: &Source, state: &mut State) -> Result<Passed, Error> {
    let mut passed = Passed::default();
    let mut stretches = 0;
    let ledger = source.ledger.clone();
    for (module, last) in spawn_blocking(move || ledger.kept()).await? {
        loop {
            let archived = state.archived.get(&module).copied().unwrap_or(0);
            if archived >= last {
                break;
            }
            let (ledger, of) = (source.ledger.clone(), module.clone());
            match spawn_blocking(move || read(ledger.as_ref(), &of, archived)).await?? {
                Read::Stretch(stretch) => {
                    passed.segments += stretch.last - stretch.first + 1;
                    passed.files += stretch.files.len() as u64;
                    put(place, stretch.files).await?;
                    state.archived.insert(module.clone(), stretch.last);
                }
                Read::Done => break,
                Read::HeldUp(error) => {
                    tracing::error!(%module, after = archived, error = &*error as &dyn std::error::Error, "a ledger segment cannot be read, its module is not archived further");
                    passed.held_up += 1;
                    break;
                }
            }
            stretches += 1;
            if stretches % SAVE_EVERY == 0 {
                save(state, &source.state).await?;
            }
        }
    }
    Ok(passed)
}

/// The files of a module's next stretch. Blocks on the disk.
fn read(ledger: &dyn Ledger, module: &ModuleId, after: u64) -> Result<Read, Error> {
    let (first, last) = match ledger.stretch(module, after, STRETCH) {
        Ok(Some(stretch)) => stretch,
        Ok(None) => return Ok(Read::Done),
        Err(error) => return Ok(Read::HeldUp(error)),
    };
    let mut segments: Vec<Segment> = Vec::new();
    let mut why = None;
    for sequence in first..=last {
        match ledger.read(module, sequence) {
            Ok(segment) => segments.push(segment),
            Err(error) => {
                why = Some(error);
                break;
            }
        }
    }
    // What lies before one that cannot be read is archived; the next turn begins with that one.
    let last = match (segments.last(), why) {
        (None, Some(why)) => return Ok(Read::HeldUp(why)),
        (None, None) => return Ok(Read::Done),
        (Some(segment), _) => segment.sequence,
    };
    let mut files = Vec::new();
    for (partition, rows) in lines::rows(&segments) {
        let path = partition.fresh(module, first, last);
        let bytes = file::encode(&rows).map_err(|source| Error::File { path: path.clone(), source })?;
        files.push((path, Bytes::from(bytes)));
    }
    Ok(Read::Stretch(Stretch { first, last, files }))
}

async fn put(place: &Place, files: Vec<(String, Bytes)>) -> Result<(), Error> {
    let mut writes = JoinSet::new();
    for (path, bytes) in files {
        if writes.len() == IN_FLIGHT {
            writes.join_next().await.transpose()?.transpose()?;
        }
        let place = place.clone();
        writes.spawn(async move { place.put(&path, bytes).await });
    }
    while let Some(written) = writes.join_next().await {
        written??;
    }
    Ok(())
}

async fn save(state: &State, path: &Path) -> Result<(), Error> {
    let (state, path) = (state.clone(), path.to_owned());
    Ok(spawn_blocking(move || state.save(&path)).await??)
}

#[cfg(test)]
mod tests;
