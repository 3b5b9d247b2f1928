//! Watch on etcd: a task that keeps the stream alive, and a bounded buffer between it and the reader.
//!
//! Whatever breaks, the task resumes after the last revision it delivered; where that is no longer possible
//! (compacted, a server that went back in time, a reader that is too slow) it sends a snapshot.
//!
//! Assumes: a response holds whole revisions (no fragments are asked for). A watch from the very revision of a
//! compaction may miss its deletions without a word, so the stream is opened one revision earlier than needed:
//! etcd then refuses it exactly when something may be missing. Progress notifications are not asked for: before
//! 3.4.25 and 3.5.8 one can overtake the events before it, so a stream that resumed after it could have a gap. A
//! prefix that was quiet for longer than the history reaches back therefore costs one range when it resumes.
//! Read next: `etcd.rs`.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{WatchOptions, WatchResponse, WatchStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::member::Member;
use super::{Again, Handle, convert};
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
/// How etcd cancels a watch that it does not allow; up to 3.4.22 it says the first of a stale token too.
const DENIALS: [&str; 4] =
    ["permission denied", "user name is empty", "invalid auth token", "revision of auth store is old"];
/// What to do about a watch that is denied although the token is fresh.
const MAY_WATCH: &str = "give a user whose role may read and write the installation's prefix";

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
        let follower = Follower {
            handle,
            prefix,
            sender,
            next: from,
            delivered: Revision(0),
            pause: FIRST_PAUSE,
            denied: false,
        };
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
    /// Denied once already: signing in anew did not help.
    denied: bool,
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
    /// The token is not valid any more, or the user may not read this; etcd does not say which.
    Denied(Arc<Member>, String),
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
                End::Denied(member, why) => {
                    if self.denied || !member.forget().await {
                        let what =
                            format!("etcd lets us watch nothing under {}: {why}; {MAY_WATCH}", self.prefix);
                        let _ = self.sender.send(Err(Error::refused(what))).await;
                        return;
                    }
                    tracing::debug!(prefix = %self.prefix, why, "watch denied, signing in anew");
                    self.denied = true;
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
        self.denied = false;
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
        let key = self.handle.0.wire.start(&self.prefix);
        let opening = |member: Arc<Member>| {
            let (key, options) = (key.clone(), options.clone());
            async move {
                let mut stream = member.watch().watch(key, Some(options)).await?;
                let created = stream.message().await?;
                Ok((member, stream, created))
            }
        };
        let opened = self.handle.call(Again::Harmless, opening).await;
        let (member, stream, created) =
            opened.map_err(|failure| match failure.of_read(&self.handle.0.endpoints) {
                error @ Error::Unavailable { .. } => End::Unanswered(error),
                error => End::Final(error),
            })?;
        let created = created.ok_or_else(|| End::Broken("the server closed the stream".into()))?;
        let reason = created.cancel_reason();
        if created.canceled() && DENIALS.iter().any(|denial| reason.contains(denial)) {
            return Err(End::Denied(member, reason.to_owned()));
        }
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
