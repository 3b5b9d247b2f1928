//! The commands on an embedded store: what they do, what they refuse, and what a controller makes of what they left.

#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use store::TxnOutcome;
use store::record::Versioned;

use super::*;
use crate::records::{
    GrantRecord, HistoryRecord, LostRecord, ModuleRecord, OfferingRecord, SiteRecord, TargetRecord,
    TenantKeyRecord, TenantRecord, WatermarkRecord, WorkloadRecord,
};
use crate::testing::TestDir;

/// A wall clock that is behind every epoch of these tests.
const LONG_AGO: u64 = 0;

/// An export of an installation of the first version: every kind of record in the oldest schema that ever was. A kind that is new is
/// added to it, by `store import`, a put and `store export`; what is there is never changed.
const OLDEST: &str = include_str!("fixtures/oldest.jsonl");

struct Scene(TestDir);

impl Scene {
    fn new(name: &str) -> Self {
        Self(TestDir::new(name))
    }

    fn place(&self) -> Place {
        Place::at(format!("embedded:{}", self.0.path().join("store").display()))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    async fn run(&self, command: Command) -> Result<Answer, Error> {
        run(&self.place(), &command, LONG_AGO).await
    }

    async fn import(&self, file: PathBuf, replace: bool) -> Result<Answer, Error> {
        self.run(Command::Import { file, replace }).await
    }

    /// The fixture, imported into an empty store.
    async fn oldest(&self) -> PathBuf {
        let file = self.file("oldest.jsonl");
        fs::write(&file, OLDEST).unwrap();
        self.import(file.clone(), false).await.unwrap();
        file
    }

    /// Writes behind the commands' back.
    async fn put(&self, key: Key, value: &[u8]) -> TxnOutcome {
        self.0.store().txn(Txn::new().put(key, value.to_vec())).await.unwrap()
    }

    async fn stored(&self) -> BTreeMap<String, Vec<u8>> {
        let range = self.0.store().range(&Prefix::all()).await.unwrap();
        range.entries.into_iter().map(|entry| (entry.key.to_string(), entry.value)).collect()
    }

    async fn findings(&self) -> Vec<(String, String)> {
        let Answer::Fsck { findings, .. } = self.run(Command::Fsck).await.unwrap() else { panic!("fsck") };
        findings.into_iter().map(|finding| (finding.key, finding.problem)).collect()
    }
}

#[tokio::test]
async fn what_is_exported_comes_back_byte_by_byte_under_a_higher_epoch() {
    let (from, to) = (Scene::new("from"), Scene::new("to"));
    from.oldest().await;
    from.put(key::request("acme", "odd"), b"\x00\xff not json").await;
    let file = from.file("export.jsonl");
    let Answer::Export { records, .. } = from.run(Command::Export { file: file.clone() }).await.unwrap()
    else {
        panic!("export")
    };
    let mut before = from.stored().await;
    assert_eq!(records, before.len());
    let answer = to.import(file, false).await.unwrap();
    assert_eq!(answer, Answer::Import { records: records - 1, deleted: 0, epoch: 5 });
    let mut after = to.stored().await;
    let epochs =
        [&mut before, &mut after].map(|stored| String::from_utf8(stored.remove("epoch").unwrap()).unwrap());
    assert_eq!(epochs.map(|epoch| epoch.contains("\"epoch\":5")), [false, true]);
    assert_eq!(before, after, "the marker and the office are gone too");
}

#[tokio::test]
async fn an_epoch_never_comes_twice() {
    let scene = Scene::new("epochs");
    let file = scene.oldest().await;
    let epoch = async |command: Command, now: u64| match run(&scene.place(), &command, now).await.unwrap() {
        Answer::Import { epoch, .. } | Answer::RaiseEpoch { epoch } => epoch,
        other => panic!("{other:?}"),
    };
    let again = || Command::Import { file: file.clone(), replace: true };
    assert_eq!(epoch(again(), 0).await, 5, "the file says 3, and its first import made it 4");
    assert_eq!(epoch(Command::RaiseEpoch, 0).await, 6);
    assert_eq!(epoch(again(), 0).await, 7, "above what is stored, not only above what the file says");
    assert_eq!(epoch(again(), 1_790_000_000).await, 1_790_000_000, "and never below the clock");
    // The same copy into another store, a second later: the clock alone keeps the two apart.
    let other = Scene::new("epochs-other");
    let answer = run(&other.place(), &again(), 1_790_000_001).await.unwrap();
    assert!(matches!(answer, Answer::Import { epoch: 1_790_000_001, .. }), "{answer:?}");
}

#[tokio::test]
async fn an_import_deletes_only_when_it_is_told_to() {
    let scene = Scene::new("replace");
    let file = scene.oldest().await;
    scene.put(key::tenant("later"), b"{}").await;
    let error = scene.import(file.clone(), false).await.unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }) && error.code() == 4, "{error}");
    assert!(error.to_string().contains("--replace"), "{error}");
    assert!(scene.stored().await.contains_key("tenant/later"));
    let answer = scene.import(file, true).await.unwrap();
    assert!(matches!(answer, Answer::Import { deleted: 1, .. }), "{answer:?}");
    assert!(!scene.stored().await.contains_key("tenant/later"));
}

