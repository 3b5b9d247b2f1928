//! Limits that both ends of a connection keep, with their arithmetic.

/// Largest message on any of our connections: a directive or report of a module of 50 groups, 50 pools and 1,000 runs at about
/// 300 bytes a run is 0.4 MB; a plan of 100 modules at 10 kB each is 1 MB. 4 MiB is also tonic's default for what it receives.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Entries of a page when the caller does not say.
pub const DEFAULT_PAGE: usize = 50;

/// Most entries of a page: 1,000 modules with status at about 3 kB are 3 MB, inside [`MAX_MESSAGE_BYTES`].
pub const MAX_PAGE: usize = 1_000;

/// Decisions in a status when the caller does not say.
pub const DEFAULT_DECISIONS: usize = 20;

/// Most decisions in a status.
pub const MAX_DECISIONS: usize = 200;

/// The number of entries to answer for what a caller asked: 0 or less means `default`, and nothing passes `most`.
pub fn page(asked: i32, default: usize, most: usize) -> usize {
    usize::try_from(asked).ok().filter(|&asked| asked > 0).unwrap_or(default).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_a_default_and_a_limit() {
        for (asked, expected) in [(0, 50), (-3, 50), (1, 1), (1_000, 1_000), (i32::MAX, 1_000)] {
            assert_eq!(page(asked, DEFAULT_PAGE, MAX_PAGE), expected, "{asked}");
        }
    }
}
