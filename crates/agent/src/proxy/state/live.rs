//! A session with a pool that is there, and the lines that wait to be written to it: blocks before everything else.
//!
//! Assumes one task that is told by `wake` and takes what waits, again and again; a block that is found meanwhile stands before the
//! rest of what it takes next. Next: `pool.rs`, which opens and closes it; `../upstream.rs`, the task.

use std::sync::Arc;

use stratum::job::Slice;
use stratum::upstream::{Outgoing, ShareRef, SubmitError, Upstream};
use tokio::sync::Notify;

/// Bytes that wait to be written to a pool: 1,024 lines of 150 bytes, ten seconds at a hundred shares a second, after which
/// writing has timed out; and some more for long names.
pub(super) const MAX_WAITING: usize = 256 << 10;
/// Bytes of them that are handed out at once, a hundred lines: a block that is found meanwhile waits for no more than these.
const AT_ONCE: usize = 16 << 10;

pub(super) struct Live {
    pub(super) upstream: Upstream,
    /// Lines to be written to the pool, at most [`MAX_WAITING`] bytes.
    waiting: String,
    /// Lines of blocks, to be written before those; as many at most.
    blocks: String,
    /// Told when there are any.
    wake: Arc<Notify>,
    /// The slices that begin with the session's next job.
    pub(super) fresh: Option<Slice>,
    /// The session's own slice, which its jobs are for.
    pub(super) slice: Option<Slice>,
    pub(super) opened_ms: u64,
}

impl Live {
    pub(super) fn new(upstream: Upstream, wake: Arc<Notify>, opened_ms: u64) -> Live {
        let (waiting, blocks) = (String::new(), String::new());
        Live { upstream, waiting, blocks, wake, fresh: None, slice: None, opened_ms }
    }

    /// Puts a share's line behind those of its kind that wait, and sees that they are written.
    pub(super) fn send(
        &mut self,
        share: ShareRef,
        outgoing: &Outgoing,
        mono_ms: u64,
    ) -> Result<(), SubmitError> {
        let nothing_waited = self.waiting.is_empty() && self.blocks.is_empty();
        let lines = if outgoing.block { &mut self.blocks } else { &mut self.waiting };
        let before = lines.len();
        self.upstream.submit_to(lines, mono_ms, share, outgoing)?;
        if lines.len() > MAX_WAITING {
            // This pool does not read: the share waits for the timeout, and so does the connection.
            lines.truncate(before);
        }
        if nothing_waited {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Moves lines into `out`, which is empty: all blocks, and of the others no more than [`AT_ONCE`]. Whoever takes is woken
    /// again where some are left.
    pub(super) fn take(&mut self, out: &mut String) {
        if self.blocks.is_empty() && self.waiting.len() <= AT_ONCE {
            std::mem::swap(&mut self.waiting, out);
            return;
        }
        out.push_str(&self.blocks);
        self.blocks.clear();
        let most = self.waiting.len().min(AT_ONCE);
        let last = self.waiting.as_bytes()[..most].iter().rposition(|byte| *byte == b'\n');
        // No line is as long; one that were would go whole.
        let end = last.map_or(self.waiting.len(), |at| at + 1);
        out.push_str(&self.waiting[..end]);
        self.waiting.drain(..end);
        if !self.waiting.is_empty() {
            self.wake.notify_one();
        }
    }
}
