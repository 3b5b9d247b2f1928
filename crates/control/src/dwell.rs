//! Dwell: how many miners of a group may be reversed by choice now.
//!
//! It assumes what [`crate::port::Command::SetMiners`] promises: of those asleep the one that slept longest is woken, and of
//! those awake the one that was awake longest is put to sleep. So two queues of batches know each miner's last reversal.

use std::collections::VecDeque;

use model::Span;

/// Most batches in a queue. Regulation makes at most one a second, and those older than the dwell merge into one: a usual dwell
/// of 300 s needs 301. Beyond that the newest two merge at the newer time, which errs on the side of waiting.
const MAX_BATCHES: usize = 320;

/// The reversals of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dwell {
    dwell: Span,
    // Invariant: oldest first; counts are above zero; both together hold each miner once.
    awake: VecDeque<Batch>,
    asleep: VecDeque<Batch>,
    raised: Option<Span>,
    lowered: Option<Span>,
}

/// Miners that reversed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    count: u32,
    // `None` = so long ago that it does not matter.
    since: Option<Span>,
}

impl Dwell {
    /// A group as it is found. `since` is when each miner may have reversed last: `None` for long ago.
    pub fn new(dwell: Span, awake: u32, asleep: u32, since: Option<Span>) -> Self {
        let queue = |count| (count > 0).then_some(Batch { count, since }).into_iter().collect();
        Self { dwell, awake: queue(awake), asleep: queue(asleep), raised: since, lowered: since }
    }

    /// How many may be woken by choice.
    pub fn may_wake(&self, at: Span) -> u32 {
        self.free(&self.asleep, at)
    }

    /// How many may be put to sleep by choice. A miner whose operating point was just raised has reversed too.
    pub fn may_sleep(&self, at: Span) -> u32 {
        if self.is_over(self.raised, at) { self.free(&self.awake, at) } else { 0 }
    }

    /// Whether the operating point of those awake may be raised by choice.
    pub fn may_raise(&self, at: Span) -> bool {
        self.is_over(self.lowered, at)
    }

    /// Whether it may be lowered by choice: nobody awake was woken or raised within the dwell.
    pub fn may_lower(&self, at: Span) -> bool {
        self.is_over(self.raised, at) && self.awake.iter().all(|batch| self.is_over(batch.since, at))
    }

    /// Records that `count` miners were woken.
    pub fn wake(&mut self, count: u32, at: Span) {
        let moved = take(&mut self.asleep, count);
        push(&mut self.awake, moved, at);
        self.merge(at);
    }

    /// Records that `count` miners were put to sleep, by choice or not.
    pub fn sleep(&mut self, count: u32, at: Span) {
        let moved = take(&mut self.awake, count);
        push(&mut self.asleep, moved, at);
        self.merge(at);
    }

    /// Records that the operating point was raised.
    pub fn raise(&mut self, at: Span) {
        self.raised = Some(at);
    }

    /// Records that the operating point was lowered, by choice or not.
    pub fn lower(&mut self, at: Span) {
        self.lowered = Some(at);
    }

    fn is_over(&self, since: Option<Span>, at: Span) -> bool {
        since.is_none_or(|since| at - since >= self.dwell)
    }

    fn free(&self, queue: &VecDeque<Batch>, at: Span) -> u32 {
        queue.iter().take_while(|batch| self.is_over(batch.since, at)).map(|batch| batch.count).sum()
    }

    /// Merges the batches whose dwell is over, and bounds the queues.
    fn merge(&mut self, at: Span) {
        let dwell = self.dwell;
        for queue in [&mut self.awake, &mut self.asleep] {
            let over = |batch: &Batch| batch.since.is_none_or(|since| at - since >= dwell);
            while queue.len() > 1 && over(&queue[0]) && over(&queue[1]) {
                let first = queue.pop_front().map_or(0, |batch| batch.count);
                queue[0] = Batch { count: queue[0].count + first, since: None };
            }
            while queue.len() > MAX_BATCHES {
                let newest = queue.pop_back();
                if let (Some(newest), Some(last)) = (newest, queue.back_mut()) {
                    *last = Batch { count: last.count + newest.count, since: newest.since };
                }
            }
        }
    }
}

/// Takes up to `count` from the front and returns how many there were.
fn take(queue: &mut VecDeque<Batch>, count: u32) -> u32 {
    let mut left = count;
    while left > 0 {
        let Some(front) = queue.front_mut() else { break };
        let taken = front.count.min(left);
        front.count -= taken;
        left -= taken;
        if front.count == 0 {
            queue.pop_front();
        }
    }
    count - left
}

fn push(queue: &mut VecDeque<Batch>, count: u32, at: Span) {
    match queue.back_mut() {
        _ if count == 0 => {}
        Some(last) if last.since == Some(at) => last.count += count,
        _ => queue.push_back(Batch { count, since: Some(at) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DWELL: Span = Span::secs(300);

    #[test]
    fn a_group_found_long_at_rest_is_free() {
        let dwell = Dwell::new(DWELL, 4, 6, None);
        assert_eq!((dwell.may_sleep(Span::ZERO), dwell.may_wake(Span::ZERO)), (4, 6));
        assert!(dwell.may_raise(Span::ZERO) && dwell.may_lower(Span::ZERO));
    }

    #[test]
    fn a_group_of_unknown_past_waits_a_whole_dwell() {
        let dwell = Dwell::new(DWELL, 4, 6, Some(Span::secs(10)));
        assert_eq!((dwell.may_sleep(Span::secs(309)), dwell.may_wake(Span::secs(309))), (0, 0));
        assert_eq!((dwell.may_sleep(Span::secs(310)), dwell.may_wake(Span::secs(310))), (4, 6));
    }

    #[test]
    fn each_batch_waits_for_itself() {
        let mut dwell = Dwell::new(DWELL, 0, 10, None);
        dwell.wake(3, Span::secs(0));
        dwell.wake(2, Span::secs(100));
        assert_eq!(dwell.may_wake(Span::secs(100)), 5, "those still asleep are free");
        assert_eq!(dwell.may_sleep(Span::secs(299)), 0);
        assert_eq!(dwell.may_sleep(Span::secs(300)), 3);
        assert_eq!(dwell.may_sleep(Span::secs(400)), 5);
        dwell.sleep(4, Span::secs(400));
        assert_eq!(dwell.may_wake(Span::secs(400)), 5, "the four that just fell asleep wait");
        assert_eq!(dwell.may_wake(Span::secs(700)), 9);
    }

    #[test]
    fn points_and_sleep_are_one_direction() {
        let mut dwell = Dwell::new(DWELL, 5, 0, None);
        dwell.raise(Span::secs(0));
        assert_eq!(dwell.may_sleep(Span::secs(10)), 0, "raised, so putting to sleep would reverse");
        assert!(!dwell.may_lower(Span::secs(10)) && dwell.may_raise(Span::secs(10)));
        dwell.lower(Span::secs(400));
        assert!(!dwell.may_raise(Span::secs(500)) && dwell.may_lower(Span::secs(500)));
    }

    #[test]
    fn the_queues_stay_bounded() {
        let mut dwell = Dwell::new(Span::hours(10), 0, 5_000, None);
        (0..2_000).for_each(|second| dwell.wake(2, Span::secs(second)));
        assert!(dwell.awake.len() <= MAX_BATCHES);
        assert_eq!(dwell.awake.iter().map(|batch| batch.count).sum::<u32>(), 4_000);
        assert_eq!(dwell.may_sleep(Span::hours(11)), 4_000);
    }
}
