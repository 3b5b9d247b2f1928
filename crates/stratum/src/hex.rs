//! Hex of an exact width: what Stratum's fields are made of. Assumes nothing of case; refuses prefixes, signs, blanks
//! and any other width, because "the same number written otherwise" is how duplicates are smuggled past a proxy.
//! Next: `job.rs` and `message/client.rs`, which use it.

/// Exactly `2 * N` hex digits, either case.
pub fn decode_exact<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// An even number of hex digits, either case, at most `limit` bytes of data.
pub fn decode(text: &str, limit: usize) -> Option<Vec<u8>> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    if !odd.is_empty() || pairs.len() > limit {
        return None;
    }
    pairs.iter().map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// The same, into the beginning of `bytes`, which sets the limit. Answers how many there are.
pub fn decode_into(text: &str, bytes: &mut [u8]) -> Option<usize> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    if !odd.is_empty() || pairs.len() > bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(pairs.len())
}

/// Eight hex digits as a big-endian number: ntime, nbits, version, nonce, version bits and masks.
pub fn decode_u32(text: &str) -> Option<u32> {
    decode_exact::<4>(text).map(u32::from_be_bytes)
}

/// Lower-case hex.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push(&mut text, bytes);
    text
}

/// The same, behind what stands in `text`.
pub fn push(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        pair(*byte).into_iter().for_each(|digit| text.push(char::from(digit)));
    }
}

/// The two lower-case digits of a byte, in ASCII.
pub fn pair(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

fn digit(ascii: u8) -> Option<u8> {
    char::from(ascii).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_eight_plain_digits_are_a_u32() {
        let check = |text: &str, expected: Option<u32>| assert_eq!(decode_u32(text), expected, "{text:?}");
        check("0000000a", Some(10));
        check("DEADbeef", Some(0xdead_beef));
        for text in
            ["", "a", "0000000", "000000000a", "0x00000a", "+000000a", " 000000a", "0000000g", "000000é"]
        {
            check(text, None);
        }
    }

    #[test]
    fn bytes_round_trip_within_the_limit() {
        assert_eq!(decode("00ffA5", 3), Some(vec![0, 255, 0xa5]));
        assert_eq!(decode("00ffa5", 2), None);
        assert_eq!(decode("00f", 9), None);
        assert_eq!(decode("", 0), Some(vec![]));
        assert_eq!(encode(&[0, 255, 0xa5]), "00ffa5");
        let mut bytes = [7; 3];
        for (text, expected) in [("0aFf", Some(2)), ("", Some(0)), ("00ffa5", Some(3)), ("00ffa500", None)] {
            assert_eq!(decode_into(text, &mut bytes), expected, "{text}");
            assert_eq!(decode_into(text, &mut bytes), decode(text, 3).map(|bytes| bytes.len()), "{text}");
        }
        assert_eq!((decode_into("0a", &mut bytes), bytes[0]), (Some(1), 10));
        for text in ["0", "0g", "é0"] {
            assert_eq!(decode_into(text, &mut bytes), None, "{text}");
        }
    }
}
