//! What a controller counts while it works: rounds, sessions, envelopes, evictions, requests, errors of the store.
//!
//! Nothing is counted on the way of a report. Assumes that whoever handles an event counts it once, where it is handled. Labels are
//! words of the code and never ids. Next: `requests.rs` for calls from outside; `../metrics.rs` for what is read instead of counted.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use model::plan::ReasonCode;
use service::count::{Counters, Histogram};
use service::page::{Metric, Page};

use crate::commit::Error;

const TERMS: Metric =
    Metric::counter("flareshift_controller_terms_total", "Times this controller took the office of leader.");
const ROUNDS: Metric = Metric::counter(
    "flareshift_controller_rounds_total",
    "Rounds of planning by what came of them: whole or repair were committed, the others left the old plan in force.",
);
const PHASES: Metric = Metric::histogram(
    "flareshift_controller_round_duration_seconds",
    "Wall time of a round's phases: plan, check, commit.",
);
const STREAMS: Metric =
    Metric::gauge("flareshift_controller_streams", "Streams of agents that are open at this controller.");
const SESSIONS: Metric = Metric::counter(
    "flareshift_controller_sessions_total",
    "Streams of agents that began, by how they were answered.",
);
const HANDSHAKES: Metric = Metric::counter(
    "flareshift_controller_handshakes_total",
    "TLS handshakes with agents, operators and tenants, by what came of them.",
);
const ENVELOPES: Metric = Metric::counter(
    "flareshift_controller_envelopes_sent_total",
    "Envelopes handed to agents' streams: new ones, and renewals that say the same again.",
);
const ANSWERS: Metric = Metric::counter(
    "flareshift_controller_directive_answers_total",
    "What agents said of the directives they were sent.",
);
const EVICTIONS: Metric = Metric::counter(
    "flareshift_controller_evictions_total",
    "Runs told to stop before their work was done, by reason.",
);
const STORE_ERRORS: Metric = Metric::counter(
    "flareshift_controller_store_errors_total",
    "Reads and writes of the store that failed, by what is known of them.",
);
const GRPC: Metric = Metric::counter(
    "flareshift_controller_grpc_requests_total",
    "gRPC calls by service and code, as of the head of the answer.",
);
const REST: Metric =
    Metric::counter("flareshift_controller_rest_requests_total", "REST requests by HTTP status.");
const REST_TIME: Metric =
    Metric::histogram("flareshift_controller_rest_request_duration_seconds", "Time a REST request took.");

/// From a plan of a small fleet (1 ms) to a commit that waits for an etcd election (5 s), by steps of 2 to 2.5.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// What came of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// A plan for the whole fleet was committed.
    Whole,
    /// A plan for the islands that an event touched was committed.
    Repair,
    /// Its check refused the plan.
    Refused,
    /// The planner failed.
    Failed,
    /// Another plan was in force than its parent.
    Outrun,
    /// A run began elsewhere while it was made.
    Overtaken,
    /// The store did not take it.
    PutOff,
}

/// A phase of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Input to plan.
    Plan,
    /// The independent check.
    Check,
    /// The transactions.
    Commit,
}

/// How a stream that began was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Greeting {
    /// It became a session.
    Welcomed,
    /// It was refused.
    Refused,
    /// It was sent to the leader.
    Redirected,
    /// It went before it was answered.
    Gone,
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shake {
    /// With a connection.
    Done,
    /// The certificate, or the want of one, was refused by one end.
    Refused,
    /// The client spoke no TLS.
    Plain,
    /// The client went away.
    Gone,
    /// It took too long.
    Late,
    /// It made room for newer ones.
    Crowded,
}

/// The counts of one controller.
#[derive(Debug)]
pub struct Counts {
    terms: AtomicU64,
    rounds: Counters<Outcome>,
    phases: [Histogram; 3],
    streams: AtomicI64,
    sessions: Counters<Greeting>,
    handshakes: Counters<Shake>,
    envelopes: Counters<&'static str>,
    answers: Counters<&'static str>,
    evictions: Counters<ReasonCode>,
    store_errors: Counters<&'static str>,
    pub(super) grpc: Counters<(&'static str, &'static str)>,
    pub(super) rest: Counters<u16>,
    pub(super) rest_time: Histogram,
}

/// A stream that is open for as long as this lives.
pub(crate) struct OpenStream(std::sync::Arc<Counts>);

impl Outcome {
    const ALL: [Self; 7] =
        [Self::Whole, Self::Repair, Self::Refused, Self::Failed, Self::Outrun, Self::Overtaken, Self::PutOff];

