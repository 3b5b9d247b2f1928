//! When an etcd is away the log says so once, then once a minute, then that it is back: whoever calls tries again every second,
//! and a line each time would bury everything else.
//!
//! Assumes that every call of one store passes here. One answer ends an outage; failures that have answers between them (one
//! dead endpoint of three) are none. Read next: `etcd.rs`, `Handle::call`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures must last so long without an answer to be called an outage: three tries of a watch that starts over (0.1, 0.2 and
/// 0.4 s apart) and one more. What is over sooner is told by whoever called.
const GRACE: Duration = Duration::from_secs(1);
/// An outage that goes on is told again after this.
const REMIND: Duration = Duration::from_secs(60);

/// What the log is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing answers any more.
    Began,
    /// It has lasted so long.
    Lasts(Duration),
    /// It is over and has lasted so long.
    Ended(Duration),
}

/// What is known of the calls of one store.
#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<Option<Ongoing>>);

#[derive(Clone, Copy, Debug)]
struct Ongoing {
    /// The first failure since the last answer.
    since: Instant,
    /// The last line about it.
    told: Option<Instant>,
}

impl Outage {
    /// A call was not answered.
    pub(super) fn failed(&self) -> Option<News> {
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ongoing = state.get_or_insert(Ongoing { since: now, told: None });
        let lasts = now - ongoing.since;
        let news = match ongoing.told {
            None if lasts >= GRACE => News::Began,
            Some(told) if now - told >= REMIND => News::Lasts(lasts),
            None | Some(_) => return None,
        };
        ongoing.told = Some(now);
        Some(news)
    }

    /// A call was answered, be it by a refusal.
    pub(super) fn answered(&self) -> Option<News> {
        let over = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        over.told.map(|_| News::Ended(over.since.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls one second apart, `x` for one without an answer; the news by the second in which they came.
    async fn check(calls: &str, expected: &[(usize, News)]) {
        let outage = Outage::default();
        let mut told = Vec::new();
        for (second, call) in calls.chars().enumerate() {
            let news = if call == 'x' { outage.failed() } else { outage.answered() };
            told.extend(news.map(|news| (second, news)));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(told, expected, "{calls}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_when_it_begins_each_minute_and_when_it_ends() {
        let seconds = Duration::from_secs;
        check("....", &[]).await;
        check("..xxx.", &[(3, News::Began), (5, News::Ended(seconds(3)))]).await;
        let long = ".".to_owned() + &"x".repeat(150) + "..";
        let expected = [
            (2, News::Began),
            (62, News::Lasts(seconds(61))),
            (122, News::Lasts(seconds(121))),
            (151, News::Ended(seconds(150))),
        ];
        check(&long, &expected).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_outage_is_told_as_the_first() {
        let second = |n| News::Ended(Duration::from_secs(n));
        check("xxx.xx.", &[(1, News::Began), (3, second(3)), (5, News::Began), (6, second(2))]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_dead_endpoint_beside_a_living_one_is_no_outage() {
        check(&"x.".repeat(100), &[]).await;
    }
}
