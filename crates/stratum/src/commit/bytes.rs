//! Reading and writing of the canonical bytes: big-endian integers, lengths before what varies.
//!
//! Assumes that every length has its own limit. Next: `leaf.rs` and `template.rs`, the users.

/// Takes from the front; everything answers `None` at the end of the bytes.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_be_bytes)
    }

    /// A length of one byte and as many bytes, at most `most`.
    pub(super) fn short(&mut self, most: usize) -> Option<&'a [u8]> {
        let length = usize::from(self.u8()?);
        self.take(length).filter(|bytes| bytes.len() <= most)
    }

    /// A length of two bytes and as many bytes, at most `most`.
    pub(super) fn long(&mut self, most: usize) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        self.take(length).filter(|bytes| bytes.len() <= most)
    }

    /// `value`, if nothing is left: one content has one encoding.
    pub(super) fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

/// Both assume what the types' limits say: that the bytes are no longer than the length can tell.
pub(super) fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

pub(super) fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_read_and_nothing_else() {
        let mut out = Vec::new();
        put_short(&mut out, b"ab");
        put_long(&mut out, b"cde");
        let read = |bytes: &'static [u8]| {
            let mut reader = Reader(bytes);
            let pair = (reader.short(2)?.to_vec(), reader.long(3)?.to_vec());
            reader.end(pair)
        };
        assert_eq!(out, b"\x02ab\x00\x03cde");
        assert_eq!(read(b"\x02ab\x00\x03cde"), Some((b"ab".to_vec(), b"cde".to_vec())));
        for wrong in
            [&b"\x02ab\x00\x03cd"[..], b"\x02ab\x00\x03cdef", b"\x03abc\x00\x00", b"\x02ab\x00\x04cdef"]
        {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
