//! GPUs or kilowatts: in JSON a field of either name, in tables a number or `500 kW`.
//!
//! The two are never added and never shown under one another's name. Read next: `model::shell`.

use std::fmt;

use model::SoldBy;
use serde::Serialize;

use super::show::gpu_time;

/// So many of a type. Exactly one of the fields is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Units<T> {
    /// GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<T>,
    /// Kilowatts of powered shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kilowatts: Option<T>,
}

impl<T> Units<T> {
    /// So many of this type.
    pub fn of(kind: &str, units: T) -> Self {
        match SoldBy::of(kind) {
            SoldBy::Gpu => Self { gpus: Some(units), kilowatts: None },
            SoldBy::Kilowatt => Self { gpus: None, kilowatts: Some(units) },
        }
    }
}

impl<T: fmt::Display> Units<T> {
    /// For a column of GPUs: `8`, `500 kW`.
    pub fn cell(&self) -> String {
        match (&self.gpus, &self.kilowatts) {
            (Some(gpus), _) => gpus.to_string(),
            (None, Some(kilowatts)) => SoldBy::Kilowatt.count(kilowatts),
            (None, None) => String::new(),
        }
    }

    /// With its type: `8 x h100`, `500 kW`, `500 kW (kilowatt-liquid)`.
    pub fn named(&self, kind: &str) -> String {
        match SoldBy::of(kind) {
            SoldBy::Gpu => format!("{} x {kind}", self.cell()),
            SoldBy::Kilowatt if kind == model::shell::KILOWATT => self.cell(),
            SoldBy::Kilowatt => format!("{} ({kind})", self.cell()),
        }
    }
}

/// Time of units: `12.5 GPU-h`, `12.5 kW-h`.
pub fn unit_time(kind: &str, milliseconds: i64) -> String {
    match SoldBy::of(kind) {
        SoldBy::Gpu => gpu_time(milliseconds),
        SoldBy::Kilowatt => gpu_time(milliseconds).replace("GPU-h", "kW-h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilowatts_never_read_as_gpus() {
        let check = |kind: &str, cell: &str, named: &str, json: &str, time: &str| {
            let units = Units::of(kind, 500);
            assert_eq!((units.cell().as_str(), units.named(kind).as_str()), (cell, named));
            assert_eq!(serde_json::to_string(&units).expect("plain data"), json);
            assert_eq!(unit_time(kind, 45_000_000), time);
        };
        check("h100", "500", "500 x h100", r#"{"gpus":500}"#, "12.5 GPU-h");
        check("kilowatt", "500 kW", "500 kW", r#"{"kilowatts":500}"#, "12.5 kW-h");
        let liquid = "500 kW (kilowatt-liquid)";
        check("kilowatt-liquid", "500 kW", liquid, r#"{"kilowatts":500}"#, "12.5 kW-h");
    }
}
