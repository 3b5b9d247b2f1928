//! The ladder of a module in a plan: the loads that its agent drops on its own, in order, and on what occasion.
//!
//! Read next: `plan.rs` beside this; `control/src/reflex.rs` for the one that acts on it.

use std::collections::BTreeMap;

use api::common::{self, rung::Load};
use api::convert::field::optional_span;
use serde::Serialize;

use super::super::read;
use super::super::show::{frequency, maybe, span, watts, word};
use super::super::table::titled;

const HEADERS: [&str; 8] =
    ["MODULE", ">RUNG", "DROPS", "THROUGH", ">POWER", ">OPENS IN", ">IF LOW BY", "ARMED FOR"];

/// One load that an agent drops on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rung {
    /// `miners`, `pool` or `storage`; `null` when this version does not know the load.
    pub kind: Option<&'static str>,
    /// The miner group or GPU pool; a site has one storage, so it is not named.
    pub id: Option<String>,
    /// `feeder`, `storage`, `cap` or `api`.
    pub actuator: Option<String>,
    /// What it was drawing when the plan was made.
    pub watts: i64,
    /// Measured time from the command to no current.
    pub opens_milliseconds: Option<i64>,
    /// It opens without a command when frequency is this far below what the governor leads to expect.
    pub below_millihertz: i64,
    /// The losses for which it opens at once, by id.
    pub armed_for: Vec<String>,
}

/// The ladder of a module, with what each rung is armed for.
pub fn ladder(ladder: Vec<common::Rung>, armed: &BTreeMap<String, common::RungSet>) -> Vec<Rung> {
    let armed_for = |index: usize| {
        let opens = |set: &common::RungSet| set.rungs.iter().any(|rung| usize::try_from(*rung) == Ok(index));
        armed.iter().filter(|(_, set)| opens(set)).map(|(id, _)| id.clone()).collect()
    };
    let rung = |(index, rung): (usize, common::Rung)| {
        let (kind, id) = match rung.load {
            Some(Load::Miners(id)) => (Some("miners"), Some(id)),
            Some(Load::Pool(id)) => (Some("pool"), Some(id)),
            Some(Load::Storage(_)) => (Some("storage"), None),
            None => (None, None),
        };
        let actuator = common::Actuator::try_from(rung.actuator).map(|actuator| actuator.as_str_name());
        Rung {
            kind,
            id,
            actuator: read::word(actuator, "ACTUATOR_"),
            watts: rung.watts,
            opens_milliseconds: read::millis(optional_span(rung.opens, "opens")),
            below_millihertz: rung.below_millihertz,
            armed_for: armed_for(index),
        }
    };
    ladder.into_iter().enumerate().map(rung).collect()
}

/// A line a rung of each module, under a title.
pub fn table<'a>(title: &str, modules: impl Iterator<Item = (&'a str, &'a [Rung])>) -> String {
    let row = |module: &str, index: usize, rung: &Rung| {
        let drops = rung.kind.map(|kind| match rung.id.as_deref() {
            Some(id) => format!("{kind} {id}"),
            None => kind.to_owned(),
        });
        vec![
            module.to_owned(),
            index.to_string(),
            word(&drops),
            word(&rung.actuator),
            watts(rung.watts),
            maybe(rung.opens_milliseconds, span),
            frequency(rung.below_millihertz),
            rung.armed_for.join(" "),
        ]
    };
    let rows = modules.flat_map(|(module, ladder)| {
        ladder.iter().enumerate().map(move |(index, rung)| row(module, index, rung)).collect::<Vec<_>>()
    });
    titled(title, &HEADERS, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_names_every_loss_it_is_armed_for_in_order_of_id() {
        let armed = [("loss-g2", vec![0, 1]), ("loss-g1", vec![1]), ("loss-g3", vec![7])];
        let armed = armed.into_iter().map(|(id, rungs)| (id.to_owned(), common::RungSet { rungs })).collect();
        let rungs = ladder(vec![common::Rung::default(); 3], &armed);
        let found: Vec<String> = rungs.iter().map(|rung| rung.armed_for.join(" ")).collect();
        assert_eq!(found, ["loss-g2", "loss-g1 loss-g2", ""]);
    }
}
