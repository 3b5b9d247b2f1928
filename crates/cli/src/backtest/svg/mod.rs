//! A picture of a back-test: for each strategy revenue a day by source and gas a day by use, stacked, all panels of a column on one
//! scale; below them the share of revenue outside mining of all strategies.
//!
//! Plain SVG 1.1 with coordinates in tenths of a pixel, so that the same figures give the same bytes. Read next: [`panel`].

mod panel;

use std::fmt::Write as _;

use ::backtest::{Comparison, Kind, Outcome, Tally};
use model::MicroDollars;

use super::csv::midnight;
use crate::dev::scenario::day;
use panel::{Frame, Source};

/// Width of the picture, height of a panel, and the room around panels, in pixels.
const WIDTH: i64 = 1_080;
const PANEL: i64 = 120;
const HEAD: i64 = 76;
const GAP: i64 = 46;
/// Left edges and widths of the two columns.
const REVENUE: (i64, i64) = (80, 560);
const GAS: (i64, i64) = (730, 330);
/// Most bars of a panel: more days than this are put together, so that a bar is one pixel wide at least.
const MOST_BARS: usize = 300;

/// Sources of revenue from the bottom of a bar to its top, in cents.
const SOURCES: [Source; 4] =
    [("mining", "#e0992f"), ("firm", "#173f5f"), ("on-demand", "#20639b"), ("spot", "#8fb8de")];
/// What becomes of gas, in cubic feet.
const USES: [Source; 2] = [("burnt", "#4c8c4a"), ("flared", "#c0392b")];

/// The picture.
pub fn plot(compared: &Comparison) -> String {
    let panels = i64::try_from(compared.strategies.len()).unwrap_or(0);
    let height = HEAD + (panels + 1) * (PANEL + GAP) + 30;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    heading(&mut svg, REVENUE.0, "Revenue, $ a day", &SOURCES);
    heading(&mut svg, GAS.0, "Gas, Mscf a day", &USES);
    let outcomes = || compared.strategies.iter().map(|scored| &scored.outcome);
    let revenue: Vec<_> = outcomes().map(|outcome| bars(&outcome.days, revenue)).collect();
    let gas: Vec<_> = outcomes().map(|outcome| bars(&outcome.days, gas)).collect();
    let most = (panel::most(&revenue, 100), panel::most(&gas, 1_000));
    for (index, outcome) in outcomes().enumerate() {
        let top = HEAD + i64::try_from(index).unwrap_or(0) * (PANEL + GAP);
        title(&mut svg, outcome, top);
        let frame = |(left, width): (i64, i64)| Frame { left, top, width, height: PANEL };
        panel::scale(&mut svg, frame(REVENUE), &|part| format!("${}", most.0 * part / 200));
        panel::stacks(&mut svg, frame(REVENUE), &revenue[index], (&SOURCES, most.0));
        panel::scale(&mut svg, frame(GAS), &|part| format!("{}", most.1 * part / 2_000));
        panel::stacks(&mut svg, frame(GAS), &gas[index], (&USES, most.1));
        dates(&mut svg, frame(REVENUE), outcome);
        dates(&mut svg, frame(GAS), outcome);
    }
    shares(&mut svg, compared, HEAD + panels * (PANEL + GAP) + 26);
    svg.push_str("</svg>\n");
    svg
}

/// What a column shows, and the legend below it.
fn heading(svg: &mut String, left: i64, text: &str, sources: &[Source]) {
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"24\" font-size=\"16\">{text}</text>");
    panel::legend(svg, (left, 44), sources);
}

fn title(svg: &mut String, outcome: &Outcome, top: i64) {
    let net = outcome.total.money.net().get() / 1_000_000;
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" font-weight=\"bold\">{}<tspan dx=\"10\" font-weight=\"normal\" fill=\"#555555\">net ${net} in {} \
         days</tspan></text>",
        REVENUE.0,
        top - 6,
        outcome.strategy,
        outcome.days.len()
    );
}

fn dates(svg: &mut String, frame: Frame, outcome: &Outcome) {
    let last = midnight(outcome.start, outcome.days.len().saturating_sub(1));
    for (x, anchor, at) in [(frame.left, "start", outcome.start), (frame.left + frame.width, "end", last)] {
        let y = frame.top + frame.height + 14;
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" fill=\"#555555\" font-size=\"10\">{}</text>",
            day(at)
        );
    }
}

