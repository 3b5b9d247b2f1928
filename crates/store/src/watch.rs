//! Watch: what changed under a prefix, revision by revision.
//!
//! Assumes: the reader keeps a copy of what it read; a snapshot replaces the copy, a commit is applied to it.
//! Nothing is buffered without bound: a reader that falls too far behind gets a snapshot.
//! Read next: `embedded/follow.rs`, `etcd/follow.rs`.

use crate::embedded;
use crate::error::Error;
use crate::key::Key;
use crate::port::{Entry, Range, Revision};

/// What a watch delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Everything under the prefix as of a revision: forget what you knew. Commits follow from the next one.
    Snapshot(Range),
    /// All that one revision changed under the prefix.
    Commit(Commit),
}

impl WatchEvent {
    /// The revision up to which the reader now knows everything.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Snapshot(range) => range.revision,
            Self::Commit(commit) => commit.revision,
        }
    }
}

/// The changes of one revision, in the order in which the transaction made them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub revision: Revision,
    pub changes: Vec<Change>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put(Entry),
    Delete(Key),
}

impl Change {
    /// The key that changed.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete(key) => key,
        }
    }
}

/// A watch in progress; ends when dropped.
#[derive(Debug)]
pub struct Watch(Source);

#[derive(Debug)]
enum Source {
    Embedded(embedded::Follow),
    #[cfg(feature = "etcd")]
    Etcd(crate::etcd::Follow),
}

impl Watch {
    pub(crate) fn embedded(follow: embedded::Follow) -> Self {
        Self(Source::Embedded(follow))
    }

    #[cfg(feature = "etcd")]
    pub(crate) fn etcd(follow: crate::etcd::Follow) -> Self {
        Self(Source::Etcd(follow))
    }

    /// Waits for the next event. Dropping the future loses nothing. An error is final: lost connections are
    /// healed inside, so only a closed or stopped store and a prefix beyond the range limits end a watch.
    pub async fn next(&mut self) -> Result<WatchEvent, Error> {
        match &mut self.0 {
            Source::Embedded(follow) => follow.next().await,
            #[cfg(feature = "etcd")]
            Source::Etcd(follow) => follow.next().await,
        }
    }
}
