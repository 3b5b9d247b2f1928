//! What a panel is made of: a scale, stacked bars, a line, a legend. Lengths are pixels, written in tenths of one.
//!
//! Used by [`super`].

use std::fmt::Write as _;

/// A name and its colour.
pub type Source = (&'static str, &'static str);

/// Where a panel stands.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub left: i64,
    pub top: i64,
    pub width: i64,
    pub height: i64,
}

impl Frame {
    /// Tenths of a pixel at which the slot of the `index`-th of `count` days begins.
    fn edge(&self, index: i64, count: i64) -> i64 {
        self.left * 10 + self.width * 10 * index / count.max(1)
    }
}

/// Three lines, at none, half and all of the scale. `label` is told how many halves.
pub fn scale(svg: &mut String, frame: Frame, label: &dyn Fn(i64) -> String) {
    for halves in [0, 1, 2] {
        let y = frame.top + frame.height - frame.height * halves / 2;
        let _ = writeln!(
            svg,
            "<line x1=\"{}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"#dddddd\"/><text x=\"{}\" y=\"{}\" \
             text-anchor=\"end\" fill=\"#555555\">{}</text>",
            frame.left,
            frame.left + frame.width,
            frame.left - 6,
            y + 4,
            label(halves)
        );
    }
}

/// Bars, each stacked from its parts; `most` is the height of the panel.
pub fn stacks(svg: &mut String, frame: Frame, bars: &[Vec<i64>], (sources, most): (&[Source], i64)) {
    let count = i64::try_from(bars.len()).unwrap_or(1);
    for (index, bar) in (0i64..).zip(bars) {
        let (left, right) = (frame.edge(index, count), frame.edge(index + 1, count));
        let wide = ((right - left) * 9 / 10).max(1);
        let mut stacked = 0;
        for (amount, (_, colour)) in bar.iter().zip(sources) {
            let height = |amount: i64| amount * frame.height * 10 / most.max(1);
            let (from, to) = (height(stacked), height(stacked + amount));
            stacked += amount;
            if to > from {
                let y = tenths((frame.top + frame.height) * 10 - to);
                let _ = writeln!(
                    svg,
                    "<rect x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{}\" fill=\"{colour}\"/>",
                    tenths(left),
                    tenths(wide),
                    tenths(to - from)
                );
            }
        }
    }
}

/// A line through thousandths of the panel's height, in the middle of each day; it breaks where nothing is known.
pub fn line(svg: &mut String, frame: Frame, points: &[Option<i64>], colour: &str) {
    let count = i64::try_from(points.len()).unwrap_or(1);
    let place = |(index, point): (i64, &Option<i64>)| {
        let x = (frame.edge(index, count) + frame.edge(index + 1, count)) / 2;
        let y = |permille: i64| (frame.top + frame.height) * 10 - permille * frame.height * 10 / 1_000;
        point.map(|permille| format!("{},{}", tenths(x), tenths(y(permille))))
    };
    let places: Vec<Option<String>> = (0i64..).zip(points).map(place).collect();
    for piece in places.split(Option::is_none).filter(|piece| !piece.is_empty()) {
        let piece: Vec<&str> = piece.iter().flatten().map(String::as_str).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            piece.join(" ")
        );
    }
}

/// Names beside squares of their colours.
pub fn legend(svg: &mut String, (left, y): (i64, i64), sources: &[Source]) {
    for (index, (name, colour)) in (0i64..).zip(sources) {
        let x = left + 120 * index;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"{y}\">{name}</text>",
            y - 10,
            x + 18
        );
    }
}

/// The top of a scale on which all bars of all panels have room; `unit` is the least that a label shows.
pub fn most(panels: &[Vec<Vec<i64>>], unit: i64) -> i64 {
    let highest = panels.iter().flatten().map(|bar| bar.iter().sum::<i64>()).max().unwrap_or(0);
    round(highest, unit)
}

/// The least of 2, 4, 6, 10 × a power of ten that is not below `amount`, so that a scale has whole numbers at its top and middle.
fn round(amount: i64, unit: i64) -> i64 {
    let mut size = unit;
    while size < amount / 10 {
        size *= 10;
    }
    [2, 4, 6, 10, 20].into_iter().map(|times| times * size).find(|top| *top >= amount).unwrap_or(amount)
}

/// A length in pixels.
pub fn tenths(tenths: i64) -> String {
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_on_round_numbers() {
        let check = |amount, unit, top| assert_eq!(round(amount, unit), top, "{amount} by {unit}");
        check(0, 100, 200);
        check(150, 100, 200);
        check(15_000, 100, 20_000);
        check(20_001, 100, 40_000);
        check(1_787_700, 100, 2_000_000);
        check(4_000_001, 100, 6_000_000);
        check(480_000, 1_000, 600_000);
        check(10_009, 1_000, 20_000);
    }

    #[test]
    fn a_line_breaks_where_nothing_is_known() {
        let frame = Frame { left: 0, top: 0, width: 40, height: 100 };
        let mut svg = String::new();
        line(&mut svg, frame, &[Some(0), Some(500), None, Some(1_000)], "#000000");
        assert!(svg.contains("points=\"5.0,100.0 15.0,50.0\""), "{svg}");
        assert!(svg.contains("points=\"35.0,0.0\""), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 2);
    }
}
