//! A quote: what a request costs, how likely it is interrupted, whether it can be promised, and what could be had instead.

use api::common as shared;
use api::convert::field::{optional_span, optional_time};
use api::operator as wire;
use model::SoldBy;
use serde::Serialize;

use super::show::{self, maybe, span, word};
use super::table::{pairs, titled};
use super::units::Units;
use super::{View, read};

/// Columns of what would be admitted instead.
const INSTEAD: [&str; 6] = ["TIER", ">GPUS", ">PROMISED", "SITE", ">LEAST PRICE", ">INTERRUPTED"];
/// Columns of the promises already given.
const PROMISES: [&str; 4] = ["WORKLOAD", ">PROMISED", ">KEPT WITHOUT", ">KEPT BESIDE"];

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quote {
    /// The GPU's type, or `kilowatt`.
    pub gpu: String,
    /// GPUs that run together, or kilowatts.
    #[serde(flatten)]
    pub units: Units<u32>,
    /// `firm`, `on-demand` or `spot`.
    pub tier: Option<String>,
    /// How long it runs.
    pub term_milliseconds: Option<i64>,
    /// Availability promised, in thousandths.
    pub level_permille: u32,
    /// It would be admitted.
    pub offered: bool,
    /// Why it would not.
    pub refused: Option<Refusal>,
    /// Why not even a single firm GPU would be.
    pub nothing_firm: Option<Refusal>,
    /// Where it would run.
    pub site: Option<String>,
    /// What a GPU-hour, or a kilowatt for an hour, costs there.
    pub price: Option<Price>,
    /// How it would fare there.
    pub odds: Option<Odds>,
    /// When it would start.
    pub start: Option<StartInterval>,
    /// What would be admitted instead.
    pub instead: Vec<Alternative>,
    /// What becomes of the promises already given, by rank.
    pub promises: Vec<Kept>,
    /// The plan whose input it was computed from.
    pub generation: u64,
    /// The input, with what was ordered since: the same revision and question have the same answer.
    pub revision: String,
    /// Futures that were drawn.
    pub draws: u32,
    /// When the input was taken.
    pub made: Option<String>,
    /// Good until then.
    pub valid_until: Option<String>,
}

/// Why a request is not offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// A stable code.
    pub code: String,
    /// The same in words.
    pub why: String,
}

/// What a GPU-hour costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Price {
    /// The least to ask.
    pub gpu_hour_micro_dollars: i64,
    /// Gas, and mining that its watts displace.
    pub power_micro_dollars: i64,
    /// The dearest spot run that gives way.
    pub displaced_micro_dollars: i64,
    /// Margin on both.
    pub margin_micro_dollars: i64,
    /// Expected credits.
    pub credits_micro_dollars: i64,
}

/// How a request would fare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Odds {
    /// Probability that it is not served for an hour or more.
    pub interrupted: Option<Estimate>,
    /// Probability that it moves to another site.
    pub moved: Option<Estimate>,
    /// Share of the term in which it is served.
    pub availability: Option<Estimate>,
    /// Probability that the term is not served by the deadline.
    pub late: Option<Estimate>,
    /// Expected credits, in thousandths of what the term costs.
    pub credits_permille: u32,
}

/// A figure in millionths, and the standard error of its estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// Millionths.
    pub ppm: u64,
    /// Standard error.
    pub error_ppm: u64,
}

/// Whole hours until it would start; `null` = not within three days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StartInterval {
    /// With much supply.
    pub earliest_hours: Option<u32>,
    /// At the median.
    pub median_hours: Option<u32>,
    /// With little supply.
    pub latest_hours: Option<u32>,
}

/// What would be admitted instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alternative {
    /// `firm`, `on-demand` or `spot`.
    pub tier: Option<String>,
    /// GPUs, or kilowatts.
    #[serde(flatten)]
    pub units: Units<u32>,
    /// Availability promised, in thousandths.
    pub level_permille: u32,
    /// Where it would run.
    pub site: String,
    /// The least to ask.
    pub gpu_hour_micro_dollars: i64,
    /// Probability that it is not served for an hour or more.
    pub interrupted: Option<Estimate>,
}

/// What becomes of a promise already given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Whose it is.
    pub workload: String,
    /// Availability promised, in millionths.
    pub level_ppm: u64,
    /// What is kept without the request.
    pub before: Option<Estimate>,
    /// What is kept beside it.
    pub after: Option<Estimate>,
}

/// Millionths as a percentage.
pub fn of_million(ppm: u64) -> String {
    format!("{:.2}%", ppm as f64 / 1e4)
}