    /// The word under which it is counted.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Outcome::Whole => "whole",
            Outcome::Repair => "repair",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Outrun => "outrun",
            Outcome::Overtaken => "overtaken",
            Outcome::PutOff => "put_off",
        }
    }
}

impl Greeting {
    const ALL: [Self; 4] = [Self::Welcomed, Self::Refused, Self::Redirected, Self::Gone];

    /// The word under which it is counted.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Greeting::Welcomed => "welcomed",
            Greeting::Refused => "refused",
            Greeting::Redirected => "redirected",
            Greeting::Gone => "gone",
        }
    }
}

impl Shake {
    const ALL: [Self; 6] = [Self::Done, Self::Refused, Self::Plain, Self::Gone, Self::Late, Self::Crowded];

    const fn word(self) -> &'static str {
        match self {
            Shake::Done => "done",
            Shake::Refused => "refused",
            Shake::Plain => "plain",
            Shake::Gone => "gone",
            Shake::Late => "late",
            Shake::Crowded => "crowded",
        }
    }
}

impl Default for Counts {
    fn default() -> Self {
        let evicted =
            [ReasonCode::Preempted, ReasonCode::PowerShort, ReasonCode::Draining, ReasonCode::NoFirmCapacity];
        Self {
            terms: AtomicU64::new(0),
            rounds: Counters::new(Outcome::ALL),
            phases: [Histogram::new(SECONDS), Histogram::new(SECONDS), Histogram::new(SECONDS)],
            streams: AtomicI64::new(0),
            sessions: Counters::new(Greeting::ALL),
            handshakes: Counters::new(Shake::ALL),
            envelopes: Counters::new(["new", "renewed"]),
            answers: Counters::new(["applied", "refused"]),
            evictions: Counters::new(evicted),
            store_errors: Counters::new(["unavailable", "timeout", "unknown_outcome", "fenced", "other"]),
            grpc: Counters::new([]),
            rest: Counters::new([200]),
            rest_time: Histogram::new(SECONDS),
        }
    }
}

impl Counts {
    /// This controller took the office.
    pub(crate) fn term(&self) {
        self.terms.fetch_add(1, Ordering::Relaxed);
    }

    /// A round ended.
    pub(crate) fn round(&self, outcome: Outcome) {
        self.rounds.add(outcome);
    }

    /// A phase of a round took so long.
    pub(crate) fn phase(&self, phase: Phase, took: Duration) {
        let [plan, check, commit] = &self.phases;
        let histogram = match phase {
            Phase::Plan => plan,
            Phase::Check => check,
            Phase::Commit => commit,
        };
        histogram.observe(took.as_secs_f64());
    }

