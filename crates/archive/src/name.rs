//! Where files lie: by table, and by the hour in which their lines begin.
//!
//! `fresh/TABLE/date=YYYY-MM-DD/hour=HH/MODULE-FIRST-LAST.parquet` while an hour fills, and
//! `hour/TABLE/date=YYYY-MM-DD/hour=HH/DIGEST.parquet` once it is over. A name says what is in its file, so writing it again changes
//! nothing. Pure. Read next: `pass.rs`, `merge.rs`.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use model::{ModuleId, Span, Time};

use crate::table::Table;

/// 9999-12-30 21:59:59.999, within what calendars of every time zone can say. Lines that a lost clock dates before 1970 or after it
/// lie in the nearest hour that has a name; their own columns keep what the line says.
const LAST: Time = Time(253_402_207_199_999);

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Small files, one for each stretch of a module's segments.
    Fresh,
    /// Merged.
    Hour,
}

/// One hour of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Which table.
    pub table: Table,
    /// The hour's begin.
    pub hour: Time,
}

impl Stage {
    /// Its folder's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Hour => "hour",
        }
    }
}

impl Partition {
    /// Where a line belongs.
    pub fn of(table: Table, line: Time) -> Self {
        let within = Time(line.millis().clamp(0, LAST.millis()));
        Self { table, hour: within.floor_to(Span::hours(1)) }
    }

    /// The folder of its files.
    pub fn folder(&self, stage: Stage) -> String {
        let at = Timestamp::from_millisecond(self.hour.millis()).expect("`of` keeps it within 1970 to 9999");
        let at = TimeZone::UTC.to_datetime(at);
        let (stage, table) = (stage.name(), self.table.name());
        format!("{stage}/{table}/date={}/hour={:02}", at.date(), at.hour())
    }

    /// The file of a stretch of a module's segments. Twelve digits, as in the ledger's own names.
    pub fn fresh(&self, module: &ModuleId, first: u64, last: u64) -> String {
        format!("{}/{module}-{first:012}-{last:012}.parquet", self.folder(Stage::Fresh))
    }

    /// The file of merged rows.
    pub fn merged(&self, digest: &str) -> String {
        format!("{}/{digest}.parquet", self.folder(Stage::Hour))
    }

    /// Reads a folder's last two parts back; `None` for a folder of somebody else.
    pub fn parse(table: Table, date: &str, hour: &str) -> Option<Self> {
        let date: Date = date.strip_prefix("date=")?.parse().ok()?;
        let hour: i8 = hour.strip_prefix("hour=")?.parse().ok()?;
        let at = DateTime::from_parts(date, jiff::civil::Time::new(hour, 0, 0, 0).ok()?);
        let at = TimeZone::UTC.to_timestamp(at).ok()?;
        Some(Self { table, hour: Time(at.as_millisecond()) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_lies_in_the_hour_in_which_it_begins() {
        let check = |at: &str, expected: &str| {
            let at: Timestamp = at.parse().unwrap();
            let partition = Partition::of(Table::Run, Time(at.as_millisecond()));
            assert_eq!(partition.folder(Stage::Hour), format!("hour/run/{expected}"), "{at}");
            let mut parts = expected.split('/');
            let parsed = Partition::parse(Table::Run, parts.next().unwrap(), parts.next().unwrap());
            assert_eq!(parsed, Some(partition), "{expected}");
        };
        check("2026-11-23T15:00:00Z", "date=2026-11-23/hour=15");
        check("2026-11-23T15:59:59.999Z", "date=2026-11-23/hour=15");
        check("2026-11-23T23:30:00-02:00", "date=2026-11-24/hour=01");
        check("2028-02-29T00:00:00Z", "date=2028-02-29/hour=00");
        check("1969-12-31T23:59:59Z", "date=1970-01-01/hour=00");
        check("9999-12-30T21:30:00Z", "date=9999-12-30/hour=21");
    }

    #[test]
    fn a_clock_that_is_lost_keeps_a_name() {
        let name = |at: i64| Partition::of(Table::Gap, Time(at)).folder(Stage::Fresh);
        assert_eq!(name(i64::MIN), "fresh/gap/date=1970-01-01/hour=00");
        assert_eq!(name(i64::MAX), "fresh/gap/date=9999-12-30/hour=21");
    }

    #[test]
    fn names_say_what_is_inside() {
        let partition = Partition::of(Table::Energy, Time(3_600_000));
        let module = ModuleId::new("pad-7").unwrap();
        assert_eq!(
            partition.fresh(&module, 9, 120),
            "fresh/energy/date=1970-01-01/hour=01/pad-7-000000000009-000000000120.parquet"
        );
        assert_eq!(partition.merged("00ff"), "hour/energy/date=1970-01-01/hour=01/00ff.parquet");
    }

    #[test]
    fn folders_of_others_are_left_alone() {
        for (date, hour) in [
            ("2026-11-23", "hour=1"),
            ("date=2026-13-01", "hour=1"),
            ("date=2026-11-23", "hour=24"),
            ("", ""),
        ] {
            assert_eq!(Partition::parse(Table::Gas, date, hour), None, "{date} {hour}");
        }
    }
}
