//! Watch on the embedded twin: a cursor into the shared history, with no buffer of its own.
//!
//! Assumes: the history is bounded (see `writer.rs`), so a reader that is slow finds its place thrown away one
//! day and gets a snapshot; it costs no memory meanwhile.
//! Read next: `state.rs`.

use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use super::state::Shared;
use crate::error::Error;
use crate::key::Prefix;
use crate::port::Revision;
use crate::watch::{Commit, WatchEvent};

/// Where one watch stands.
#[derive(Debug)]
pub struct Follow {
    shared: Arc<Shared>,
    news: watch::Receiver<Revision>,
    prefix: Prefix,
    /// The next revision to read; `None` means a snapshot comes first.
    next: Option<Revision>,
}

impl Follow {
    pub(super) fn new(shared: Arc<Shared>, prefix: Prefix, from: Option<Revision>) -> Self {
        let news = shared.revision.clone();
        Self { shared, news, prefix, next: from }
    }

    pub(crate) async fn next(&mut self) -> Result<WatchEvent, Error> {
        loop {
            // Marked as seen before looking, so that a commit in between wakes us again.
            self.news.borrow_and_update();
            self.shared.check_running()?;
            if let Some(event) = self.look()? {
                return Ok(event);
            }
            if self.news.changed().await.is_err() {
                return Err(self.shared.stopped_error());
            }
        }
    }

    fn look(&mut self) -> Result<Option<WatchEvent>, Error> {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(from) = self.next
            && let Ok(commits) = state.commits_from(from)
        {
            let found = commits.filter_map(|commit| cut(commit, &self.prefix)).next();
            let seen = found.as_ref().map_or(state.revision(), |commit| commit.revision);
            // A start in the future stays where it is until the store gets there.
            self.next = Some(from.max(seen.next()));
            return Ok(found.map(WatchEvent::Commit));
        }
        let range = state.range(&self.prefix)?;
        self.next = Some(range.revision.next());
        Ok(Some(WatchEvent::Snapshot(range)))
    }
}

/// What a commit changed under the prefix, if anything.
fn cut(commit: &Commit, prefix: &Prefix) -> Option<Commit> {
    let changes: Vec<_> =
        commit.changes.iter().filter(|change| prefix.covers(change.key())).cloned().collect();
    (!changes.is_empty()).then_some(Commit { revision: commit.revision, changes })
}