    /// A stream opened; it counts until the answer is dropped.
    pub(crate) fn stream(self: &std::sync::Arc<Self>) -> OpenStream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.clone())
    }

    /// A stream was answered.
    pub(crate) fn session(&self, greeting: Greeting) {
        self.sessions.add(greeting);
    }

    /// A handshake ended.
    pub(crate) fn handshake(&self, shake: Shake) {
        self.handshakes.add(shake);
    }

    /// How many ended so.
    #[cfg(test)]
    pub(crate) fn handshakes(&self, shake: Shake) -> u64 {
        self.handshakes.counts().into_iter().filter(|(of, _)| *of == shake).map(|(_, count)| count).sum()
    }

    /// An envelope went to its agent's stream.
    pub(crate) fn envelope(&self, fresh: bool) {
        self.envelopes.add(if fresh { "new" } else { "renewed" });
    }

    /// An agent answered a directive.
    pub(crate) fn answer(&self, applied: bool) {
        self.answers.add(if applied { "applied" } else { "refused" });
    }

    /// A run was told to stop before its work was done.
    pub(crate) fn eviction(&self, reason: ReasonCode) {
        self.evictions.add(reason);
    }

    /// The store did not do what was asked.
    pub(crate) fn store_error(&self, error: &Error) {
        self.store_errors.add(word(error));
    }

    /// Puts everything on a page.
    pub(super) fn write(&self, page: &mut Page) {
        page.count(&TERMS, &[], self.terms.load(Ordering::Relaxed));
        for (outcome, count) in self.rounds.counts() {
            page.count(&ROUNDS, &[("result", outcome.word())], count);
        }
        for (phase, histogram) in ["plan", "check", "commit"].into_iter().zip(&self.phases) {
            page.histogram(&PHASES, &[("phase", phase)], &histogram.observed());
        }
        page.add(&STREAMS, &[], self.streams.load(Ordering::Relaxed) as f64);
        for (greeting, count) in self.sessions.counts() {
            page.count(&SESSIONS, &[("answer", greeting.word())], count);
        }
        for (shake, count) in self.handshakes.counts() {
            page.count(&HANDSHAKES, &[("result", shake.word())], count);
        }
        for (kind, count) in self.envelopes.counts() {
            page.count(&ENVELOPES, &[("kind", kind)], count);
        }
        for (answer, count) in self.answers.counts() {
            page.count(&ANSWERS, &[("answer", answer)], count);
        }
        for (reason, count) in self.evictions.counts() {
            page.count(&EVICTIONS, &[("reason", reason.as_str())], count);
        }
        for (kind, count) in self.store_errors.counts() {
            page.count(&STORE_ERRORS, &[("kind", kind)], count);
        }
        for ((service, code), count) in self.grpc.counts() {
            page.count(&GRPC, &[("service", service), ("code", code)], count);
        }
        for (status, count) in self.rest.counts() {
            page.count(&REST, &[("code", &status.to_string())], count);
        }
        page.histogram(&REST_TIME, &[], &self.rest_time.observed());
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is known of a failed read or write.
fn word(error: &Error) -> &'static str {
    match error {
        Error::NotLeader | Error::Outrun => "fenced",
        Error::Timeout => "timeout",
        Error::Store(store::Error::Unavailable { .. }) => "unavailable",
        Error::Store(store::Error::UnknownOutcome { .. }) => "unknown_outcome",
        Error::HalfImported | Error::Store(_) => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn shown(counts: &Counts) -> String {
        let mut page = Page::default();
        counts.write(&mut page);
        page.text()
    }

    #[test]
    fn a_fresh_controller_shows_every_series_at_zero() {
        let text = shown(&Counts::default());
        for series in [
            "flareshift_controller_terms_total 0",
            "flareshift_controller_rounds_total{result=\"put_off\"} 0",
            "flareshift_controller_round_duration_seconds_count{phase=\"commit\"} 0",
            "flareshift_controller_streams 0",
            "flareshift_controller_sessions_total{answer=\"redirected\"} 0",
            "flareshift_controller_handshakes_total{result=\"crowded\"} 0",
            "flareshift_controller_envelopes_sent_total{kind=\"renewed\"} 0",
            "flareshift_controller_evictions_total{reason=\"preempted\"} 0",
            "flareshift_controller_store_errors_total{kind=\"unknown_outcome\"} 0",
        ] {
            assert!(text.contains(&format!("\n{series}\n")), "{series} in {text}");
        }
    }

    #[test]
    fn what_happens_is_counted_under_its_word() {
        let counts = Arc::new(Counts::default());
        counts.term();
        counts.round(Outcome::Repair);
        counts.phase(Phase::Check, Duration::from_millis(3));
        counts.envelope(true);
        counts.envelope(false);
        counts.answer(false);
        counts.eviction(ReasonCode::PowerShort);
        counts.session(Greeting::Redirected);
        counts.handshake(Shake::Plain);
        counts.grpc.add(("operator", "ok"));
        let open = counts.stream();
        let closed = counts.stream();
        drop(closed);
        let text = shown(&counts);
        drop(open);
        for series in [
            "flareshift_controller_terms_total 1",
            "flareshift_controller_rounds_total{result=\"repair\"} 1",
            "flareshift_controller_round_duration_seconds_bucket{phase=\"check\",le=\"0.0025\"} 0",
            "flareshift_controller_round_duration_seconds_bucket{phase=\"check\",le=\"0.005\"} 1",
            "flareshift_controller_envelopes_sent_total{kind=\"new\"} 1",
            "flareshift_controller_envelopes_sent_total{kind=\"renewed\"} 1",
            "flareshift_controller_directive_answers_total{answer=\"refused\"} 1",
            "flareshift_controller_evictions_total{reason=\"power_short\"} 1",
            "flareshift_controller_sessions_total{answer=\"redirected\"} 1",
            "flareshift_controller_handshakes_total{result=\"plain\"} 1",
            "flareshift_controller_grpc_requests_total{service=\"operator\",code=\"ok\"} 1",
            "flareshift_controller_streams 1",
        ] {
            assert!(text.contains(&format!("\n{series}\n")), "{series} in {text}");
        }
    }

    #[test]
    fn errors_of_the_store_go_by_what_is_known_of_the_write() {
        let check = |error: Error, expected: &str| assert_eq!(word(&error), expected, "{error}");
        let what = || "etcd".to_owned();
        check(Error::Timeout, "timeout");
        check(Error::NotLeader, "fenced");
        check(store::Error::Unavailable { what: what(), source: None }.into(), "unavailable");
        check(store::Error::UnknownOutcome { what: what(), source: None }.into(), "unknown_outcome");
        check(store::Error::Stopped { what: what() }.into(), "other");
    }
}
