//! Watch on etcd: a task that keeps the stream alive, and a bounded buffer between it and the reader.
//!
//! Whatever breaks, the task resumes after the last revision it delivered; where that is no longer possible
//! (compacted, a server that went back in time, a reader that is too slow) it sends a snapshot.
//!
//! Assumes: a response holds whole revisions (no fragments are asked for). A watch from the very revision of a
//! compaction may miss its deletions without a word, so the stream is opened one revision earlier than needed:
//! etcd then refuses it exactly when something may be missing.
//! Read next: `etcd.rs`.

use std::time::Duration;

use etcd_client::{WatchOptions, WatchResponse, WatchStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Handle;
use super::convert;
use crate::error::Error;
use crate::key::Prefix;
use crate::port::Revision;
use crate::watch::{Commit, WatchEvent};

/// Commits between the stream and the reader: 64 of the largest are 96 MiB, 64 usual ones 64 KiB.
const BUFFER: usize = 64;
/// A reader that leaves the buffer full for so long is slow and gets a snapshot later.
const PATIENCE: Duration = Duration::from_secs(1);
/// First pause after a broken stream; doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// The reader's end of a watch.
#[derive(Debug)]
pub struct Follow {
    events: mpsc::Receiver<Result<WatchEvent, Error>>,
    task: JoinHandle<()>,
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follow {
    pub(super) fn start(handle: Handle, prefix: Prefix, from: Option<Revision>) -> Self {
        let (sender, events) = mpsc::channel(BUFFER);
        let follower =
            Follower { handle, prefix, sender, next: from, delivered: Revision(0), pause: FIRST_PAUSE };
        Self { events, task: tokio::spawn(follower.run()) }
    }

    pub(crate) async fn next(&mut self) -> Result<WatchEvent, Error> {
        let ended = || Error::Unavailable { what: "this watch has ended".into(), source: None };
        self.events.recv().await.ok_or_else(ended)?
    }
}

struct Follower {
    handle: Handle,
    prefix: Prefix,
    sender: mpsc::Sender<Result<WatchEvent, Error>>,
    /// The next revision to deliver; `None` means a snapshot comes first.
    next: Option<Revision>,
    /// The newest revision that the server has shown us.
    delivered: Revision,
    pause: Duration,
}

/// Why a stream was left.
enum End {
    /// Nobody reads any more.
    Closed,
    /// Nothing will help.
    Final(Error),
    /// Something may be missing.
    Relist(&'static str),
    /// Resume where we were.
    Broken(String),
    /// The same, after a call that failed: the log has it already.
    Unanswered(Error),
}

impl Follower {
    async fn run(mut self) {
        loop {
            let Err(end) = self.follow().await;
            match end {
                End::Closed => return,
                End::Final(error) => {
                    // The reader may be gone; then nobody needs to know.
                    let _ = self.sender.send(Err(error)).await;
                    return;
                }
                End::Relist(why) => {
                    tracing::info!(prefix = %self.prefix, why, "watch starts over with a snapshot");
                    self.next = None;
                }
                End::Broken(why) => tracing::warn!(prefix = %self.prefix, why, "watch interrupted, resuming"),
                End::Unanswered(error) => {
                    tracing::debug!(prefix = %self.prefix, %error, "watch not resumed yet")
                }
            }
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LAST_PAUSE);
        }
    }

    async fn follow(&mut self) -> Result<std::convert::Infallible, End> {
        let next = match self.next {
            Some(next) => next,
            None => self.snapshot().await?,
        };
        let mut stream = self.open(next).await?;
        loop {
            let message = stream.message().await.map_err(|error| End::Broken(error.to_string()))?;
            let response = message.ok_or_else(|| End::Broken("the server closed the stream".into()))?;
            check_alive(&response)?;
            self.pause = FIRST_PAUSE;
            self.deliver(&response).await?;
        }
    }

    async fn snapshot(&mut self) -> Result<Revision, End> {
        let range = match self.handle.range(&self.prefix).await {
            Ok(range) => range,
            Err(error @ (Error::Unavailable { .. } | Error::Compacted { .. })) => {
                return Err(End::Unanswered(error));
            }
            Err(error) => return Err(End::Final(error)),
        };
        let next = range.revision.next();
        self.delivered = range.revision;
        self.sender.send(Ok(WatchEvent::Snapshot(range))).await.map_err(|_| End::Closed)?;
        self.next = Some(next);
        Ok(next)
    }

    async fn open(&self, next: Revision) -> Result<WatchStream, End> {
        // 0 would mean "from now on".
        let start = next.0.saturating_sub(1).max(1);
        let options =
            WatchOptions::new().with_prefix().with_start_revision(convert::wire_revision(Revision(start)));
        let mut client = self.handle.0.watch.clone();
        let opening = async {
            let mut stream = client.watch(self.handle.0.wire.start(&self.prefix), Some(options)).await?;
            let created = stream.message().await?;
            Ok((stream, created))
        };
        let opened = self.handle.call(opening).await;
        let (stream, created) =
            opened.map_err(|failure| match failure.of_read(&self.handle.0.endpoints) {
                error @ Error::Unavailable { .. } => End::Unanswered(error),
                error => End::Broken(error.to_string()),
            })?;
        let created = created.ok_or_else(|| End::Broken("the server closed the stream".into()))?;
        check_alive(&created)?;
        let newest = convert::revision(created.header().map_or(0, |header| header.revision()));
        // Restored from an older copy, or a member that lags: either way a linearised snapshot is the truth.
        if newest < self.delivered {
            return Err(End::Relist("the server went back to an earlier revision"));
        }
        Ok(stream)
    }

    async fn deliver(&mut self, response: &WatchResponse) -> Result<(), End> {
        for commit in self.commits(response)? {
            let next = commit.revision.next();
            self.delivered = commit.revision;
            match self.sender.send_timeout(Ok(WatchEvent::Commit(commit)), PATIENCE).await {
                Ok(()) => self.next = Some(next),
                Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                    return Err(End::Relist("the reader is slow"));
                }
                Err(mpsc::error::SendTimeoutError::Closed(_)) => return Err(End::Closed),
            }
        }
        Ok(())
    }

    /// The events of a response by revision, without those that were delivered before.
    fn commits(&self, response: &WatchResponse) -> Result<Vec<Commit>, End> {
        let mut commits: Vec<Commit> = Vec::new();
        for event in response.events() {
            let (revision, change) = self.handle.0.wire.change(event).map_err(End::Final)?;
            if self.next.is_some_and(|next| revision < next) {
                continue;
            }
            match commits.last_mut() {
                Some(commit) if commit.revision == revision => commit.changes.push(change),
                _ => commits.push(Commit { revision, changes: vec![change] }),
            }
        }
        Ok(commits)
    }
}

/// A cancelled watch keeps its stream open and silent, often without a reason.
fn check_alive(response: &WatchResponse) -> Result<(), End> {
    if !response.canceled() {
        return Ok(());
    }
    match response.cancel_reason() {
        reason if response.compact_revision() > 0 || reason.is_empty() => Err(End::Relist("compacted")),
        reason => Err(End::Broken(reason.to_owned())),
    }
}
