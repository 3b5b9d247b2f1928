//! Simulated time: one clock that the lockstep advances and everybody else waits on.
//!
//! A [`Participant`] is a loop whose decisions simulated time may not outrun: from the moment its sleep resolves until it
//! sleeps again, the clock stops `slack` behind that moment. Without it a controller that needs 50 ms of wall time would be
//! 5 s late at a hundred times real time, and a noisy machine would change the outcome.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use model::time::{Clock, Sleep};
use model::{Span, Time};

/// A cheap handle on one simulated clock.
#[derive(Clone)]
pub struct SimClock {
    shared: Arc<Shared>,
}

struct Shared {
    now: AtomicI64,
    /// The earliest `at` in `waits`, so that a step that wakes nobody takes no lock. `i64::MAX` = nobody waits.
    next_wake: AtomicI64,
    state: Mutex<State>,
    /// Told whenever a gate opens or goes.
    opened: Condvar,
}

struct State {
    waits: BTreeMap<(i64, u64), Waker>,
    next_wait: u64,
    /// How far each participant lets the clock go.
    gates: Vec<(u64, i64)>,
    next_gate: u64,
    /// Where the clock is held, if anywhere.
    hold: i64,
}

impl SimClock {
    /// A clock that stands at `start`.
    pub fn new(start: Time) -> Self {
        let shared = Shared {
            now: AtomicI64::new(start.millis()),
            next_wake: AtomicI64::new(i64::MAX),
            state: Mutex::new(State::new()),
            opened: Condvar::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A clock of the same time that this clock waits for: it stops `slack` after a sleep of the participant's resolved,
    /// until the participant sleeps again or is dropped. A participant that has not slept yet holds nobody.
    pub fn participant(&self, slack: Span) -> Participant {
        let mut state = self.shared.lock();
        let id = state.next_gate;
        state.next_gate += 1;
        state.gates.push((id, i64::MAX));
        Participant { clock: self.clone(), gate: Arc::new(Gate { shared: self.shared.clone(), id }), slack }
    }

    /// Stops the clock at `at`, whatever its participants say; `Time(i64::MAX)` lets it go again.
    pub fn hold_at(&self, at: Time) {
        self.shared.lock().hold = at.millis();
        self.shared.opened.notify_all();
    }

    /// Moves the clock to `to` and wakes whoever waited for it. Time never goes back: an earlier `to` changes nothing.
    pub fn advance(&self, to: Time) {
        if to.millis() <= self.shared.now.load(Ordering::SeqCst) {
            return;
        }
        self.shared.now.store(to.millis(), Ordering::SeqCst);
        if to.millis() < self.shared.next_wake.load(Ordering::SeqCst) {
            return;
        }
        let due = self.shared.lock().take_due(to.millis(), &self.shared.next_wake);
        due.into_iter().for_each(Waker::wake);
    }

    /// Blocks the calling thread until every participant lets the clock go to `to`, or `patience` of wall time has passed.
    /// Answers whether the clock may go.
    pub fn wait_for_participants(&self, to: Time, patience: Duration) -> bool {
        let state = self.shared.lock();
        let held = |state: &mut State| {
            state.hold < to.millis() || state.gates.iter().any(|(_, until)| *until < to.millis())
        };
        let waited = self.shared.opened.wait_timeout_while(state, patience, held);
        waited.map_or(true, |(_, timeout)| !timeout.timed_out())
    }
}

impl Clock for SimClock {
    fn now(&self) -> Time {
        Time(self.shared.now.load(Ordering::SeqCst))
    }

    fn sleep_until(&self, at: Time) -> Sleep {
        let mut state = self.shared.lock();
        state.next_wait += 1;
        Box::pin(Wait { shared: self.shared.clone(), at: at.millis(), id: state.next_wait })
    }
}

/// A clock that simulated time waits for. See the module's head.
#[derive(Clone)]
pub struct Participant {
    clock: SimClock,
    gate: Arc<Gate>,
    slack: Span,
}

impl Participant {
    /// Lets the clock go to `slack` behind `at`, without sleeping: for loops that are driven by messages.
    pub fn done_up_to(&self, at: Time) {
        self.gate.open_until(at + self.slack);
    }

    /// Holds nobody until it sleeps or says more.
    pub fn step_aside(&self) {
        self.gate.open_until(Time(i64::MAX));
    }
}

impl Clock for Participant {
    fn now(&self) -> Time {
        self.clock.now()
    }

    fn sleep_until(&self, at: Time) -> Sleep {
        self.gate.open_until(at.max(self.now()) + self.slack);
        self.clock.sleep_until(at)
    }
}

struct Gate {
    shared: Arc<Shared>,
    id: u64,
}

impl Gate {
    fn open_until(&self, until: Time) {
        let mut state = self.shared.lock();
        let gate = state.gates.iter_mut().find(|(id, _)| *id == self.id);
        if let Some((_, held)) = gate {
            *held = until.millis();
        }
        self.shared.opened.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.lock().gates.retain(|(id, _)| *id != self.id);
        self.shared.opened.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under this lock panics; if a caller's waker did, the lists are whole all the same.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn new() -> Self {
        Self { waits: BTreeMap::new(), next_wait: 0, gates: Vec::new(), next_gate: 0, hold: i64::MAX }
    }

    fn take_due(&mut self, now: i64, next_wake: &AtomicI64) -> Vec<Waker> {
        let later = self.waits.split_off(&(now + 1, 0));
        let due = std::mem::replace(&mut self.waits, later);
        let next = self.waits.keys().next().map_or(i64::MAX, |(at, _)| *at);
        next_wake.store(next, Ordering::SeqCst);
        due.into_values().collect()
    }
}

struct Wait {
    shared: Arc<Shared>,
    at: i64,
    /// Names the registration, so that a dropped sleep leaves none behind.
    id: u64,
}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        state.waits.insert((self.at, self.id), context.waker().clone());
        self.shared.next_wake.fetch_min(self.at, Ordering::SeqCst);
        // After the registration, and both sequentially consistent: either this sees the new time, or `advance` sees us.
        if self.shared.now.load(Ordering::SeqCst) < self.at {
            return Poll::Pending;
        }
        state.waits.remove(&(self.at, self.id));
        Poll::Ready(())
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.shared.lock().waits.remove(&(self.at, self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_time_reaches_it_and_not_before() {
        let clock = SimClock::new(Time(1_000));
        let mut sleep = clock.sleep_until(Time(2_000));
        clock.advance(Time(1_990));
        assert!(futures_poll(&mut sleep).await.is_pending());
        clock.advance(Time(2_000));
        sleep.await;
        assert_eq!(clock.now(), Time(2_000));
    }

    #[tokio::test]
    async fn sleepers_on_other_threads_are_woken() {
        let clock = SimClock::new(Time(0));
        let sleepers: Vec<_> = (1..50).map(|at| tokio::spawn(clock.sleep_until(Time(at * 10)))).collect();
        let driver = clock.clone();
        let thread = std::thread::spawn(move || (0..=50).for_each(|at| driver.advance(Time(at * 10))));
        for sleeper in sleepers {
            sleeper.await.expect("no sleeper panics");
        }
        thread.join().expect("the driver does not panic");
    }

    #[test]
    fn time_waits_for_a_participant_that_is_awake() {
        let clock = SimClock::new(Time(0));
        let participant = clock.participant(Span::new(100));
        let no_patience = Duration::ZERO;
        assert!(clock.wait_for_participants(Time(110), no_patience), "it has not slept yet");
        clock.hold_at(Time(100));
        assert!(!clock.wait_for_participants(Time(110), no_patience), "it is held");
        clock.hold_at(Time(i64::MAX));
        let _sleep = participant.sleep_until(Time(1_000));
        assert!(clock.wait_for_participants(Time(1_100), no_patience));
        assert!(!clock.wait_for_participants(Time(1_110), no_patience));
        drop(participant);
        assert!(clock.wait_for_participants(Time(9_999), no_patience), "who is gone holds nobody");
    }

    #[test]
    fn time_never_goes_back() {
        let clock = SimClock::new(Time(50));
        clock.advance(Time(40));
        assert_eq!(clock.now(), Time(50));
    }

    async fn futures_poll(sleep: &mut Sleep) -> Poll<()> {
        std::future::poll_fn(|context| Poll::Ready(sleep.as_mut().poll(context))).await
    }
}