#[tokio::test]
async fn a_half_done_import_is_told_and_done_again_without_a_flag() {
    let scene = Scene::new("half");
    let file = scene.oldest().await;
    scene.put(key::import(), br#"{"kind":"import","schema":1,"body":{"records":9}}"#).await;
    assert_eq!(scene.findings().await, [("import".into(), "an import began and did not end".into())]);
    scene.import(file, false).await.unwrap();
    assert_eq!(scene.findings().await, []);
}

#[tokio::test]
async fn the_oldest_export_is_sound_and_is_migrated_once() {
    let scene = Scene::new("migrate");
    scene.oldest().await;
    assert_eq!(scene.findings().await, []);
    let before = scene.stored().await;
    let migrate = async |dry_run: bool| match scene.run(Command::Migrate { dry_run }).await.unwrap() {
        Answer::Migrate { migrated, .. } => migrated,
        other => panic!("{other:?}"),
    };
    let expected = BTreeMap::from([("plan".to_owned(), 1), ("workload".to_owned(), 1)]);
    assert_eq!(migrate(true).await, expected);
    assert_eq!(scene.stored().await, before, "a dry run writes nothing");
    assert_eq!(migrate(false).await, expected);
    assert_eq!(migrate(false).await, BTreeMap::new());
    assert_eq!(scene.findings().await, []);
    let after = scene.stored().await;
    let changed: Vec<&String> =
        after.iter().filter(|(key, value)| before[*key] != **value).map(|(key, _)| key).collect();
    assert_eq!(changed, ["plan/00000000000000000002", "workload/w1"]);
    for (key, value) in &after {
        let shape = shape::of(&Key::stored(key)).unwrap();
        assert_eq!(shape::Shape::schema(value), Some(shape.version), "{key}");
    }
}

#[test]
fn the_oldest_export_has_every_kind_of_record() {
    let kinds: std::collections::BTreeSet<&str> = OLDEST
        .lines()
        .filter_map(|line| line.split_once("\"kind\":\"")?.1.split_once('"').map(|(kind, _)| kind))
        .collect();
    let expected = [
        EpochRecord::KIND,
        TargetRecord::KIND,
        SiteRecord::KIND,
        ModuleRecord::KIND,
        TenantRecord::KIND,
        TenantKeyRecord::KIND,
        OfferingRecord::KIND,
        WorkloadRecord::KIND,
        GrantRecord::KIND,
        LostRecord::KIND,
        WatermarkRecord::KIND,
        HistoryRecord::KIND,
        "request",
        "plan",
        "plan-site",
    ];
    assert_eq!(kinds, expected.into_iter().collect());
}

#[tokio::test]
async fn a_record_of_a_newer_program_stops_a_migration() {
    let scene = Scene::new("newer");
    scene.oldest().await;
    scene.put(key::lost("m1"), br#"{"kind":"lost","schema":9,"body":{}}"#).await;
    let error = scene.run(Command::Migrate { dry_run: false }).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }) && error.code() == 1, "{error}");
    assert!(error.to_string().contains("1 records cannot be read, the first is lost/m1"), "{error}");
}

