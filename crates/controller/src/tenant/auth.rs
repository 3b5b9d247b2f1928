//! API keys: `fs_` and 32 random bytes in hex. The key is shown once and kept as its SHA-256 only.
//!
//! A hash needs no salt here: 256 random bits cannot be guessed or tabulated. Read next: `operator/tenants.rs`, which makes them.

use api::Problem;
use api::problem::Kind;
use model::TenantId;
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::observe::hex;

/// The start of every key, so that scanners of leaked secrets know it.
const PREFIX: &str = "fs_";
/// 256 bits.
const BYTES: usize = 32;

/// A new key.
pub fn new_key() -> Result<String, Problem> {
    Ok(format!("{PREFIX}{}", random_hex::<BYTES>()?))
}

/// `N` random bytes in hex.
pub fn random_hex<const N: usize>() -> Result<String, Problem> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Problem::internal(format!("the system gives no random bytes: {error}")))?;
    Ok(hex(&bytes))
}

/// What is kept of a key.
pub fn hash(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))
}

/// Whose key stands in the value of an `Authorization` header.
pub fn authenticate(context: &Context, header: Option<&str>) -> Result<TenantId, Problem> {
    let refuse = |why: &str| Problem::new(Kind::Unauthenticated, why);
    let header = header.ok_or_else(|| refuse("send your API key as `Authorization: Bearer fs_…`"))?;
    let key = bearer(header).ok_or_else(|| refuse("the Authorization header must read `Bearer fs_…`"))?;
    let owner = context.cache.borrow().keys.get(&hash(key)).cloned();
    owner.ok_or_else(|| refuse("this API key is not known; ask your operator for one"))
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && key.starts_with(PREFIX)).then_some(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_long_and_never_alike_and_hash_to_64_digits() {
        let (one, two) = (new_key().unwrap(), new_key().unwrap());
        assert_ne!(one, two);
        assert_eq!((one.len(), &one[..3]), (3 + 64, "fs_"));
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn only_a_bearer_of_our_own_kind_is_read() {
        let check = |header: &str, expected: Option<&str>| assert_eq!(bearer(header), expected, "{header}");
        check("Bearer fs_12", Some("fs_12"));
        check("bearer  fs_12 ", Some("fs_12"));
        check("Basic fs_12", None);
        check("Bearer sk_12", None);
        check("fs_12", None);
    }
}
