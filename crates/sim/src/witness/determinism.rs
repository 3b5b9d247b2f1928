//! Invariant 10, determinism: the same input gives the same plan, byte for byte.
//!
//! Whoever planned again compares; here it is only written down. Read next: [`super::writer`] for the commits themselves.

use model::Time;

use super::book::{Book, Fault, Invariant};

/// Longest difference that is quoted: a line.
const MAX_QUOTE: usize = 200;

/// One plan was made again.
pub(super) fn replanned(generation: u64, at: Time, same: bool, difference: &str, book: &mut Book) {
    let quote: String = difference.chars().take(MAX_QUOTE).collect();
    let what = || format!("the same input gave another plan: {quote}");
    let fault = (!same).then(|| Fault::new(format!("plan {generation}"), what()));
    book.check(Invariant::Determinism, at, fault);
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    #[test]
    fn only_a_difference_fires() {
        let mut witness = witness();
        witness.replanned(1, at(1), true, "");
        witness.replanned(2, at(2), false, "miners 3 -> 4");
        let summary = witness.finish();
        check(&summary, 10, &["plan 2"]);
        assert!(summary.verdicts[9].first[0].what.ends_with("miners 3 -> 4"));
    }
}
