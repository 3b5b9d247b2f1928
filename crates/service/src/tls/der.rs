//! From when to when a certificate is good, read from its DER (RFC 5280, 4.1): the TLS library judges it in a handshake and does not
//! say it, and settings are to be refused before.
//!
//! Assumes that the library has parsed the certificate; what does not read here answers `None`. Next: `files.rs`.

/// Seconds since 1970 from which and up to which it is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: i64,
    pub(super) until: i64,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The validity of a certificate.
pub(super) fn validity(certificate: &[u8]) -> Option<Validity> {
    let mut outer = Reader(certificate);
    let mut signed = Reader(Reader(outer.expect(SEQUENCE)?).expect(SEQUENCE)?);
    if signed.0.first() == Some(&VERSION) {
        signed.next()?;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        signed.next()?;
    }
    let mut times = Reader(signed.expect(SEQUENCE)?);
    let mut time = || {
        let (tag, text) = times.next()?;
        seconds(tag, text)
    };
    Some(Validity { from: time()?, until: time()? })
}

/// Reads one value after another.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The tag and the content of the next value.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first & 0x7f);
        if first & 0x80 != 0 {
            // Three bytes of length are 16 MiB, sixteen times the largest file that is read.
            let bytes = rest.get(..length).filter(|bytes| bytes.len() <= 3)?;
            rest = &rest[bytes.len()..];
            length = bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        }
        let content = rest.get(..length)?;
        self.0 = &rest[length..];
        Some((tag, content))
    }

    fn expect(&mut self, expected: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == expected).map(|(_, content)| content)
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, the only forms that RFC 5280 allows.
fn seconds(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let year: i64 = text.get(..2)?.parse().ok()?;
            (year + if year < 50 { 2_000 } else { 1_900 }, text.get(2..)?)
        }
        GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let days = days(year, part(0)?, part(2)?);
    Some(((days * 24 + part(4)?) * 60 + part(6)?) * 60 + part(8)?)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar: years that begin in March have their leap day last, and each 400 of them
/// have 146,097 days (719,468 of which lie between 0000-03-01 and 1970-01-01).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_forms_of_time_are_read() {
        let check = |tag: u8, text: &str, expected: Option<i64>| {
            assert_eq!(seconds(tag, text.as_bytes()), expected, "{text}");
        };
        check(UTC_TIME, "700101000000Z", Some(0));
        check(UTC_TIME, "491231235959Z", Some(2_524_607_999));
        check(UTC_TIME, "500101000000Z", Some(-631_152_000));
        check(GENERALIZED_TIME, "20000229120000Z", Some(951_825_600));
        check(GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000));
        check(GENERALIZED_TIME, "20500101000000", None);
        check(GENERALIZED_TIME, "2050", None);
        check(UTC_TIME, "7001010000é", None);
        check(SEQUENCE, "700101000000Z", None);
    }

    #[test]
    fn a_certificate_that_is_cut_off_anywhere_has_no_validity_and_does_no_harm() {
        // version, serial, algorithm, issuer, validity: just so much of a certificate.
        let mut times = vec![UTC_TIME, 13];
        times.extend(b"700101000000Z");
        times.extend([GENERALIZED_TIME, 15]);
        times.extend(b"20500101000000Z");
        let mut signed = vec![VERSION, 3, 2, 1, 2, 2, 1, 7, SEQUENCE, 0, SEQUENCE, 0, SEQUENCE];
        signed.push(u8::try_from(times.len()).unwrap());
        signed.extend(times);
        let length = u8::try_from(signed.len()).unwrap();
        let whole = [vec![SEQUENCE, 0x81, length + 2, SEQUENCE, length], signed].concat();
        assert_eq!(validity(&whole), Some(Validity { from: 0, until: 2_524_608_000 }));
        for end in 0..whole.len() {
            assert_eq!(validity(&whole[..end]), None, "{end} bytes");
        }
        assert_eq!(validity(&[SEQUENCE, 0x84, 255, 255, 255, 255]), None);
    }
}
