//! Pages of a list in order of id: a token is the last id of the page before, so that no cursor is kept anywhere.
//!
//! Pure. Read next: google.aip.dev/158 for the convention.

use api::Problem;
use api::limits::{DEFAULT_PAGE, MAX_PAGE, page as size};

/// Longest token: the longest id.
const MAX_TOKEN: usize = 64;

/// Which page is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Most entries; 0 leaves it to us.
    pub size: i32,
    /// The token of the page before; empty for the first.
    pub token: String,
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In order.
    pub entries: Vec<T>,
    /// Asks for the next page; empty on the last.
    pub next: String,
}

impl<T> Page<T> {
    /// The same page of something else.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page { entries: self.entries.into_iter().map(convert).collect(), next: self.next }
    }
}

/// Cuts a page out of entries in ascending order of their ids.
pub fn cut<'a, T>(ask: &Ask, entries: impl Iterator<Item = (&'a str, T)>) -> Result<Page<T>, Problem> {
    let fits =
        ask.token.len() <= MAX_TOKEN && ask.token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !fits {
        return Err(Problem::invalid("page_token: expected the next_page_token of the page before"));
    }
    let size = size(ask.size, DEFAULT_PAGE, MAX_PAGE);
    let mut rest = entries.filter(|(id, _)| *id > ask.token.as_str());
    let page: Vec<(&str, T)> = rest.by_ref().take(size).collect();
    let more = rest.next().is_some();
    let next = page.last().filter(|_| more).map(|(id, _)| (*id).to_owned()).unwrap_or_default();
    Ok(Page { entries: page.into_iter().map(|(_, entry)| entry).collect(), next })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let ids = ["a", "b", "c", "d", "e"];
        let page = |size: i32, token: &str| {
            cut(&Ask { size, token: token.into() }, ids.iter().map(|id| (*id, *id))).unwrap()
        };
        assert_eq!(page(2, ""), Page { entries: vec!["a", "b"], next: "b".into() });
        assert_eq!(page(2, "b"), Page { entries: vec!["c", "d"], next: "d".into() });
        assert_eq!(page(2, "d"), Page { entries: vec!["e"], next: String::new() });
        assert_eq!(page(5, "").next, "");
        assert_eq!(page(0, "").entries.len(), 5);
        assert_eq!(page(2, "zz").entries.len(), 0);
        assert!(cut(&Ask { size: 1, token: "ä/..".into() }, [("a", 1)].into_iter()).is_err());
    }
}