/// A line a strategy: its share of revenue outside mining. A strategy that earns nothing has none.
fn shares(svg: &mut String, compared: &Comparison, top: i64) {
    let frame = Frame { left: REVENUE.0, top, width: GAS.0 + GAS.1 - REVENUE.0, height: PANEL };
    let y = top - 26;
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{y}\" font-size=\"16\">Revenue outside mining, %</text>",
        frame.left
    );
    let legend: Vec<Source> = compared
        .strategies
        .iter()
        .map(|scored| (scored.outcome.strategy.as_str(), colour(scored.outcome.strategy)))
        .collect();
    panel::legend(svg, (frame.left, top - 8), &legend);
    panel::scale(svg, frame, &|part| format!("{} %", part * 50));
    for scored in &compared.strategies {
        let points: Vec<Option<i64>> = bars(&scored.outcome.days, revenue)
            .iter()
            .map(|bar| {
                let all: i64 = bar.iter().sum();
                (all > 0).then(|| (all - bar[0]) * 1_000 / all)
            })
            .collect();
        panel::line(svg, frame, &points, colour(scored.outcome.strategy));
    }
    if let Some(scored) = compared.strategies.first() {
        dates(svg, frame, &scored.outcome);
    }
}

const fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::MiningOnly => "#e0992f",
        Kind::AiOnly => "#8fb8de",
        Kind::StaticSplit => "#7a7a7a",
        Kind::Greedy => "#a05195",
        Kind::Flareshift => "#173f5f",
    }
}

/// Cents by source, summed over some days; what was paid back beyond what was earned counts as nothing.
fn revenue(days: &[Tally]) -> Vec<i64> {
    let sum = |of: fn(&Tally) -> MicroDollars| {
        days.iter().map(of).sum::<MicroDollars>().at_least_zero().get() / 10_000
    };
    vec![
        sum(|day| day.money.mining),
        sum(|day| day.money.firm),
        sum(|day| day.money.on_demand),
        sum(|day| day.money.spot),
    ]
}

/// Cubic feet by use, summed over some days.
fn gas(days: &[Tally]) -> Vec<i64> {
    let sum = |of: fn(&Tally) -> i64| days.iter().map(of).sum::<i64>().max(0);
    vec![sum(|day| day.gas.burnt.get()), sum(|day| day.gas.flared.get())]
}

/// The mean day of each bar.
fn bars(days: &[Tally], of: impl Fn(&[Tally]) -> Vec<i64>) -> Vec<Vec<i64>> {
    let each = days.len().div_ceil(MOST_BARS).max(1);
    let mean = |days: &[Tally]| {
        let count = i64::try_from(days.len()).unwrap_or(1).max(1);
        of(days).into_iter().map(|sum| sum / count).collect()
    };
    days.chunks(each).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::panel::tenths;
    use super::*;
    use model::Time;
    use model::site::GasVolume;

    fn outcome(days: usize) -> Outcome {
        let mut day = Tally::default();
        day.money.mining = MicroDollars::dollars(100);
        day.money.spot = MicroDollars::dollars(50);
        day.money.firm = -MicroDollars::dollars(1);
        day.gas.burnt = GasVolume::new(300_000);
        day.gas.flared = GasVolume::new(100_000);
        Outcome {
            strategy: Kind::Flareshift,
            start: Time(1_770_854_400_000),
            total: Tally::default(),
            days: vec![day; days],
            refusal: None,
        }
    }

    #[test]
    fn bars_are_stacked_to_the_height_of_their_share() {
        assert_eq!(bars(&outcome(2).days, revenue), vec![vec![10_000, 0, 0, 5_000]; 2]);
        let svg = plot(&Comparison::of(vec![outcome(1)]));
        // 100 of 200 dollars are half of 120 pixels, then a quarter; of 400 Mscf three quarters are burnt.
        assert!(svg.contains("height=\"60.0\" fill=\"#e0992f\""), "{svg}");
        assert!(svg.contains("height=\"30.0\" fill=\"#8fb8de\""), "{svg}");
        assert!(svg.contains("height=\"90.0\" fill=\"#4c8c4a\""), "{svg}");
        assert!(svg.contains("height=\"30.0\" fill=\"#c0392b\""), "{svg}");
        let legends = SOURCES.len() + USES.len() + 1;
        assert_eq!(svg.matches("<rect").count(), 1 + legends + 4, "ground, legends, four pieces");
        assert!(svg.contains("2026-02-12") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_share_outside_mining_is_a_line_at_its_height() {
        // A third: 120 pixels less 40 from the top of the panel.
        let svg = plot(&Comparison::of(vec![outcome(2)]));
        let top = HEAD + (PANEL + GAP) + 26;
        let y = tenths((top + PANEL) * 10 - 333 * PANEL * 10 / 1_000);
        assert_eq!(svg.matches("<polyline").count(), 1);
        assert!(svg.contains(&format!(",{y} ")) || svg.contains(&format!(",{y}\"")), "{y} in {svg}");
    }

    #[test]
    fn many_days_share_bars_and_no_strategy_is_no_panel() {
        assert_eq!(bars(&outcome(MOST_BARS).days, gas).len(), MOST_BARS);
        assert_eq!(bars(&outcome(3 * MOST_BARS + 1).days, gas).len(), 226);
        let empty = plot(&Comparison::of(Vec::new()));
        assert_eq!(empty.matches("<rect").count(), 1 + SOURCES.len() + USES.len());
        assert_eq!(empty.matches("<polyline").count(), 0);
    }
}
