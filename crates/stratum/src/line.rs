//! Bytes of a socket into lines, with a limit. Assumes nothing of how the bytes were cut. A line that exceeds the limit is
//! refused as soon as it does, so that a peer who never ends a line costs its limit and no more. Next: `message.rs`.

/// From a miner: a submission has 200 bytes, a `mining.configure` 300; 16 KiB is fifty times that.
pub const MAX_CLIENT_LINE: usize = 16 * 1024;
/// From a pool: a job with 32 branches and two coinbase halves of 12 KiB has 51 KiB in hex.
pub const MAX_SERVER_LINE: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line exceeds {limit} bytes: close the connection")]
pub struct LineTooLong {
    pub limit: usize,
}

/// Private fields: never holds more than `limit` bytes.
#[derive(Clone, Debug)]
pub struct LineBuffer {
    partial: Vec<u8>,
    limit: usize,
    refused: bool,
}

impl LineBuffer {
    pub fn new(limit: usize) -> LineBuffer {
        LineBuffer { partial: Vec::new(), limit, refused: false }
    }

    /// Hands each complete line to `on_line`, without its end and without blank lines. After an error every later call
    /// fails too: what follows an overlong line cannot be trusted to begin a new one.
    pub fn push(&mut self, bytes: &[u8], mut on_line: impl FnMut(&[u8])) -> Result<(), LineTooLong> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, complete) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            if self.refused || self.partial.len() + piece.len() > self.limit {
                self.refused = true;
                self.partial = Vec::new();
                return Err(LineTooLong { limit: self.limit });
            }
            self.take(piece, complete, &mut on_line);
        }
        Ok(())
    }

    fn take(&mut self, piece: &[u8], complete: bool, on_line: &mut impl FnMut(&[u8])) {
        if !complete {
            self.partial.extend_from_slice(piece);
            return;
        }
        let line = if self.partial.is_empty() {
            piece
        } else {
            self.partial.extend_from_slice(piece);
            &self.partial
        };
        let line = line.trim_ascii();
        if !line.is_empty() {
            on_line(line);
        }
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(buffer: &mut LineBuffer, bytes: &[u8]) -> (Vec<String>, bool) {
        let mut lines = Vec::new();
        let result = buffer.push(bytes, |line| lines.push(String::from_utf8_lossy(line).into_owned()));
        (lines, result.is_ok())
    }

    #[test]
    fn lines_come_out_whole_however_they_were_cut() {
        let check = |chunks: &[&str], expected: &[&str]| {
            let mut buffer = LineBuffer::new(8);
            let got: Vec<String> =
                chunks.iter().flat_map(|chunk| lines(&mut buffer, chunk.as_bytes()).0).collect();
            assert_eq!(got, expected, "{chunks:?}");
        };
        check(&["a\nb\r\n\n\r\n c \n"], &["a", "b", "c"]);
        check(&["a", "b", "\nc", "\n"], &["ab", "c"]);
        check(&["12345678\n1234", "5678\n"], &["12345678", "12345678"]);
        check(&["no end"], &[]);
    }

    #[test]
    fn eight_megabytes_without_a_newline_are_refused_at_the_limit() {
        let mut buffer = LineBuffer::new(MAX_CLIENT_LINE);
        let (got, ok) = lines(&mut buffer, b"first\n");
        assert_eq!((got.len(), ok), (1, true));
        let chunk = [b'x'; 1024];
        let taken = (0..8 * 1024).take_while(|_| lines(&mut buffer, &chunk).1).count();
        assert_eq!(taken, MAX_CLIENT_LINE / 1024);
        assert_eq!(buffer.partial.capacity(), 0);
        assert_eq!(lines(&mut buffer, b"\nlater\n"), (vec![], false));
    }

    #[test]
    fn lines_before_an_overlong_one_are_still_delivered() {
        assert_eq!(
            lines(&mut LineBuffer::new(4), b"a\nb\n12345\nc\n"),
            (vec!["a".into(), "b".into()], false)
        );
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(bytes: Vec<u8>, cut in 1usize..9) {
            let whole = lines(&mut LineBuffer::new(1 << 20), &bytes).0;
            let mut buffer = LineBuffer::new(1 << 20);
            let cut: Vec<String> = bytes.chunks(cut).flat_map(|chunk| lines(&mut buffer, chunk).0).collect();
            prop_assert_eq!(whole, cut);
        }
    }
}