#[tokio::test]
async fn every_broken_record_is_named_with_what_is_wrong() {
    let scene = Scene::new("fsck");
    scene.oldest().await;
    let check = async |key: Key, value: &[u8], problem: &str| {
        let before = scene.stored().await.get(key.as_str()).cloned();
        scene.put(key.clone(), value).await;
        let findings = scene.findings().await;
        let found = findings.iter().any(|(at, what)| at == key.as_str() && what.contains(problem));
        assert!(found, "{key}: {problem}: {findings:?}");
        match before {
            Some(value) => drop(scene.put(key, &value).await),
            None => drop(scene.run(Command::Delete { key: key.as_str().to_owned() }).await.unwrap()),
        }
        assert_eq!(scene.findings().await, []);
    };
    check(Key::stored("future/x"), b"", "knows no such key").await;
    check(key::site("well-7"), b"not json", "expected").await;
    check(key::site("well-7"), br#"{"kind":"tenant","schema":1,"body":{}}"#, "is a tenant, not a site").await;
    check(key::lost("m1"), br#"{"kind":"lost","schema":2,"body":{}}"#, "its schema is 2").await;
    check(key::target(), br#"{"kind":"target","schema":1,"body":{"generation":9}}"#, "there is no plan 9")
        .await;
    check(
        key::grant("m9"),
        br#"{"kind":"grant","schema":1,"body":{"generation":1,"outstanding":[]}}"#,
        "no module m9",
    )
    .await;
    check(
        key::tenant_key("ff"),
        br#"{"kind":"tenant-key","schema":1,"body":{"tenant":"gone"}}"#,
        "no tenant gone",
    )
    .await;
    let stored = scene.stored().await;
    let site = stored["site/well-7"].clone();
    check(key::site("well-8"), &site, "it holds the id well-7").await;
    scene.run(Command::Delete { key: "plan/00000000000000000001/well-7".into() }).await.unwrap();
    let findings = scene.findings().await;
    let expected = "there is no part plan/00000000000000000001/well-7";
    assert_eq!(findings, [("plan/00000000000000000002".to_owned(), expected.to_owned())]);
}

#[tokio::test]
async fn while_somebody_leads_nothing_is_changed() {
    let scene = Scene::new("led");
    let file = scene.oldest().await;
    let store = scene.0.store();
    let election = Election::new(store.clone(), key::leader(), Clock::boot());
    let leader = election.campaign(b"http://10.0.0.1:7600".to_vec(), TTL).await.unwrap();
    let before = store.range(&Prefix::all()).await.unwrap();
    let desk = Desk { store: store.clone(), name: "s".into(), now: 0 };
    for outcome in
        [desk.raise().await, migrate::run(&desk, false).await, import::run(&desk, &file, true).await]
    {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Led { .. }) && error.code() == 4, "{error}");
        assert!(error.to_string().contains("http://10.0.0.1:7600"), "{error}");
    }
    assert_eq!(store.range(&Prefix::all()).await.unwrap().entries, before.entries);
    // Reading is free.
    assert!(matches!(fsck::run(&desk).await, Ok(Answer::Fsck { .. })));
    leader.resign().await.unwrap();
    desk.raise().await.unwrap();
}

#[tokio::test]
async fn a_leader_that_appears_in_the_middle_stops_an_import() {
    let scene = Scene::new("lost-office");
    scene.oldest().await;
    let desk = Desk { store: scene.0.store(), name: "s".into(), now: 0 };
    let office = desk.office().await.unwrap();
    desk.store.lease_revoke(office.lease().id).await.unwrap();
    let error = desk.write(&office, vec![Op::Delete { key: key::target() }]).await.unwrap_err();
    assert!(matches!(error, Error::Lost), "{error}");
    assert!(desk.store.get(&key::target()).await.unwrap().is_some());
}

#[tokio::test]
async fn what_cannot_be_done_says_why_with_a_stable_code() {
    let scene = Scene::new("errors");
    let check = async |place: Place, command: Command, code: u8, expected: &str| {
        let error = run(&place, &command, LONG_AGO).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    let import = |file: &str| Command::Import { file: scene.file(file), replace: false };
    check(scene.place(), Command::Fsck, 1, "nothing is stored at embedded:").await;
    check(scene.place(), import("none"), 2, "none cannot be read: No such file").await;
    check(Place::at("redis://x"), Command::Fsck, 2, "neither embedded:DIR nor etcd://").await;
    let elsewhere = Place { installation: Some("two".into()), ..scene.place() };
    check(elsewhere, Command::Fsck, 2, "holds one installation").await;
    assert!(!scene.0.path().join("store/store.redb").exists() || scene.stored().await.is_empty());
    let file = scene.oldest().await;
    check(scene.place(), Command::Export { file }, 2, "is there already; choose another name").await;
    check(scene.place(), Command::Delete { key: "no/such".into() }, 1, "no record stands at no/such").await;
    fs::write(scene.file("cut"), &OLDEST[..OLDEST.len() / 2]).unwrap();
    check(
        scene.place(),
        Command::Import { file: scene.file("cut"), replace: true },
        2,
        "the file was cut short",
    )
    .await;
    assert_eq!(scene.findings().await, []);
    let held = scene.0.store();
    check(scene.place(), Command::Fsck, 4, "is held by another process").await;
    drop(held);
    fs::write(scene.0.path().join("store/store.redb"), b"garbage").unwrap();
    check(scene.place(), Command::Fsck, 1, "do not start over it").await;
}
