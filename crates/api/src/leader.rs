//! How a controller that stands by says who leads: as a detail of a refusal, and as a header beside what it answers from the store.
//!
//! The detail is a `google.rpc.ErrorInfo` in the `google.rpc.Status` that gRPC carries in `grpc-status-details-bin`, so that any
//! client can read it (google.aip.dev/193). Assumes an address is a URL. Read next: [`crate::problem`], which carries it.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::Any;
use tonic::Code;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

/// Stands beside an answer that comes from a controller which does not lead: the leader's address, empty when nobody leads.
pub const HEADER: &str = "flareshift-leader";

/// Of the detail: why it was refused.
const REASON: &str = "STANDBY";
/// Of the detail: whose reasons these are.
const DOMAIN: &str = "flareshift";
/// Of the detail: under which key the address stands.
const ADDRESS: &str = "leader_address";
/// Names the message in an `Any`.
const TYPE_URL: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// `google.rpc.Status`, by its field numbers.
#[derive(Clone, PartialEq, prost::Message)]
struct Refusal {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.ErrorInfo`, by its field numbers.
#[derive(Clone, PartialEq, prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

/// The detail of a refusal, encoded: ask the leader, at this address.
pub(crate) fn detail(code: Code, message: &str, leader: &str) -> Vec<u8> {
    let info = ErrorInfo {
        reason: REASON.into(),
        domain: DOMAIN.into(),
        metadata: BTreeMap::from([(ADDRESS.into(), leader.into())]),
    };
    let any = Any { type_url: TYPE_URL.into(), value: info.encode_to_vec() };
    Refusal { code: code.into(), message: message.into(), details: vec![any] }.encode_to_vec()
}

/// The leader's address in a refusal's detail; `None` in any other.
pub(crate) fn of_detail(detail: &[u8]) -> Option<String> {
    let refusal = Refusal::decode(detail).ok()?;
    let mut infos = refusal.details.iter().filter(|any| any.type_url == TYPE_URL);
    infos.find_map(|any| {
        let mut info = ErrorInfo::decode(any.value.as_slice()).ok()?;
        let ours = info.reason == REASON && info.domain == DOMAIN;
        info.metadata.remove(ADDRESS).filter(|address| ours && !address.is_empty())
    })
}

/// Marks an answer as one of a controller that does not lead.
pub fn mark(headers: &mut MetadataMap, leader: &str) {
    // An address that cannot stand in a header is told as unknown: nobody could follow it.
    let value = leader.parse().unwrap_or_else(|_| AsciiMetadataValue::from_static(""));
    headers.insert(HEADER, value);
}

/// Whether an answer comes from a controller that does not lead: then the leader's address, empty when nobody leads.
pub fn of_answer(headers: &MetadataMap) -> Option<String> {
    Some(headers.get(HEADER)?.to_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_leader_for_programs() {
        let check = |detail: &[u8], expected: Option<&str>| {
            assert_eq!(of_detail(detail).as_deref(), expected);
        };
        let leader = "http://10.0.0.2:7600";
        check(&detail(Code::Unavailable, "stands by", leader), Some(leader));
        check(&detail(Code::Unavailable, "nobody leads", ""), None);
        check(&[], None);
        check(b"no message", None);
        let other = ErrorInfo { reason: "QUOTA".into(), domain: DOMAIN.into(), metadata: BTreeMap::new() };
        let any = Any { type_url: TYPE_URL.into(), value: other.encode_to_vec() };
        check(&Refusal { code: 14, message: String::new(), details: vec![any] }.encode_to_vec(), None);
    }

    #[test]
    fn an_answer_of_a_standby_is_marked_and_a_leaders_is_not() {
        let mut headers = MetadataMap::new();
        assert_eq!(of_answer(&headers), None);
        mark(&mut headers, "http://h:1");
        assert_eq!(of_answer(&headers).as_deref(), Some("http://h:1"));
        mark(&mut headers, "");
        assert_eq!(of_answer(&headers).as_deref(), Some(""));
        mark(&mut headers, "no\nheader");
        assert_eq!(of_answer(&headers).as_deref(), Some(""));
    }
}
