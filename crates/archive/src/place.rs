//! Where the archive lies: a folder, or a bucket of anything that speaks S3.
//!
//! Invariant: no other file knows the library behind it. Every call has a timeout; the library itself repeats what failed for a
//! moment, for at most 30 s, and whoever calls here repeats later. Read next: `task.rs`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt as _, RetryConfig};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use url::Url;

/// How long one call may take, with all its repeats: the largest file, some 100 MB of an hour, at 2 MB/s.
const CALL: Duration = Duration::from_secs(60);
/// How long the library repeats one request.
const RETRY: Duration = Duration::from_secs(30);
/// Requests in flight at once. At 30 ms each, 250 files a second.
pub const IN_FLIGHT: usize = 8;

/// Why a place cannot be used, or a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL names no place.
    #[error("{url:?} is no place for an archive: {why}; write file:///DIR or s3://BUCKET/PREFIX")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The folder cannot be made.
    #[error("the archive's folder {path} cannot be made; check the disk and its permissions")]
    Folder {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The settings do not do.
    #[error("the archive {url} cannot be opened; check the AWS_* variables")]
    Settings {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// The store said no, or could not be reached.
    #[error("the archive failed to {what} {path}")]
    Call {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// It did not answer.
    #[error("the archive did not {what} {path} within {} s", CALL.as_secs())]
    Timeout {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: String,
    },
}

/// A place for files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Place {
    url: String,
    store: Arc<dyn ObjectStore>,
}

impl Place {
    /// Opens what a URL names; a folder is made. Nothing is asked of S3 yet. Blocks on the disk.
    pub fn open(url: &str) -> Result<Self, Error> {
        let store: Arc<dyn ObjectStore> = match parse(url)? {
            Parsed::Folder(path) => Arc::new(folder(&path)?),
            Parsed::Bucket { bucket, prefix } => self::bucket(url, &bucket, &prefix)?,
        };
        Ok(Self { url: url.into(), store })
    }

    /// A place in memory, for tests.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        Self { url: "memory:///".into(), store: Arc::new(object_store::memory::InMemory::new()) }
    }

    /// As it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Writes a file; it is there whole or not at all, and durable.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), Error> {
        let put = async { self.store.put(&Path::from(path), bytes.into()).await };
        within("write", path, put).await.map(|_| ())
    }

    /// Reads a file; `None` where there is none any more.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>, Error> {
        let get = async {
            match self.store.get(&Path::from(path)).await {
                Ok(found) => found.bytes().await.map(Some),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        within("read", path, get).await
    }

    /// All files below a folder, in order.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>, Error> {
        let mut listed = self.store.list(Some(&Path::from(folder)));
        let mut paths = Vec::new();
        while let Some(meta) = within("list", folder, async { listed.next().await.transpose() }).await? {
            paths.push(meta.location.to_string());
        }
        paths.sort();
        Ok(paths)
    }

    /// The names of the folders in a folder, in order.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, Error> {
        let path = Path::from(folder);
        let found = within("list", folder, self.store.list_with_delimiter(Some(&path))).await?;
        let names = found.common_prefixes.iter().filter_map(|prefix| prefix.filename());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Deletes files in their order, a thousand with one request where the store can; one that is gone is gone.
    pub async fn delete(&self, paths: &[String]) -> Result<(), Error> {
        for batch in paths.chunks(1_000) {
            let locations: Vec<_> = batch.iter().map(|path| Ok(Path::from(path.as_str()))).collect();
            let mut deleted = self.store.delete_stream(Box::pin(tokio_stream::iter(locations)));
            let all = async {
                while let Some(outcome) = deleted.next().await {
                    match outcome {
                        Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            };
            within("delete", batch.first().map_or("", String::as_str), all).await?;
        }
        Ok(())
    }
}

async fn within<T>(
    what: &'static str,
    path: &str,
    call: impl Future<Output = Result<T, object_store::Error>>,
) -> Result<T, Error> {
    match timeout(CALL, call).await {
        Ok(answer) => answer.map_err(|source| Error::Call { what, path: path.into(), source }),
        Err(_) => Err(Error::Timeout { what, path: path.into() }),
    }
}

/// What a URL names.
enum Parsed {
    Folder(PathBuf),
    Bucket { bucket: String, prefix: String },
}

/// Refuses what names no place. Opens nothing.
pub fn check(url: &str) -> Result<(), Error> {
    parse(url).map(|_| ())
}

fn parse(url: &str) -> Result<Parsed, Error> {
    let wrong = |why| Error::Url { url: url.into(), why };
    let parsed = Url::parse(url).map_err(|_| wrong("it does not parse"))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        let url = format!("{}://…", parsed.scheme());
        return Err(Error::Url { url, why: "credentials belong into the AWS_* variables" });
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(wrong("it has a query or a fragment"));
    }
    match (parsed.scheme(), parsed.host_str()) {
        ("file", _) => {
            let path = parsed.to_file_path().map_err(|()| wrong("it names no folder of this host"))?;
            Ok(Parsed::Folder(path))
        }
        ("s3", Some(bucket)) if !bucket.is_empty() => {
            let prefix = parsed.path().trim_matches('/').to_owned();
            Ok(Parsed::Bucket { bucket: bucket.to_owned(), prefix })
        }
        ("s3", _) => Err(wrong("it names no bucket")),
        _ => Err(wrong("there is no such store")),
    }
}

