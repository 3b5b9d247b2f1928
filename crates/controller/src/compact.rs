//! The leader throws away the store's old history, so that an etcd does not grow for ever.
//!
//! Every five minutes it compacts to the revision that it saw five minutes before: a watch that was away for less resumes where
//! it was, one that was away for longer starts over with a snapshot. Idempotent: who leads next goes on. History is all that goes.
//!
//! Assumes that nobody asks for a past revision. An etcd that several installations share is compacted by each of their leaders;
//! what one has compacted already is no error. Read next: `leader.rs`.

use std::convert::Infallible;
use std::time::Duration;

use store::{Error, Revision, Store, Txn};

/// How often, and at least how much history is kept: ten plans, and far more than the 8 s after which a silent connection is given
/// up and its watch resumes.
pub(crate) const WINDOW: Duration = Duration::from_secs(300);

/// Compacts for ever.
pub(crate) async fn run(store: Store) -> Infallible {
    let mut before = None;
    loop {
        step(&store, &mut before).await;
        tokio::time::sleep(WINDOW).await;
    }
}

/// Compacts to what the step before saw.
async fn step(store: &Store, before: &mut Option<Revision>) {
    match newest(store).await {
        Ok(newest) => {
            if let Some(before) = before.replace(newest) {
                compact(store, before).await;
            }
        }
        Err(error) => tracing::debug!(%error, "the store was not compacted, trying again later"),
    }
}

async fn newest(store: &Store) -> Result<Revision, Error> {
    Ok(store.txn(Txn::new()).await?.revision)
}

async fn compact(store: &Store, to: Revision) {
    match store.compact(to).await {
        Ok(()) => tracing::debug!(revision = to.0, "history compacted"),
        // Nothing was written since, or somebody else was faster.
        Err(Error::Compacted { .. }) => {}
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the store's history was not compacted, trying again in five minutes"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use store::{WatchEvent, key};

    use super::*;
    use crate::testing::TestDir;

    async fn put(store: &Store, plan: u64) -> Revision {
        store.txn(Txn::new().put(key::plan(plan), Vec::new())).await.unwrap().revision
    }

    /// Whether a watch that begins there sees the past.
    async fn replays(store: &Store, from: Revision) -> bool {
        matches!(store.watch(&key::plans(), Some(from)).next().await.unwrap(), WatchEvent::Commit(_))
    }

    #[tokio::test]
    async fn history_is_kept_for_one_step_and_gone_after_two() {
        let dir = TestDir::new("compact");
        let (store, mut before) = (dir.store(), None);
        let old = put(&store, 1).await;
        step(&store, &mut before).await;
        let recent = put(&store, 2).await;
        assert!(replays(&store, old).await, "the first step knows of nothing before it");
        step(&store, &mut before).await;
        assert!(!replays(&store, old).await);
        assert!(replays(&store, recent).await, "what came since the last step is kept");
        step(&store, &mut before).await;
        assert!(!replays(&store, recent).await);
        assert_eq!(store.range(&key::plans()).await.unwrap().entries.len(), 2, "the present stays whole");
    }

    #[tokio::test]
    async fn nothing_new_and_a_faster_neighbour_are_no_errors() {
        let dir = TestDir::new("compact-idle");
        let (store, mut before) = (dir.store(), None);
        let last = put(&store, 1).await;
        for _ in 0..3 {
            step(&store, &mut before).await;
        }
        assert_eq!(before, Some(last));
        assert!(matches!(store.compact(last).await, Err(Error::Compacted { .. })), "done by the second step");
    }
}
