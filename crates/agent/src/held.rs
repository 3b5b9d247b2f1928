//! The directive an agent holds, on its disk: written before it is acknowledged, read again after a restart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::Span;
use model::envelope::Directive;
use serde::{Deserialize, Serialize};

use crate::disk;

/// The version of the file's layout. Version 1 is the first.
const SCHEMA: u32 = 1;
/// A renewal that changes nothing but its stamp is persisted at most so often: an agent that restarts under an older stamp
/// only expires earlier.
const RENEWAL_EVERY: Span = Span::secs(30);

/// Why the directive cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error("the agent's disk failed")]
    Disk(#[from] disk::Error),
    /// The file does not read back.
    #[error(
        "{path} is damaged ({what}); remove it and the agent starts without an envelope, drawing the least it can"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How.
        what: String,
    },
}

#[derive(Serialize, Deserialize)]
struct File {
    schema: u32,
    directive: Directive,
}

/// The directive on disk.
pub struct Held {
    path: PathBuf,
    last: Option<Directive>,
}

impl Held {
    /// Opens the file in `dir`; there need be none.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("directive.json");
        let last = match fs::read(&path) {
            Ok(bytes) => Some(parse(&path, &bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(disk::at("read", &path)(error).into()),
        };
        Ok(Self { path, last })
    }

    /// What was persisted last.
    pub fn directive(&self) -> Option<&Directive> {
        self.last.as_ref()
    }

    /// Persists a directive that was accepted. On return it survives a power loss, unless it only renews.
    pub fn keep(&mut self, directive: &Directive) -> Result<(), Error> {
        if self.last.as_ref().is_some_and(|last| is_mere_renewal(last, directive)) {
            return Ok(());
        }
        let file = File { schema: SCHEMA, directive: directive.clone() };
        let bytes = serde_json::to_vec(&file).expect("directives are plain data");
        disk::replace(&self.path, &bytes)?;
        self.last = Some(file.directive);
        Ok(())
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Directive, Error> {
    let damaged = |what: String| Error::Damaged { path: path.to_path_buf(), what };
    let file: File = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    if file.schema != SCHEMA {
        return Err(damaged(format!("layout {} where this agent knows {SCHEMA}", file.schema)));
    }
    Ok(file.directive)
}

fn is_mere_renewal(last: &Directive, next: &Directive) -> bool {
    let mut renewed = next.clone();
    renewed.envelope.answers = last.envelope.answers.clone();
    let recent = next.envelope.answers.since(&last.envelope.answers).is_some_and(|span| span < RENEWAL_EVERY);
    recent && renewed == *last
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use model::envelope::{Envelope, FallbackStep, Fence, Grant, Share};
    use model::{BootStamp, ModuleId, Watts};

    use super::*;

    fn directive(generation: u64, at: Span) -> Directive {
        let grant = Grant {
            ceiling: Watts::kilo(100),
            ai_floor: Watts::ZERO,
            share: Share::default(),
            ladder: Vec::new(),
            armed: BTreeMap::new(),
            fallback: vec![FallbackStep { after: Span::ZERO, ceiling: Watts::kilo(50) }],
        };
        let envelope = Envelope {
            module: ModuleId::new("m").unwrap(),
            fence: Fence { epoch: 1, leader: 2, plan: 3 },
            generation,
            answers: BootStamp { boot_id: "b".into(), at },
            valid_for: Span::secs(120),
            grant,
        };
        Directive::idle(envelope)
    }

    fn check(steps: &[(u64, i64)], expected_on_disk: (u64, i64)) {
        let dir = std::env::temp_dir().join(format!("flareshift-held-{}-{:?}", std::process::id(), steps));
        fs::create_dir_all(&dir).unwrap();
        let mut held = Held::open(&dir).unwrap();
        for (generation, at) in steps {
            held.keep(&directive(*generation, Span::secs(*at))).unwrap();
        }
        let again = Held::open(&dir).unwrap();
        let on_disk = again.directive().map(|d| (d.envelope.generation, d.envelope.answers.at.get() / 1_000));
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(on_disk, Some(expected_on_disk));
    }

    #[test]
    fn what_changed_is_on_disk_at_once_and_a_renewal_now_and_then() {
        check(&[(1, 10)], (1, 10));
        check(&[(1, 10), (2, 11)], (2, 11));
        check(&[(1, 10), (1, 15)], (1, 10));
        check(&[(1, 10), (1, 41)], (1, 41));
    }

    #[test]
    fn a_damaged_file_is_told() {
        let dir = std::env::temp_dir().join(format!("flareshift-held-damaged-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("directive.json"), b"{\"schema\":1,").unwrap();
        let error = Held::open(&dir).err().unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert!(error.to_string().contains("remove it and the agent starts without an envelope"), "{error}");
    }
}