/// Thousandths as a percentage; nothing promised is a dash.
pub fn level(permille: u32) -> String {
    maybe(Some(permille).filter(|permille| *permille > 0), |permille| {
        format!("{:.1}%", f64::from(permille) / 10.0)
    })
}

impl Estimate {
    /// The figure with its standard error.
    pub fn show(self) -> String {
        format!("{} ± {}", of_million(self.ppm), of_million(self.error_ppm))
    }
}

impl StartInterval {
    /// The interval, early to late.
    pub fn show(self) -> String {
        let hour = |hour: Option<u32>| match hour {
            Some(0) => "now".to_owned(),
            Some(hour) => format!("in {hour}h"),
            None => "not within 72h".to_owned(),
        };
        let [early, median, late] = [self.earliest_hours, self.median_hours, self.latest_hours].map(hour);
        if early == late { early } else { format!("{median} (p10 {early}, p90 {late})") }
    }
}

impl Price {
    fn show(&self, sold: SoldBy) -> String {
        let part = |name: &str, amount: i64| match amount {
            0 => String::new(),
            amount => format!(", {name} {}", fine(amount)),
        };
        format!(
            "{} a {}: power {}{}{}{}",
            fine(self.gpu_hour_micro_dollars),
            sold.hour(),
            fine(self.power_micro_dollars),
            part("gives way", self.displaced_micro_dollars),
            part("margin", self.margin_micro_dollars),
            part("credits", self.credits_micro_dollars)
        )
    }
}

/// Money with four decimals: a GPU's power costs cents.
pub fn fine(micro_dollars: i64) -> String {
    format!("${:.4}", micro_dollars as f64 / 1e6)
}

fn estimate(estimate: Option<Estimate>) -> String {
    maybe(estimate, Estimate::show)
}

impl Quote {
    fn verdict(&self) -> String {
        match (&self.refused, &self.nothing_firm) {
            (None, _) => "yes".into(),
            (Some(_), Some(why)) => format!("no, nothing firm: {} ({})", why.why, why.code),
            (Some(why), None) => format!("no: {} ({})", why.why, why.code),
        }
    }

    fn odds(&self) -> Vec<(&'static str, String)> {
        let Some(odds) = &self.odds else { return Vec::new() };
        let credits = match odds.credits_permille {
            0 => String::new(),
            permille => format!("{} of the price", level(permille)),
        };
        vec![
            ("Interrupted", estimate(odds.interrupted)),
            ("Moved", estimate(odds.moved)),
            ("Served", format!("{} of the term", estimate(odds.availability))),
            ("Late", estimate(odds.late)),
            ("Credits", credits),
        ]
    }
}

impl View for Quote {
    fn table(&self) -> String {
        let asked = format!("{}, {}", self.units.named(&self.gpu), word(&self.tier));
        let sold = SoldBy::of(&self.gpu);
        let mut head = vec![
            ("Request", format!("{asked}, for {}", maybe(self.term_milliseconds, span))),
            ("Promised", level(self.level_permille)),
            ("Offered", self.verdict()),
            ("Site", self.site.clone().unwrap_or_default()),
            ("Least price", self.price.as_ref().map(|price| price.show(sold)).unwrap_or_default()),
        ];
        head.extend(self.odds());
        head.extend([
            ("Starts", maybe(self.start, StartInterval::show)),
            ("Plan", format!("{}, {} futures drawn", self.generation, self.draws)),
            ("Valid until", show::moment(&self.valid_until)),
        ]);
        let instead = self.instead.iter().map(|other| {
            let interrupted = estimate(other.interrupted);
            let price = fine(other.gpu_hour_micro_dollars);
            let promised = level(other.level_permille);
            vec![word(&other.tier), other.units.cell(), promised, other.site.clone(), price, interrupted]
        });
        let promises = self.promises.iter().map(|kept| {
            vec![
                kept.workload.clone(),
                of_million(kept.level_ppm),
                estimate(kept.before),
                estimate(kept.after),
            ]
        });
        pairs(&head)
            + &titled("Would be admitted instead", &INSTEAD, instead.collect())
            + &titled("Promises already given", &PROMISES, promises.collect())
    }
}

