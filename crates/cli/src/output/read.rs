//! What the wire brings, as plain values: enum words, times, spans.
//!
//! Answers are shown, not acted upon, so a field that a newer controller fills otherwise becomes "unknown" here and stops
//! nobody from reading the rest.

use api::common::Tier;
use api::convert::field::Error;
use model::{Span, Time};

use super::show;

/// The stable word of an enum's value, without the enum's own name: `LINK_ONLINE` becomes `online`; `None` = not said.
/// A value that this version does not know becomes `other`.
pub fn word<E>(name: Result<&'static str, E>, prefix: &str) -> Option<String> {
    let Ok(name) = name else { return Some("other".to_owned()) };
    let word = name.strip_prefix(prefix).unwrap_or(name).to_lowercase();
    (word != "unspecified").then_some(word)
}

/// A tier, spelled as in the tenants' REST API: `firm`, `on-demand`, `spot`.
pub fn tier(raw: i32) -> Option<String> {
    word(Tier::try_from(raw).map(|tier| tier.as_str_name()), "TIER_").map(|tier| tier.replace('_', "-"))
}

/// A span in milliseconds.
pub fn millis(span: Result<Option<Span>, Error>) -> Option<i64> {
    span.ok().flatten().map(Span::millis)
}

/// A point in time as RFC 3339 in UTC.
pub fn moment(time: Result<Option<Time>, Error>) -> Option<String> {
    time.ok().flatten().and_then(show::rfc3339)
}

/// A text that the wire leaves empty when there is none.
pub fn text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_is_spelled_as_tenants_know_it() {
        let check = |raw: i32, expected: Option<&str>| assert_eq!(tier(raw).as_deref(), expected);
        check(Tier::OnDemand.into(), Some("on-demand"));
        check(Tier::Firm.into(), Some("firm"));
        check(0, None);
        check(999, Some("other"));
    }

    #[test]
    fn enum_words_lose_their_prefix_and_the_unsaid_is_unknown() {
        let check = |raw: i32, expected: Option<&str>| {
            let found = word(Tier::try_from(raw).map(|tier| tier.as_str_name()), "TIER_");
            assert_eq!(found.as_deref(), expected);
        };
        check(Tier::OnDemand.into(), Some("on_demand"));
        check(0, None);
        check(999, Some("other"));
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        assert_eq!(millis(Err(Error::new("age", "a duration"))), None);
        assert_eq!(millis(Ok(Some(Span::secs(2)))), Some(2_000));
        assert_eq!(moment(Ok(None)), None);
        assert_eq!(moment(Ok(Some(Time(0)))).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(text(String::new()), None);
    }
}
