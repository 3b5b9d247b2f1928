//! TLS towards a pool, with a real handshake: a certificate that is good, and those that are not.
//!
//! `certificates/` was made with openssl for these tests alone: `root.pem` signed `pool.pem` (for 127.0.0.1) and `stranger.pem`
//! (for another name), all until 2126; the root's key is gone, and the other keys open nothing.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use agent::proxy::Roots;
use serde_json::json;
use sim::pool::Handle;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::plain::Plain;
use super::pools::another_pool;
use super::rig::{Rig, until};

const ROOT: &[u8] = include_bytes!("certificates/root.pem");
const POOL: [&[u8]; 2] = [include_bytes!("certificates/pool.pem"), include_bytes!("certificates/pool.key")];
const STRANGER: [&[u8]; 2] =
    [include_bytes!("certificates/stranger.pem"), include_bytes!("certificates/stranger.key")];

/// A door with TLS before a pool that has none. Answers the door's address, and the task that keeps it.
async fn door(pool: &Handle, [certificate, key]: [&[u8]; 2]) -> (String, JoinHandle<()>) {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(key).unwrap())
        .unwrap();
    let (acceptor, behind) = (TlsAcceptor::from(Arc::new(config)), pool.address());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("stratum+ssl://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not like the certificate ends the handshake: that is what is tested.
            let Ok(mut secure) = acceptor.accept(stream).await else { continue };
            let mut plain = TcpStream::connect(behind).await.unwrap();
            tokio::spawn(async move { drop(copy_bidirectional(&mut secure, &mut plain).await) });
        }
    });
    (address, task)
}

/// A proxy whose first pool stands behind TLS, and whose backup does not.
async fn behind(pair: [&[u8]; 2], roots: Roots) -> (Rig, Handle, JoinHandle<()>) {
    let pool = another_pool().await;
    let handle = pool.handle();
    let (address, task) = door(&handle, pair).await;
    let keep = tokio::spawn(async move {
        let _ = task.await;
        drop(pool);
    });
    let rig = Rig::with(-20, |config| {
        config.upstreams.backups = vec![std::mem::replace(&mut config.pool, address)];
        config.upstreams.roots = roots;
    })
    .await;
    (rig, handle, keep)
}

#[tokio::test]
async fn shares_go_through_tls_to_a_pool_whose_root_the_settings_name() {
    let (rig, pool, _keep) = behind(POOL, Roots::from_pem(ROOT).unwrap()).await;
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    assert_eq!(plain.submit_one(0).await["result"], json!(true));
    until("the pool behind TLS has it", || pool.total().accepted == 1).await;
    let upstream = rig.handle().detail().upstreams.remove(0);
    assert!(upstream.pool.starts_with("stratum+ssl://127.0.0.1:"), "{}", upstream.pool);
    assert_eq!((upstream.trouble, rig.pool.handle().total().accepted), (None, 0));
}

/// The first pool is left for the backup, the reason is told, and no byte of Stratum reached it.
async fn check_refused(pair: [&[u8]; 2], roots: Roots, expected: &[&str]) {
    let (rig, pool, _keep) = behind(pair, roots).await;
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    assert_eq!(plain.submit_one(0).await["result"], json!(true));
    until("the backup has it", || rig.pool.handle().total().accepted == 1).await;
    let trouble = rig.handle().detail().upstreams.remove(0).trouble.unwrap();
    for word in expected {
        assert!(trouble.contains(word), "{word:?} in {trouble}");
    }
    assert_eq!((pool.total().accepted, pool.connections()), (0, 0));
}

#[tokio::test]
async fn a_certificate_of_nobody_we_know_is_refused_and_told() {
    let expected = ["not good for 127.0.0.1", "UnknownIssuer", "tls_roots"];
    check_refused(POOL, Roots::default(), &expected).await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_and_told() {
    let expected = ["not good for 127.0.0.1", "stranger.example", "correct the pool's host name"];
    check_refused(STRANGER, Roots::from_pem(ROOT).unwrap(), &expected).await;
}

#[tokio::test]
async fn a_port_that_speaks_no_tls_is_told_from_a_wrong_certificate() {
    let backup = another_pool().await;
    let address = backup.handle().address().to_string();
    let rig = Rig::with(-20, |config| {
        config.pool = format!("stratum+ssl://{}", config.pool);
        config.upstreams.backups = vec![address];
    })
    .await;
    let _plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    let trouble = rig.handle().detail().upstreams.remove(0).trouble.unwrap();
    assert!(trouble.contains("no TLS with the pool") || trouble.contains("no answer within"), "{trouble}");
}

#[test]
fn certificates_that_are_none_are_refused() {
    for text in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let error = Roots::from_pem(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("-----BEGIN CERTIFICATE-----"), "{text:?}: {error}");
    }
}
