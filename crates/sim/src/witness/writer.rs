//! Invariant 4, one writer: commits form one chain in store order, leaders never go back, agents never follow a lower fence.
//!
//! Commits are judged ten seconds after they were seen, in the order of the store's revisions, since two controllers tell of
//! theirs in any order. A restore raises the epoch and may begin another chain. Read next: [`super::determinism`].

use std::collections::BTreeMap;

use model::envelope::{Directive, Fence};
use model::{ModuleId, Span, Time};

use super::book::{Book, Fault, Invariant};

/// Commits are held back so long before they are judged.
const HELD_BACK: Span = Span::secs(10);
/// Most commits held back; a controller plans once a second at most.
const MAX_PENDING: usize = 64;

/// A committed plan, as the store shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitSeen {
    /// The plan's number.
    pub generation: u64,
    /// The plan it replaces.
    pub parent: Option<u64>,
    /// Create revision of the leader's key.
    pub leader: u64,
    /// The store's epoch.
    pub epoch: u64,
    /// The store's revision of the commit.
    pub store_revision: i64,
    /// When it was seen, simulated time.
    pub at: Time,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Writer {
    fences: BTreeMap<ModuleId, (Fence, u64)>,
    /// By epoch and store revision: a restored store counts its revisions anew.
    pending: BTreeMap<(u64, i64), CommitSeen>,
    last: Option<CommitSeen>,
}

impl Writer {
    /// An agent has adopted a directive.
    pub(super) fn adopted(&mut self, module: &ModuleId, at: Time, directive: &Directive, book: &mut Book) {
        let new = directive.envelope.precedence();
        let old = self.fences.insert(module.clone(), new);
        let fault = old.filter(|old| new < *old).map(|old| {
            let (fence, generation) = old;
            let what =
                format!("adopted {:?} generation {} after {fence:?} generation {generation}", new.0, new.1);
            Fault::new(format!("module {module}"), what)
        });
        book.check(Invariant::Writer, at, fault);
    }

    pub(super) fn commit(&mut self, commit: CommitSeen, book: &mut Book) {
        let key = (commit.epoch, commit.store_revision);
        let same = self.pending.get(&key).copied().or(self.last.filter(|last| key == order(last)));
        if let Some(same) = same {
            let told_again = CommitSeen { at: same.at, ..commit } == same;
            let what = || format!("two plans were committed at store revision {}", commit.store_revision);
            let fault = (!told_again).then(|| Fault::new(subject(&commit), what()));
            book.check(Invariant::Writer, commit.at, fault);
            return;
        }
        self.pending.insert(key, commit);
        self.settle(commit.at - HELD_BACK, book);
    }

    pub(super) fn finish(&mut self, book: &mut Book) {
        self.settle(Time(i64::MAX), book);
    }

    /// Judges those that were seen at or before `until`.
    fn settle(&mut self, until: Time, book: &mut Book) {
        while let Some(entry) = self.pending.first_entry() {
            if entry.get().at > until && self.pending.len() <= MAX_PENDING {
                return;
            }
            let Some((_, next)) = self.pending.pop_first() else { return };
            let fault = self.last.and_then(|last| fault(&last, &next));
            let fault = fault.map(|what| Fault::new(subject(&next), what));
            book.check(Invariant::Writer, next.at, fault);
            self.last = Some(next);
        }
    }
}

fn order(commit: &CommitSeen) -> (u64, i64) {
    (commit.epoch, commit.store_revision)
}

fn subject(commit: &CommitSeen) -> String {
    format!("plan {}", commit.generation)
}

/// What is wrong with `next` after `last`.
fn fault(last: &CommitSeen, next: &CommitSeen) -> Option<String> {
    if order(next) < order(last) {
        return Some(format!(
            "committed at {:?}, before {:?} that was judged already",
            order(next),
            order(last)
        ));
    }
    if next.epoch > last.epoch {
        return None;
    }
    if next.leader < last.leader {
        return Some(format!("leader {} committed after leader {}", next.leader, last.leader));
    }
    if next.parent != Some(last.generation) {
        return Some(format!("its parent is {:?}, but plan {} was in force", next.parent, last.generation));
    }
    (next.generation <= last.generation)
        .then(|| format!("its number is not above its parent's, {}", last.generation))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    /// Commits of (generation, parent, leader, epoch, store revision), one a second: whom to blame.
    fn check_commits(commits: &[(u64, u64, u64, u64, i64)], blamed: &[&str]) {
        let mut witness = witness();
        for (second, (generation, parent, leader, epoch, store_revision)) in (0..).zip(commits) {
            witness.commit(CommitSeen {
                generation: *generation,
                parent: Some(*parent),
                leader: *leader,
                epoch: *epoch,
                store_revision: *store_revision,
                at: at(second),
            });
        }
        check(&witness.finish(), 4, blamed);
    }

    #[test]
    fn commits_form_one_chain_in_store_order() {
        check_commits(&[(1, 0, 5, 1, 10), (2, 1, 5, 1, 11), (3, 2, 9, 1, 14)], &[]);
        check_commits(&[(1, 0, 5, 1, 10), (3, 2, 9, 1, 14), (2, 1, 5, 1, 11)], &[]);
        check_commits(&[(1, 0, 5, 1, 10), (1, 0, 5, 1, 10), (2, 1, 5, 1, 11)], &[]);
        check_commits(&[(8, 7, 5, 1, 10), (3, 2, 4, 2, 2)], &[]);
        check_commits(&[(1, 0, 5, 1, 10), (2, 1, 5, 1, 11), (2, 1, 9, 1, 14)], &["plan 2"]);
        check_commits(&[(1, 0, 9, 1, 10), (2, 1, 5, 1, 11)], &["plan 2"]);
        check_commits(&[(4, 0, 5, 1, 10), (4, 4, 5, 1, 11)], &["plan 4"]);
        check_commits(&[(1, 0, 5, 1, 10), (7, 0, 5, 1, 10)], &["plan 7"]);
    }

    #[test]
    fn an_agent_that_follows_a_lower_fence_fires() {
        let module = module_id();
        let adopt = |generations: &[u64]| {
            let mut witness = settled();
            for generation in generations {
                let directive = directive(&module, *generation, (300, 100), 1);
                witness.directive(&module, at(1), &boot(1), &directive);
            }
            witness.finish()
        };
        check(&adopt(&[2, 2, 3]), 4, &[]);
        check(&adopt(&[3, 2]), 4, &[&format!("module {module}")]);
    }
}
