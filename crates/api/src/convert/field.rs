//! The steps that every conversion is made of: take a field, check it, and say its path when it is not what it must be.
//!
//! The path grows from the inside out: a conversion names its own fields, and whoever holds that message puts its own field's
//! name before ([`Error::within`]).

use std::collections::BTreeMap;

use model::id::{Id, Kind};
use model::{Span, Time};

/// A field of a message is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: expected {expected}")]
pub struct Error {
    /// Which field, from the outermost message inwards, such as `envelope.grant.ladder[2].opens`.
    pub path: String,
    /// What it must be.
    pub expected: String,
}

impl Error {
    /// A field that is not `expected`.
    pub fn new(path: &str, expected: impl Into<String>) -> Self {
        Self { path: path.to_owned(), expected: expected.into() }
    }

    /// The same, seen from the message that holds the erring one in `field`.
    #[must_use]
    pub fn within(mut self, field: &str) -> Self {
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{field}{separator}{}", self.path);
        self
    }
}

/// A field that must be there.
pub fn required<T>(value: Option<T>, field: &str) -> Result<T, Error> {
    value.ok_or_else(|| Error::new(field, "a value, found none"))
}

/// A message that must be there, converted.
pub fn message<W, M: TryFrom<W, Error = Error>>(value: Option<W>, field: &str) -> Result<M, Error> {
    M::try_from(required(value, field)?).map_err(|error| error.within(field))
}

/// A message that may be absent, converted.
pub fn optional<W, M: TryFrom<W, Error = Error>>(value: Option<W>, field: &str) -> Result<Option<M>, Error> {
    value.map(M::try_from).transpose().map_err(|error| error.within(field))
}

/// An id.
pub fn id<K: Kind>(text: &str, field: &str) -> Result<Id<K>, Error> {
    Id::new(text).map_err(|invalid| {
        Error::new(
            field,
            format!("a {} id of 1 to 63 of a-z, 0-9 and '-', found {:?}", K::NAME, invalid.text),
        )
    })
}

/// A value of an enum: `W` is the wire's, `M` the model's.
pub fn choice<W, M>(raw: i32, field: &str) -> Result<M, Error>
where
    W: TryFrom<i32>,
    M: TryFrom<W, Error = Error>,
{
    let unknown = |_| Error::new(field, format!("a known enum value, found {raw}; is the sender newer?"));
    W::try_from(raw)
        .map_err(unknown)
        .and_then(|value| M::try_from(value).map_err(|error| error.within(field)))
}

/// What an enum's conversion answers to the zero value, and to it alone.
pub fn unspecified() -> Error {
    Error::new("", "an enum value other than UNSPECIFIED")
}

/// A list, converted; an error names the index.
pub fn list<W, M: TryFrom<W, Error = Error>>(values: Vec<W>, field: &str) -> Result<Vec<M>, Error> {
    list_with(values, field, M::try_from)
}

/// A list, with a conversion of its own.
pub fn list_with<W, M>(
    values: Vec<W>,
    field: &str,
    convert: impl Fn(W) -> Result<M, Error>,
) -> Result<Vec<M>, Error> {
    let entry =
        |(index, value)| convert(value).map_err(|error| error.within(&format!("[{index}]")).within(field));
    values.into_iter().enumerate().map(entry).collect()
}

/// A map of messages by id, converted; an error names the key.
pub fn map<K: Kind, W, M>(values: BTreeMap<String, W>, field: &str) -> Result<BTreeMap<Id<K>, M>, Error>
where
    M: TryFrom<W, Error = Error>,
{
    map_with(values, field, M::try_from)
}

/// A map by id, with a conversion of its own.
pub fn map_with<K: Kind, W, M>(
    values: BTreeMap<String, W>,
    field: &str,
    convert: impl Fn(W) -> Result<M, Error>,
) -> Result<BTreeMap<Id<K>, M>, Error> {
    let entry = |(key, value): (String, W)| {
        let at = format!("{field}[{key:?}]");
        Ok((id(&key, &at)?, convert(value).map_err(|error| error.within(&at))?))
    };
    values.into_iter().map(entry).collect()
}

/// A map by id as the wire has it.
pub fn wire_map<K, M, W: From<M>>(values: BTreeMap<Id<K>, M>) -> BTreeMap<String, W> {
    values.into_iter().map(|(id, value)| (id.as_str().to_owned(), value.into())).collect()
}

/// A list as the wire has it.
pub fn wire_list<M, W: From<M>>(values: Vec<M>) -> Vec<W> {
    values.into_iter().map(W::from).collect()
}

/// A number that must fit a smaller type.
pub fn narrow<T: TryFrom<u32>>(value: u32, field: &str) -> Result<T, Error> {
    T::try_from(value).map_err(|_| {
        let most = 1u128 << (8 * size_of::<T>());
        Error::new(field, format!("a number below {most}, found {value}"))
    })
}

