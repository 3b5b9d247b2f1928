//! How far a load has risen within the last so many seconds: the lowest sample of a sliding window, in constant time a sample.
//!
//! It assumes samples in order of time. [`super`] holds the rises against what the sets take.

use std::collections::VecDeque;

use model::{Span, Time, Watts};

/// Most samples kept: a minute at one each 100 ms; the window is cut short by any more.
const MAX_SAMPLES: usize = 601;

/// A sliding window.
#[derive(Clone, Debug)]
pub(super) struct Window {
    span: Span,
    // Invariant: rising in time and in load, so that the front is the lowest of the window.
    lows: VecDeque<(Time, Watts)>,
    last: Watts,
}

impl Window {
    pub(super) fn new(span: Span) -> Self {
        Self { span, lows: VecDeque::new(), last: Watts::ZERO }
    }

    /// Takes a sample and says how far it lies above the lowest of the window.
    pub(super) fn rise(&mut self, now: Time, load: Watts) -> Watts {
        let old = now - self.span;
        while self.lows.front().is_some_and(|(at, _)| *at < old) {
            self.lows.pop_front();
        }
        while self.lows.back().is_some_and(|(_, low)| *low >= load) {
            self.lows.pop_back();
        }
        if self.lows.len() == MAX_SAMPLES {
            self.lows.pop_front();
        }
        self.lows.push_back((now, load));
        self.last = load;
        self.rise_to_now()
    }

    /// The rise as of the last sample.
    pub(super) fn rise_to_now(&self) -> Watts {
        self.lows.front().map_or(Watts::ZERO, |(_, low)| self.last - *low)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.lows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_is_measured_from_the_lowest_sample_of_the_window() {
        let mut window = Window::new(Span::secs(1));
        let rises = [
            (0, 10),
            (500, 30),
            (1_000, 35),
            (1_100, 36),
            (1_600, 20),
            (1_700, 50),
            (2_600, 50),
            (2_800, 60),
        ]
        .map(|(at, load)| window.rise(Time(at), Watts::new(load)).get());
        assert_eq!(rises, [0, 20, 25, 6, 0, 30, 30, 10]);
        window.clear();
        assert_eq!(window.rise(Time(2_900), Watts::new(99)), Watts::ZERO);
    }
}
