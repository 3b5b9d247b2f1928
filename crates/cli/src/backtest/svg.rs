//! A picture of a back-test: revenue a day, one panel a strategy, stacked by source, all panels on one scale.
//!
//! Plain SVG 1.1 with integer coordinates in tenths of a pixel, so that the same figures give the same bytes.

use std::fmt::Write as _;

use ::backtest::{Comparison, Outcome, Tally};
use model::MicroDollars;

use super::csv::midnight;
use crate::dev::scenario::day;

/// Width of the picture, height of a panel, and the room around panels, in pixels.
const WIDTH: i64 = 960;
const PANEL: i64 = 130;
const LEFT: i64 = 80;
const RIGHT: i64 = 20;
const HEAD: i64 = 60;
const GAP: i64 = 44;
/// Most bars of a panel: more days than this are put together, so that a bar is two pixels wide at least.
const MOST_BARS: usize = 400;

/// Sources from the bottom of a bar to its top, and their colours.
const SOURCES: [(&str, &str); 4] =
    [("mining", "#e0992f"), ("firm", "#173f5f"), ("on-demand", "#20639b"), ("spot", "#8fb8de")];

/// The picture.
pub fn plot(compared: &Comparison) -> String {
    let panels = i64::try_from(compared.strategies.len()).unwrap_or(0);
    let height = HEAD + panels * (PANEL + GAP) + 10;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"24\" font-size=\"16\">Revenue a day by source</text>");
    legend(&mut svg);
    let bars: Vec<Vec<[i64; 4]>> =
        compared.strategies.iter().map(|scored| bars(&scored.outcome.days)).collect();
    let most = round(bars.iter().flatten().map(|bar| bar.iter().sum::<i64>()).max().unwrap_or(0));
    for (index, (scored, bars)) in compared.strategies.iter().zip(&bars).enumerate() {
        let top = HEAD + i64::try_from(index).unwrap_or(0) * (PANEL + GAP);
        panel(&mut svg, &scored.outcome, bars, (top, most));
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String) {
    for (index, (name, colour)) in SOURCES.iter().enumerate() {
        let x = LEFT + 260 + 110 * i64::try_from(index).unwrap_or(0);
        let _ = writeln!(svg, "<rect x=\"{x}\" y=\"14\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"24\">{name}</text>", x + 18);
    }
}

/// Revenue by source of each bar, in cents a day; what was paid back beyond a day's earnings counts as nothing.
fn bars(days: &[Tally]) -> Vec<[i64; 4]> {
    let each = days.len().div_ceil(MOST_BARS).max(1);
    let bar = |days: &[Tally]| {
        let mean = |of: fn(&Tally) -> MicroDollars| {
            let sum: MicroDollars = days.iter().map(of).sum();
            sum.at_least_zero().get() / 10_000 / i64::try_from(days.len()).unwrap_or(1)
        };
        [
            mean(|day| day.money.mining),
            mean(|day| day.money.firm),
            mean(|day| day.money.on_demand),
            mean(|day| day.money.spot),
        ]
    };
    days.chunks(each).map(bar).collect()
}

fn panel(svg: &mut String, outcome: &Outcome, bars: &[[i64; 4]], (top, most): (i64, i64)) {
    let (bottom, width) = (top + PANEL, WIDTH - LEFT - RIGHT);
    let net = outcome.total.money.net().get() / 1_000_000;
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{}<tspan dx=\"10\" font-weight=\"normal\" fill=\"#555555\">net ${net} in {} \
         days</tspan></text>",
        top - 6,
        outcome.strategy,
        outcome.days.len()
    );
    for (part, y) in [(most, top), (most / 2, top + PANEL / 2), (0, bottom)] {
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"#dddddd\"/><text x=\"{}\" y=\"{}\" \
             text-anchor=\"end\" fill=\"#555555\">${}</text>",
            WIDTH - RIGHT,
            LEFT - 6,
            y + 4,
            part / 100
        );
    }
    let count = i64::try_from(bars.len()).unwrap_or(1).max(1);
    // Tenths of a pixel.
    let edge = |index: i64| LEFT * 10 + width * 10 * index / count;
    for (index, bar) in (0i64..).zip(bars) {
        let (left, right) = (edge(index), edge(index + 1));
        let wide = (right - left) * 9 / 10;
        let mut stacked = 0;
        for (amount, (_, colour)) in bar.iter().zip(SOURCES) {
            let (from, to) = (stacked * PANEL * 10 / most, (stacked + amount) * PANEL * 10 / most);
            stacked += amount;
            if to > from {
                let (y, tall) = (tenths(bottom * 10 - to), tenths(to - from));
                let (x, wide) = (tenths(left), tenths(wide.max(1)));
                let _ = writeln!(
                    svg,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{tall}\" fill=\"{colour}\"/>"
                );
            }
        }
    }
    let last = midnight(outcome.start, outcome.days.len().saturating_sub(1));
    for (x, anchor, at) in [(LEFT, "start", outcome.start), (WIDTH - RIGHT, "end", last)] {
        let y = bottom + 14;
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" fill=\"#555555\" font-size=\"10\">{}</text>",
            day(at)
        );
    }
}

/// The least of 2, 3, 4, 6, 10 × a power of ten that is not below `cents`, so that a scale has round numbers at its top and middle.
fn round(cents: i64) -> i64 {
    let mut unit = 100;
    while unit < cents / 10 {
        unit *= 10;
    }
    [2, 3, 4, 6, 10].into_iter().map(|times| times * unit).find(|top| *top >= cents).unwrap_or(cents)
}

fn tenths(tenths: i64) -> String {
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::backtest::Kind;
    use model::Time;

    fn outcome(days: usize) -> Outcome {
        let mut day = Tally::default();
        day.money.mining = MicroDollars::dollars(100);
        day.money.spot = MicroDollars::dollars(50);
        day.money.firm = -MicroDollars::dollars(1);
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
        assert_eq!(bars(&outcome(2).days), vec![[10_000, 0, 0, 5_000]; 2]);
        let svg = plot(&Comparison::of(vec![outcome(1)]));
        // 100 of 200 dollars are half of 130 pixels, then a quarter.
        assert!(svg.contains("height=\"65.0\" fill=\"#e0992f\""), "{svg}");
        assert!(svg.contains("height=\"32.5\" fill=\"#8fb8de\""), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 1 + SOURCES.len() + 2, "ground, legend, two pieces");
        assert!(svg.contains("2026-02-12") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn scales_end_on_round_numbers() {
        let check = |cents, top| assert_eq!(round(cents), top, "{cents}");
        check(0, 200);
        check(150, 200);
        check(15_000, 20_000);
        check(20_001, 30_000);
        check(1_787_700, 2_000_000);
        check(4_000_001, 6_000_000);
    }

    #[test]
    fn many_days_share_bars() {
        assert_eq!(bars(&outcome(MOST_BARS).days).len(), MOST_BARS);
        assert_eq!(bars(&outcome(3 * MOST_BARS + 1).days).len(), 301);
        assert_eq!(plot(&Comparison::of(Vec::new())).matches("<rect").count(), 1 + SOURCES.len());
    }
}
