//! Offerings: what tenants can buy.

use api::common;
use api::convert::field::optional_span;
use model::SoldBy;
use serde::Serialize;

use super::quote::fine;
use super::show::{self, maybe, money, span, word};
use super::table::list;
use super::{View, read};

/// Columns of a list of offerings.
const HEADERS: [&str; 7] =
    ["OFFERING", "TIER", "GPU", ">PRICE A GPU-HOUR", ">NOTICE", ">PROMISED", ">SLOWED TO"];

/// What is sold, at a list price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offering {
    /// Its id.
    pub offering: String,
    /// `firm`, `on-demand` or `spot`.
    pub tier: Option<String>,
    /// The GPU's type, or `kilowatt`.
    pub gpu: String,
    /// Price of a GPU-hour, or of a kilowatt for an hour.
    pub price_micro_dollars_per_gpu_hour: i64,
    /// Shortest warning before a preemption.
    pub notice_milliseconds: Option<i64>,
    /// Promised availability over a month, in thousandths; 0 where nothing is promised.
    pub sla_permille: u32,
    /// The least pace, in thousandths, to which work may be held while power is short; absent = it is never slowed.
    pub floor_permille: Option<i64>,
}

/// All offerings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct List {
    /// In order of id.
    pub offerings: Vec<Offering>,
}

impl Offering {
    fn row(&self) -> Vec<String> {
        let promised = match self.sla_permille {
            0 => "nothing".to_owned(),
            permille => show::percent(permille.into(), 1e3),
        };
        vec![
            self.offering.clone(),
            word(&self.tier),
            self.gpu.clone(),
            self.price(),
            maybe(self.notice_milliseconds, span),
            promised,
            maybe(self.floor_permille, |floor| show::percent(floor as f64, 1e3)),
        ]
    }
}

impl Offering {
    /// A kilowatt costs cents, so they have decimals, and it is said that it is no GPU.
    fn price(&self) -> String {
        match SoldBy::of(&self.gpu) {
            SoldBy::Gpu => money(self.price_micro_dollars_per_gpu_hour),
            SoldBy::Kilowatt => format!("{} a kW-hour", fine(self.price_micro_dollars_per_gpu_hour)),
        }
    }
}

impl View for List {
    fn table(&self) -> String {
        let none = "No offerings; add [[offering]] to the fleet file (docs/fleet.md).";
        list(&HEADERS, self.offerings.iter().map(Offering::row).collect(), none)
    }
}

impl From<common::Offering> for Offering {
    fn from(offering: common::Offering) -> Self {
        Self {
            offering: offering.id,
            tier: read::tier(offering.tier),
            gpu: offering.gpu,
            price_micro_dollars_per_gpu_hour: offering.price_micro_dollars_per_gpu_hour,
            notice_milliseconds: read::millis(optional_span(offering.notice, "notice")),
            sla_permille: offering.sla_permille,
            floor_permille: offering.floor_permille,
        }
    }
}
