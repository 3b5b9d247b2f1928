//! The outlook: three days ahead, from the input of the latest round.
//!
//! It costs some hundred snapshots of each island, so it is computed when it is asked for, on a thread that decides nothing, and one
//! at a time. Read next: `planner::outlook`.

use std::sync::Arc;

use api::common;
use api::convert::field::{id, wire_time};
use api::operator as wire;
use api::problem::{Kind, Problem};
use model::SiteId;
use planner::outlook::{Drain, Four, Saleable, SiteOutlook, Start, Supply};
use planner::{Assumptions, outlook};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::context::Context;

/// What lies ahead of one site, or of all.
pub(super) async fn get(context: &Context, turn: &Semaphore, site: &str) -> Result<wire::Outlook, Problem> {
    let only: Option<SiteId> = if site.is_empty() { None } else { Some(id(site, "site")?) };
    let round = context.live.borrow().round().cloned();
    let Some(round) = round else {
        return Err(Problem::new(
            Kind::NotFound,
            "there is no plan of this leader yet; ask again in a minute",
        ));
    };
    if let Some(only) = only.as_ref().filter(|only| !round.input.sites.contains_key(*only)) {
        return Err(Problem::not_found(format!(
            "there is no site {only}; `site list` shows which there are"
        )));
    }
    let _turn =
        turn.acquire().await.map_err(|_| Problem::new(Kind::Unavailable, "this controller is ending"))?;
    let asked = Arc::clone(&round);
    let computed =
        spawn_blocking(move || outlook(&asked.input, &Assumptions::default(), only.as_ref())).await;
    let ahead =
        computed.map_err(|error| Problem::new(Kind::Internal, format!("the outlook failed: {error}")))?;
    Ok(wire::Outlook {
        made: wire_time(ahead.made),
        generation: round.plan.generation,
        sites: ahead.sites.into_iter().map(|(id, ahead)| site_outlook(&id, ahead)).collect(),
    })
}

fn site_outlook(id: &SiteId, ahead: SiteOutlook) -> wire::SiteOutlook {
    let SiteOutlook { power, supply, drains, megawatt_hour, set_on } = ahead;
    let drain = |(id, Drain { loss, best }): (model::ModuleId, Drain)| wire::DrainOutlook {
        module: id.to_string(),
        loss_micro_dollars: loss.into_iter().map(model::MicroDollars::get).collect(),
        best_hour: best,
    };
    wire::SiteOutlook {
        site: id.to_string(),
        power: power.into_iter().map(power_quantiles).collect(),
        supply: supply.into_iter().map(gpu_supply).collect(),
        drains: drains.into_iter().map(drain).collect(),
        megawatt_hour_micro_dollars: megawatt_hour.into_iter().map(model::MicroDollars::get).collect(),
        set_on_micro_dollars: set_on.into_iter().map(|(id, worth)| (id.to_string(), worth.get())).collect(),
    }
}

fn gpu_supply(Supply { gpu, tier, hours, starts }: Supply) -> wire::GpuSupply {
    let hour = |Saleable { gpus, short, least_price }: Saleable| wire::SaleableHour {
        gpus: Some(gpu_quantiles(gpus)),
        short: short.map(|short| short.as_str().to_owned()).unwrap_or_default(),
        least_price_micro_dollars: least_price.map(model::MicroDollars::get),
    };
    let start = |Start { gpus, hour }: Start| wire::GangStart {
        gpus,
        hour_p1: hour.p1,
        hour_p10: hour.p10,
        hour_p50: hour.p50,
        hour_p90: hour.p90,
    };
    wire::GpuSupply {
        gpu,
        tier: common::Tier::from(tier).into(),
        hours: hours.into_iter().map(hour).collect(),
        starts: starts.into_iter().map(start).collect(),
    }
}

fn power_quantiles(Four { p1, p10, p50, p90 }: Four<model::Watts>) -> wire::PowerQuantiles {
    wire::PowerQuantiles {
        p1_watts: p1.get(),
        p10_watts: p10.get(),
        p50_watts: p50.get(),
        p90_watts: p90.get(),
    }
}

fn gpu_quantiles(Four { p1, p10, p50, p90 }: Four<u32>) -> wire::GpuQuantiles {
    wire::GpuQuantiles { p1, p10, p50, p90 }
}