/// A span of time as the wire has it, for signatures of crates that know no prost.
pub type WireSpan = prost_types::Duration;

/// A span of time that must be there. Fractions of a millisecond are dropped.
pub fn span(value: Option<prost_types::Duration>, field: &str) -> Result<Span, Error> {
    let prost_types::Duration { seconds, nanos } = required(value, field)?;
    millis(seconds, nanos).map(Span::new).ok_or_else(|| {
        Error::new(field, "a duration that fits 64 bits of milliseconds, nanos within a second")
    })
}

/// A span of time that may be absent.
pub fn optional_span(value: Option<prost_types::Duration>, field: &str) -> Result<Option<Span>, Error> {
    value.map(|value| span(Some(value), field)).transpose()
}

/// A point in time that must be there. Fractions of a millisecond are dropped.
pub fn time(value: Option<prost_types::Timestamp>, field: &str) -> Result<Time, Error> {
    let prost_types::Timestamp { seconds, nanos } = required(value, field)?;
    millis(seconds, nanos)
        .filter(|_| nanos >= 0)
        .map(Time)
        .ok_or_else(|| Error::new(field, "a time that fits 64 bits of milliseconds, nanos of 0 to 999999999"))
}

/// A point in time that may be absent.
pub fn optional_time(value: Option<prost_types::Timestamp>, field: &str) -> Result<Option<Time>, Error> {
    value.map(|value| time(Some(value), field)).transpose()
}

/// A span as the wire has it.
pub fn wire_span(span: Span) -> Option<prost_types::Duration> {
    // A Duration's two parts have the same sign, so both divisions round toward zero.
    let nanos = i32::try_from(span.millis() % 1_000 * 1_000_000)
        .expect("less than a second of nanoseconds fits 32 bits");
    Some(prost_types::Duration { seconds: span.millis() / 1_000, nanos })
}

/// A point in time as the wire has it.
pub fn wire_time(time: Time) -> Option<prost_types::Timestamp> {
    // A Timestamp counts nanoseconds forward also before the epoch, so both divisions round down.
    let nanos = i32::try_from(time.millis().rem_euclid(1_000) * 1_000_000)
        .expect("less than a second of nanoseconds fits 32 bits");
    Some(prost_types::Timestamp { seconds: time.unix_secs(), nanos })
}

fn millis(seconds: i64, nanos: i32) -> Option<i64> {
    if nanos.unsigned_abs() >= 1_000_000_000 {
        return None;
    }
    // In 128 bits, since the first second after i64::MIN milliseconds would overflow on the way.
    let wide = i128::from(seconds) * 1_000 + i128::from(nanos / 1_000_000);
    i64::try_from(wide).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::SiteId;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_error_names_the_path_from_the_outside_in() {
        let error = Error::new("opens", "a duration").within("[2]").within("ladder").within("grant");
        assert_eq!(error.to_string(), "grant.ladder[2].opens: expected a duration");
    }

    #[test]
    fn a_bad_id_is_told_with_its_field_and_its_kind() {
        let error = id::<model::id::SiteKind>("Well 7", "site").unwrap_err();
        assert_eq!(error.path, "site");
        assert!(error.expected.contains("a site id") && error.expected.contains("\"Well 7\""), "{error}");
        let error = map_with::<model::id::SiteKind, bool, bool>([("A".into(), true)].into(), "sites", Ok)
            .unwrap_err();
        assert_eq!(error.path, "sites[\"A\"]");
        assert_eq!(id("well-7", "site").unwrap(), SiteId::new("well-7").unwrap());
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(narrow::<u8>(255, "point").unwrap(), 255);
        assert_eq!(
            narrow::<u8>(256, "point").unwrap_err().to_string(),
            "point: expected a number below 256, found 256"
        );
    }

    #[test]
    fn durations_and_times_out_of_range_are_refused() {
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, 1_000_000_000), (0, i32::MIN)] {
            assert!(
                span(Some(prost_types::Duration { seconds, nanos }), "d").is_err(),
                "{seconds}s {nanos}ns"
            );
            assert!(
                time(Some(prost_types::Timestamp { seconds, nanos }), "t").is_err(),
                "{seconds}s {nanos}ns"
            );
        }
        assert!(time(Some(prost_types::Timestamp { seconds: 0, nanos: -1 }), "t").is_err());
        assert_eq!(time(None, "t").unwrap_err().to_string(), "t: expected a value, found none");
        assert_eq!(optional_time(None, "t"), Ok(None));
        assert_eq!(optional_span(None, "t"), Ok(None));
    }

    proptest! {
        #[test]
        fn every_time_and_span_survives_the_wire(millis in any::<i64>()) {
            prop_assert_eq!(time(wire_time(Time(millis)), "t"), Ok(Time(millis)));
            prop_assert_eq!(span(wire_span(Span::new(millis)), "d"), Ok(Span::new(millis)));
        }
    }
}
