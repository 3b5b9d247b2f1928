//! The verdict about one share.

use serde::Serialize;

use super::View;
use super::show::{maybe, yes_no};
use super::table::pairs;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// It counts.
    pub accepted: bool,
    /// Why it does not: a stable word, the one that the ledger uses.
    pub reject: Option<String>,
    /// The same for people.
    pub message: Option<String>,
    /// The header's hash, as block explorers write it; `null`, as the next three, where the share makes no header.
    pub hash: Option<String>,
    /// The 80 bytes of the header.
    pub header: Option<String>,
    /// The difficulty that the hash reached.
    pub difficulty: Option<f64>,
    /// It is a block of this job's chain.
    pub is_block: Option<bool>,
    /// The difficulty it was held against.
    pub share_difficulty: f64,
    /// The difficulty of a block.
    pub network_difficulty: f64,
}

impl View for Verdict {
    fn table(&self) -> String {
        let said = match (&self.reject, &self.message) {
            (Some(reject), Some(message)) => format!("rejected [{reject}]: {message}"),
            _ => "accepted".to_owned(),
        };
        let asked =
            format!("asked {}, a block {}", number(self.share_difficulty), number(self.network_difficulty));
        pairs(&[
            ("Verdict", said),
            ("Hash", maybe(self.hash.clone(), |hash| hash)),
            ("Difficulty", format!("{} ({asked})", maybe(self.difficulty, number))),
            ("Block", maybe(self.is_block, yes_no)),
            ("Header", maybe(self.header.clone(), |header| header)),
        ])
    }
}

/// A difficulty to some seven digits: those of test chains are tiny, those of blocks have fifteen before the point.
fn number(difficulty: f64) -> String {
    if difficulty >= 1e6 {
        return format!("{difficulty:.0}");
    }
    let digits = if difficulty >= 1.0 { 6 } else { 12 };
    let text = format!("{difficulty:.digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difficulties_have_the_digits_that_matter() {
        let check = |difficulty: f64, expected: &str| assert_eq!(number(difficulty), expected);
        check(318.402_623_4, "318.402623");
        check(318.0, "318");
        check(125_864_590_119_494.3, "125864590119494");
        check(2f64.powi(-20), "0.000000953674");
    }
}
