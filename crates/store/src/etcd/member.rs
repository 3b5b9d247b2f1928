//! One etcd server, with the way in: a connection that is made when it is first used, and a sign-in before the first call.
//!
//! etcd forgets its tokens when it restarts, and lets them expire; so whoever is told that a token is not valid calls
//! [`Member::forget`] and tries again, which signs in anew.
//! Assumes: whoever calls bounds the time.
//! Read next: `etcd.rs`, `Handle::call`.

use etcd_client::{Client, ConnectOptions, Error, KvClient, LeaseClient, TlsOptions, WatchClient};
use tokio::sync::Mutex;

use super::secure::Login;
use super::{MAX_REPLY_BYTES, Options};

/// A server of the cluster.
pub(super) struct Member {
    client: Client,
    login: Option<Login>,
    signed_in: Mutex<bool>,
}

impl Member {
    /// Connects to nobody yet.
    pub(super) async fn new(
        endpoint: &str,
        options: &Options,
        tls: Option<TlsOptions>,
        login: Option<Login>,
    ) -> Result<Self, Error> {
        let mut connect = ConnectOptions::new()
            .with_keep_alive(options.keep_alive.0, options.keep_alive.1)
            // etcd takes pings on a connection without streams for an attack. A controller always has a watch open.
            .with_keep_alive_while_idle(false)
            .with_connect_timeout(options.timeout)
            // A member that lost its cluster would otherwise keep watches open and silent.
            .with_require_leader(true);
        if let Some(tls) = tls {
            connect = connect.with_tls(tls);
        }
        let client = Client::connect([endpoint], Some(connect)).await?;
        Ok(Self { client, login, signed_in: Mutex::new(false) })
    }

    /// Gets a token, unless there is one or none is needed.
    pub(super) async fn sign_in(&self) -> Result<(), Error> {
        let Some(Login { user, password }) = self.login.clone() else { return Ok(()) };
        let mut signed_in = self.signed_in.lock().await;
        if !*signed_in {
            // All parts of a client share the token.
            self.client.clone().update_user(Some((user, password))).await?;
            *signed_in = true;
        }
        Ok(())
    }

    /// The token is not valid any more. False where there is no user to get another for.
    pub(super) async fn forget(&self) -> bool {
        *self.signed_in.lock().await = false;
        self.login.is_some()
    }

    pub(super) fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(MAX_REPLY_BYTES)
    }

    pub(super) fn watch(&self) -> WatchClient {
        self.client.watch_client().max_decoding_message_size(MAX_REPLY_BYTES)
    }

    pub(super) fn lease(&self) -> LeaseClient {
        self.client.lease_client()
    }
}