/// A folder, synced on each write; empty folders go with their last file.
fn folder(path: &std::path::Path) -> Result<LocalFileSystem, Error> {
    let name = || path.display().to_string();
    std::fs::create_dir_all(path).map_err(|source| Error::Folder { path: name(), source })?;
    let store = LocalFileSystem::new_with_prefix(path);
    let store = store.map_err(|source| Error::Settings { url: name(), source })?;
    Ok(store.with_fsync(true).with_automatic_cleanup(true))
}

/// A bucket: region, credentials and endpoint from the AWS_* variables. TLS by ring, as everywhere in this program: with two
/// libraries for it in one process none would be the default.
fn bucket(url: &str, bucket: &str, prefix: &str) -> Result<Arc<dyn ObjectStore>, Error> {
    // Whoever installed one before us installed the same.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let retry = RetryConfig { retry_timeout: RETRY, ..RetryConfig::default() };
    let store = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry).build();
    let store = store.map_err(|source| Error::Settings { url: url.into(), source })?;
    Ok(if prefix.is_empty() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, prefix)) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::TestDir;

    #[test]
    fn a_url_that_names_no_place_is_refused_and_says_what_to_write() {
        let check = |url: &str, expected: &str| {
            let error = Place::open(url).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("s3://BUCKET/PREFIX"), "{url}: {error}");
        };
        check("", "does not parse");
        check("/data/archive", "does not parse");
        check("gs://bucket", "no such store");
        check("s3:///prefix", "no bucket");
        check("s3://bucket/p?x=1", "query");
        check("file://elsewhere/dir", "no folder of this host");
        check("s3://key:secret@bucket/p", "AWS_*");
        let error = Place::open("s3://key:secret@bucket/p").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    /// What the merging relies on, on a place.
    async fn check(place: Place) {
        assert_eq!(place.list("fresh").await.unwrap(), Vec::<String>::new());
        assert_eq!(place.folders("fresh").await.unwrap(), Vec::<String>::new());
        assert_eq!(place.get("fresh/gap/a").await.unwrap(), None);
        place.delete(&["fresh/gap/a".into()]).await.unwrap();
        for (path, text) in
            [("fresh/gas/date=1/b", "b"), ("fresh/gap/date=1/a", "a"), ("fresh/gap/date=1/a", "c")]
        {
            place.put(path, Bytes::from_static(text.as_bytes())).await.unwrap();
        }
        assert_eq!(place.get("fresh/gap/date=1/a").await.unwrap().unwrap(), "c", "the last one stays");
        assert_eq!(place.folders("fresh").await.unwrap(), ["gap", "gas"]);
        assert_eq!(place.folders("fresh/gap").await.unwrap(), ["date=1"]);
        assert_eq!(place.list("fresh").await.unwrap(), ["fresh/gap/date=1/a", "fresh/gas/date=1/b"]);
        place.delete(&["fresh/gap/date=1/a".into(), "fresh/none".into()]).await.unwrap();
        assert_eq!(place.list("fresh").await.unwrap(), ["fresh/gas/date=1/b"]);
        assert_eq!(place.folders("fresh").await.unwrap(), ["gas"], "a folder goes with its last file");
    }

    #[tokio::test]
    async fn a_folder_keeps_files_under_their_names() {
        let dir = TestDir::new("place");
        let path = dir.path().join("a b/archive");
        let place = Place::open(&format!("file://{}", path.display())).unwrap();
        check(place).await;
        assert!(path.join("fresh/gas/date=1/b").is_file(), "the name is the path");
    }

    #[tokio::test]
    async fn the_place_in_memory_is_its_twin() {
        check(Place::in_memory()).await;
    }
}