impl From<wire::Quote> for Quote {
    fn from(quote: wire::Quote) -> Self {
        Self {
            tier: read::tier(quote.tier),
            units: Units::of(&quote.gpu, quote.gpus),
            term_milliseconds: read::millis(optional_span(quote.term, "term")),
            level_permille: quote.level_permille,
            offered: quote.offered,
            refused: quote.refused.map(Refusal::from),
            nothing_firm: quote.nothing_firm.map(Refusal::from),
            site: read::text(quote.site),
            price: quote.price.map(Price::from),
            odds: quote.odds.map(Odds::from),
            start: quote.start.map(StartInterval::from),
            instead: quote.instead.into_iter().map(|other| Alternative::of(&quote.gpu, other)).collect(),
            gpu: quote.gpu,
            promises: quote.promises.into_iter().map(Kept::from).collect(),
            generation: quote.generation,
            revision: quote.revision,
            draws: quote.draws,
            made: read::moment(optional_time(quote.made, "made")),
            valid_until: read::moment(optional_time(quote.valid_until, "valid_until")),
        }
    }
}

impl From<wire::Refusal> for Refusal {
    fn from(wire::Refusal { code, why }: wire::Refusal) -> Self {
        Self { code, why }
    }
}

impl From<wire::QuotePrice> for Price {
    fn from(price: wire::QuotePrice) -> Self {
        Self {
            gpu_hour_micro_dollars: price.gpu_hour_micro_dollars,
            power_micro_dollars: price.power_micro_dollars,
            displaced_micro_dollars: price.displaced_micro_dollars,
            margin_micro_dollars: price.margin_micro_dollars,
            credits_micro_dollars: price.credits_micro_dollars,
        }
    }
}

impl From<wire::QuoteOdds> for Odds {
    fn from(odds: wire::QuoteOdds) -> Self {
        Self {
            interrupted: odds.interrupted.map(Estimate::from),
            moved: odds.moved.map(Estimate::from),
            availability: odds.availability.map(Estimate::from),
            late: odds.late.map(Estimate::from),
            credits_permille: odds.credits_permille,
        }
    }
}

impl From<shared::Estimate> for Estimate {
    fn from(shared::Estimate { ppm, error_ppm }: shared::Estimate) -> Self {
        Self { ppm, error_ppm }
    }
}

impl From<shared::StartInterval> for StartInterval {
    fn from(start: shared::StartInterval) -> Self {
        let shared::StartInterval { earliest_hours, median_hours, latest_hours } = start;
        Self { earliest_hours, median_hours, latest_hours }
    }
}

impl Alternative {
    fn of(kind: &str, other: wire::QuoteAlternative) -> Self {
        Self {
            tier: read::tier(other.tier),
            units: Units::of(kind, other.gpus),
            level_permille: other.level_permille,
            site: other.site,
            gpu_hour_micro_dollars: other.gpu_hour_micro_dollars,
            interrupted: other.interrupted.map(Estimate::from),
        }
    }
}

impl From<wire::KeptPromise> for Kept {
    fn from(kept: wire::KeptPromise) -> Self {
        Self {
            workload: kept.workload,
            level_ppm: kept.level_ppm,
            before: kept.before.map(Estimate::from),
            after: kept.after.map(Estimate::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_for_kilowatts_names_no_gpus() {
        let price = wire::QuotePrice { gpu_hour_micro_dollars: 91_300, ..Default::default() };
        let other = wire::QuoteAlternative { gpus: 250, site: "well-7".into(), ..Default::default() };
        let (gpu, gpus) = ("kilowatt".to_owned(), 500);
        let asked = wire::Quote { gpu, gpus, price: Some(price), instead: vec![other], ..Default::default() };
        let quote = Quote::from(asked);
        let table = quote.table();
        for said in ["500 kW, ", "$0.0913 a kW-hour", "250 kW"] {
            assert!(table.contains(said), "{said}: {table}");
        }
        let json = serde_json::to_value(&quote).expect("plain data");
        assert_eq!((&json["kilowatts"], &json["gpus"]), (&500.into(), &serde_json::Value::Null));
        assert_eq!(json["instead"][0]["kilowatts"], 250);
    }

    #[test]
    fn figures_carry_their_error_and_levels_their_decimals() {
        assert_eq!(Estimate { ppm: 31_250, error_ppm: 4_000 }.show(), "3.12% ± 0.40%");
        assert_eq!((level(999), level(0)), ("99.9%".to_owned(), "-".to_owned()));
    }

    #[test]
    fn a_start_is_told_as_an_interval_where_it_is_one() {
        let check = |hours: [Option<u32>; 3], expected: &str| {
            let [earliest_hours, median_hours, latest_hours] = hours;
            assert_eq!(StartInterval { earliest_hours, median_hours, latest_hours }.show(), expected);
        };
        check([Some(0); 3], "now");
        check([Some(0), Some(3), None], "in 3h (p10 now, p90 not within 72h)");
        check([None; 3], "not within 72h");
    }
}
