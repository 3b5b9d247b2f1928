//! What a client hears that does not speak TLS at a listener that does: words it can show, by the protocol it speaks.
//!
//! A gRPC client begins with HTTP/2's preface and gets a GOAWAY with the reason INADEQUATE_SECURITY and the words as its debug data
//! (RFC 9113, 6.8 and 7); a client of HTTP/1 gets a 400. Pure. Next: `server.rs`, which sends it.

/// The first byte of a TLS connection: a record that holds a handshake message (RFC 8446, 5.1).
const HANDSHAKE: u8 = 0x16;

/// Sent by HTTP/2, as the debug data of a GOAWAY.
const GRPC_WORDS: &str =
    "this address speaks TLS: write https:// and give --tls-ca, --tls-cert and --tls-key";
/// Sent by HTTP/1.
const REST_WORDS: &str = "this address speaks TLS: write https://\n";

/// Types of HTTP/2's frames.
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const HEADERS: u8 = 1;
/// Bytes before a frame's body.
pub(super) const HEAD: usize = 9;
/// Bytes with which a client of HTTP/2 begins (RFC 9113, 3.4).
pub(super) const PREFACE: usize = 24;
/// HTTP/2's INADEQUATE_SECURITY.
const REASON: u32 = 0xc;

/// What to say to a client without TLS.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// These bytes.
    Now(Vec<u8>),
    /// By HTTP/2: some at once, the others once it has asked something, or its own library would not connect them with the question.
    Asked { first: Vec<u8>, then: Vec<u8> },
}

/// What to answer to a client that begins with these bytes; `None` where it speaks TLS.
pub(super) fn answer(first: &[u8]) -> Option<Answer> {
    match first {
        [HANDSHAKE, ..] => None,
        [b'P', b'R', b'I', ..] => {
            let mut body = vec![0; 4];
            body.extend(REASON.to_be_bytes());
            body.extend(GRPC_WORDS.as_bytes());
            Some(Answer::Asked { first: frame(SETTINGS, &[]), then: frame(GOAWAY, &body) })
        }
        [b'A'..=b'Z', ..] => {
            let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n";
            let text = format!("{head}Content-Length: {}\r\n\r\n{REST_WORDS}", REST_WORDS.len());
            Some(Answer::Now(text.into_bytes()))
        }
        _ => Some(Answer::Now(Vec::new())),
    }
}

/// Whether a frame with this head is a question, and how many bytes follow the head.
pub(super) fn head([a, b, c, kind, ..]: [u8; HEAD]) -> (bool, u32) {
    (kind == HEADERS, u32::from_be_bytes([0, a, b, c]))
}

/// A frame of the connection itself, without flags.
fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    // Our bodies are shorter than 256 bytes.
    let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
    [&[0, 0, length, kind, 0, 0, 0, 0, 0], body].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_plain_client_hears_what_to_do_in_its_own_protocol() {
        assert_eq!(answer(&[HANDSHAKE, 3, 1]), None);
        let grpc = answer(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let Answer::Asked { first, then } = grpc else { panic!("{grpc:?}") };
        assert_eq!(first, [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
        assert_eq!((usize::from(then[2]), then[3]), (then.len() - HEAD, GOAWAY));
        assert_eq!(then[13..17], [0, 0, 0, 0xc]);
        assert!(GRPC_WORDS.len() + 8 < 256, "one byte of length");
        for method in ["GET /v1/usage HTTP/1.1\r\n", "POST / HTTP/1.1", "PUT /"] {
            let Some(Answer::Now(rest)) = answer(method.as_bytes()) else { panic!("{method}") };
            let rest = String::from_utf8(rest).unwrap();
            assert!(rest.starts_with("HTTP/1.1 400 ") && rest.ends_with(REST_WORDS), "{rest}");
        }
        assert_eq!(answer(b"\x00\x01"), Some(Answer::Now(Vec::new())));
        assert_eq!(head([0, 1, 2, HEADERS, 0, 0, 0, 0, 1]), (true, 258));
        assert_eq!(head([0, 0, 6, SETTINGS, 0, 0, 0, 0, 0]), (false, 6));
    }
}
