//! The directory of a run: the one that was named, or a temporary one that nobody else can have and that is gone at the end.
//!
//! A temporary directory is made, never met: its name is drawn at random, and making it fails where something has that name. So
//! neither what a killed run left nor another user's trap in a shared directory is taken for our own state. Assumes that
//! whoever writes into it has ended when this value goes. Read next: `scenario.rs`.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Only this user may look into a temporary directory: it holds what tenants ordered.
const MODE: u32 = 0o700;

/// A directory, and whether it goes with this value.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    temporary: bool,
}

impl Scratch {
    /// The named directory, made where it is not there, or a temporary one.
    pub fn new(named: Option<&Path>) -> anyhow::Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => std::env::temp_dir().join(drawn_name()?),
        };
        let made = match named {
            Some(path) => fs::create_dir_all(path),
            None => DirBuilder::new().mode(MODE).create(&path),
        };
        made.with_context(|| {
            format!("cannot make {}; choose another directory with --data", path.display())
        })?;
        Ok(Self { path, temporary: named.is_none() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.temporary {
            // What is left of a temporary directory is the operating system's to remove.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// 128 random bits: nobody guesses them, and no two runs draw the same.
fn drawn_name() -> anyhow::Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .context("the operating system gives no random bytes; name a directory with --data")?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("flareshift-dev-{hex}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_temporary_directory_is_private_its_own_and_gone_at_the_end() {
        let (one, two) = (Scratch::new(None).unwrap(), Scratch::new(None).unwrap());
        assert_ne!(one.path(), two.path());
        assert_eq!(fs::metadata(one.path()).unwrap().permissions().mode() & 0o777, MODE);
        fs::create_dir_all(one.path().join("store")).unwrap();
        fs::write(one.path().join("store/file"), "x").unwrap();
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists() && two.path().exists());
    }

    #[test]
    fn a_named_directory_may_be_there_and_stays() {
        let around = Scratch::new(None).unwrap();
        let named = around.path().join("a/b");
        for _ in 0..2 {
            drop(Scratch::new(Some(&named)).unwrap());
            assert!(named.is_dir());
        }
        fs::write(around.path().join("file"), "x").unwrap();
        let error = Scratch::new(Some(&around.path().join("file"))).unwrap_err().to_string();
        assert!(error.contains("/file; choose another directory with --data"), "{error}");
    }
}
