//! The way down to the lowest value of the dual: subgradient steps towards a level between the lowest value so far and what a solution
//! reached.
//!
//! One step length for all prices leaves those of scarce gangs far behind: few jobs ask for them, so their slope is small, and what
//! they are worth is large. So each price moves by its slope over a power of what its slopes lately were. Two such measures take turns,
//! since neither is the better one on every fleet; each turn begins anew at the best prices. Read next: [`super`], for the dual itself.

use super::Dual;

/// Turns of the measures.
const TURNS: usize = 4;
/// In odd and in even turns: the power of a price's slopes by which its step is divided, and what part of the slopes' squares is
/// kept from step to step.
const MEASURES: [(f64, f64); 2] = [(0.5, 0.97), (0.75, 0.9)];
/// Prices without slopes count as if they had this part of the steepest.
const FLAT: f64 = 1e-6;
/// Steps without a lower value after which the level moves half way up.
const PATIENCE: usize = 6;
/// A value so near to what was reached is good enough.
const CLOSE: f64 = 1e-4;

/// The lowest value found. `reached` guides the steps alone.
pub(super) fn lowest(dual: &Dual, reached: f64) -> f64 {
    let mut descent = Descent::begin(dual);
    let turn = dual.steps.div_ceil(TURNS).max(1);
    let mut depth = descent.best.value - reached;
    for step in 0..dual.steps {
        let near = CLOSE * descent.best.value.abs();
        if descent.best.value - reached <= near {
            break;
        }
        if step % turn == 0 {
            depth = descent.best.value - reached;
            descent.turn(MEASURES[step / turn % MEASURES.len()]);
        }
        if depth <= near / 10.0 {
            continue;
        }
        descent.step(depth);
        if descent.failed >= PATIENCE {
            depth /= 2.0;
            descent.back();
        }
    }
    descent.best.value
}

/// Prices, and the dual there.
#[derive(Clone)]
struct Place {
    at: Vec<f64>,
    value: f64,
    slope: Vec<f64>,
}

impl Place {
    fn of(dual: &Dual, at: Vec<f64>) -> Self {
        let (value, slope) = dual.value(&at);
        Self { at, value, slope }
    }
}

struct Descent<'d> {
    dual: &'d Dual,
    here: Place,
    best: Place,
    heading: Vec<f64>,
    /// Squares of slopes, the older the less.
    squares: Vec<f64>,
    measure: (f64, f64),
    /// Steps since the value last fell by much.
    failed: usize,
}

impl<'d> Descent<'d> {
    fn begin(dual: &'d Dual) -> Self {
        let here = Place::of(dual, dual.begin());
        let none = vec![0.0; here.at.len()];
        let (best, measure) = (here.clone(), MEASURES[0]);
        Self { dual, here, best, heading: none.clone(), squares: none, measure, failed: 0 }
    }

    /// Begins anew at the best prices, by another measure.
    fn turn(&mut self, measure: (f64, f64)) {
        self.measure = measure;
        self.squares.fill(0.0);
        self.back();
    }

    fn back(&mut self) {
        self.here = self.best.clone();
        self.heading.fill(0.0);
        self.failed = 0;
    }

    /// A step towards a value lower than the best by half of `depth`.
    fn step(&mut self, depth: f64) {
        let (power, kept) = self.measure;
        for (square, slope) in self.squares.iter_mut().zip(&self.here.slope) {
            *square = *square * kept + slope * slope;
        }
        let flat = self.squares.iter().copied().fold(0.0, f64::max) * FLAT;
        let measures: Vec<f64> =
            self.squares.iter().map(|square| (square + flat).sqrt().max(1e-9).powf(power)).collect();
        let height = self.here.value - (self.best.value - depth / 2.0);
        let mut at = std::mem::take(&mut self.here.at);
        advance(&mut at, &mut self.heading, &self.here.slope, &measures, height);
        self.here = Place::of(self.dual, at);
        let fell = self.best.value - self.here.value;
        self.failed = if fell > depth / 20.0 { 0 } else { self.failed + 1 };
        if fell > 0.0 {
            self.best = self.here.clone();
        }
    }
}

/// One step down: against the slope, and against what of the last heading points away from it.
fn advance(at: &mut [f64], heading: &mut [f64], slope: &[f64], measures: &[f64], height: f64) {
    let open = |price: f64, slope: f64| if price <= 0.0 && slope > 0.0 { 0.0 } else { slope };
    let (mut dot, mut norm) = (0.0, 0.0);
    for (((&price, &slope), before), measure) in at.iter().zip(slope).zip(heading.iter()).zip(measures) {
        dot += before * open(price, slope) / measure;
        norm += before * before / measure;
    }
    let kept = if dot < 0.0 && norm > 0.0 { -1.5 * dot / norm } else { 0.0 };
    let mut length = 0.0;
    for (((&price, &slope), heading), measure) in at.iter().zip(slope).zip(heading.iter_mut()).zip(measures) {
        *heading = open(price, open(price, slope) + kept * *heading);
        length += *heading * *heading / measure;
    }
    if length <= 0.0 {
        return;
    }
    let step = height / length;
    for ((price, heading), measure) in at.iter_mut().zip(heading).zip(measures) {
        *price = (*price - step * *heading / measure).max(0.0);
    }
}
