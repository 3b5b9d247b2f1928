//! A page of metrics in Prometheus' text format, version 0.0.4.
//!
//! Written by hand: it is a dozen lines of format, and nearly all that stands on our pages is read from what a program knows
//! anyhow at the moment somebody asks, not counted beside it (decision 0016). Assumes that names, and the names of labels, follow
//! Prometheus' conventions; a test has `promtool` read real pages. Next: [`crate::count`], [`crate::monitor`].
//!
//! Source of the format: Prometheus' documentation, "Exposition formats".

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::count::Observed;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the program is started again.
    Counter,
    /// May go either way.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// One metric as a page describes it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, with the unit: watts, seconds, bytes; counters end in `_total`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// One sentence for people.
    pub help: &'static str,
}

/// Names and values of labels.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// A page that is being written. Samples of one metric may come from several places: they stand together, as the format wants.
#[derive(Debug, Default)]
pub struct Page {
    families: BTreeMap<&'static str, Family>,
}

#[derive(Debug)]
struct Family {
    metric: Metric,
    samples: String,
}

impl Metric {
    /// A counter.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, help }
    }

    /// A gauge.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, help }
    }

    /// A histogram.
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, help }
    }
}

impl Page {
    /// Adds one sample.
    pub fn add(&mut self, metric: &Metric, labels: Labels, value: f64) {
        let samples = self.samples(metric);
        line(samples, metric.name, "", labels, value);
    }

    /// Adds one sample where there is a value: what nobody measured stands on no page.
    pub fn add_known(&mut self, metric: &Metric, labels: Labels, value: Option<f64>) {
        if let Some(value) = value {
            self.add(metric, labels, value);
        }
    }

    /// Adds one count.
    pub fn count(&mut self, metric: &Metric, labels: Labels, count: u64) {
        self.add(metric, labels, count as f64);
    }

    /// Adds all that a histogram has observed.
    pub fn histogram(&mut self, metric: &Metric, labels: Labels, observed: &Observed) {
        let samples = self.samples(metric);
        let mut upto = 0;
        for (bound, count) in &observed.buckets {
            upto += count;
            let bound = number(*bound);
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            line(samples, metric.name, "_bucket", &labels, upto as f64);
        }
        line(samples, metric.name, "_sum", labels, observed.sum);
        line(samples, metric.name, "_count", labels, upto as f64);
    }

    /// The page, metrics in order of their names.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Family { metric, samples } in self.families.values() {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
            // Writing to a string does not fail.
            let _ = write!(text, "# HELP {0} {help}\n# TYPE {0} {kind}\n{samples}", metric.name);
        }
        text
    }

    fn samples(&mut self, metric: &Metric) -> &mut String {
        let family =
            self.families.entry(metric.name).or_insert(Family { metric: *metric, samples: String::new() });
        &mut family.samples
    }
}

fn line(text: &mut String, name: &str, suffix: &str, labels: Labels, value: f64) {
    text.push_str(name);
    text.push_str(suffix);
    for (place, (label, value)) in labels.iter().enumerate() {
        text.push(if place == 0 { '{' } else { ',' });
        text.push_str(label);
        text.push_str("=\"");
        escape(text, value);
        text.push('"');
    }
    if !labels.is_empty() {
        text.push('}');
    }
    text.push(' ');
    text.push_str(&number(value));
    text.push('\n');
}

fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

fn number(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".into()
    } else if value == f64::NEG_INFINITY {
        "-Inf".into()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::Histogram;

    const WATTS: Metric = Metric::gauge("x_power_watts", "What \\ is\ndrawn.");
    const DONE: Metric = Metric::counter("x_done_total", "What was done.");
    const TOOK: Metric = Metric::histogram("x_took_seconds", "How long it took.");

    fn check(write: impl FnOnce(&mut Page), expected: &str) {
        let mut page = Page::default();
        write(&mut page);
        assert_eq!(page.text(), expected);
    }

    #[test]
    fn samples_of_one_metric_stand_together_and_metrics_in_order() {
        check(
            |page| {
                page.add(&WATTS, &[("site", "a"), ("use", "ai")], 1.5);
                page.count(&DONE, &[], 3);
                page.add(&WATTS, &[("site", "b"), ("use", "ai")], -2_000_000.0);
                page.add_known(&WATTS, &[("site", "c")], None);
            },
            "# HELP x_done_total What was done.\n# TYPE x_done_total counter\nx_done_total 3\n\
             # HELP x_power_watts What \\\\ is\\ndrawn.\n# TYPE x_power_watts gauge\n\
             x_power_watts{site=\"a\",use=\"ai\"} 1.5\nx_power_watts{site=\"b\",use=\"ai\"} -2000000\n",
        );
        check(|_| {}, "");
    }

    #[test]
    fn labels_are_escaped_and_numbers_written_as_the_format_wants() {
        let sample = |label: &str, value: f64, expected: &str| {
            let mut text = String::new();
            line(&mut text, "m", "", &[("l", label)], value);
            assert_eq!(text, expected);
        };
        sample("a\"b\\c\nd", 0.0, "m{l=\"a\\\"b\\\\c\\nd\"} 0\n");
        sample("ä", f64::INFINITY, "m{l=\"ä\"} +Inf\n");
        sample("", f64::NEG_INFINITY, "m{l=\"\"} -Inf\n");
        sample("x", f64::NAN, "m{l=\"x\"} NaN\n");
        sample("x", 1e21, "m{l=\"x\"} 1000000000000000000000\n");
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound_and_to_infinity() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for seconds in [0.05, 0.1, 0.5, 7.0] {
            histogram.observe(seconds);
        }
        check(
            |page| page.histogram(&TOOK, &[("phase", "plan")], &histogram.observed()),
            "# HELP x_took_seconds How long it took.\n# TYPE x_took_seconds histogram\n\
             x_took_seconds_bucket{phase=\"plan\",le=\"0.1\"} 2\n\
             x_took_seconds_bucket{phase=\"plan\",le=\"1\"} 3\n\
             x_took_seconds_bucket{phase=\"plan\",le=\"+Inf\"} 4\n\
             x_took_seconds_sum{phase=\"plan\"} 7.65\nx_took_seconds_count{phase=\"plan\"} 4\n",
        );
    }
}
