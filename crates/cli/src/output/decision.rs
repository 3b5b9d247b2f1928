//! Decisions, their subjects and findings: the parts that many answers share.

use api::common as wire;
use api::operator::PlanDecision;
use serde::Serialize;

use super::read;
use super::show::{maybe, money_per_hour, word};
use super::table::titled;

/// What a decision, a change or an explanation is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// `site`, `module` or `workload`.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
}

/// One decision and its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// When the plan's input was taken; absent inside a plan, which says it once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The plan; absent inside a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// What it is about.
    pub subject: Option<Subject>,
    /// Why it was decided so.
    pub reason: Option<String>,
    /// The constraint that binds.
    pub binding: Option<String>,
    /// What one more unit of it would be worth an hour.
    pub shadow_price_micro_dollars_per_hour: Option<i64>,
    /// The best alternative that was rejected.
    pub rejected: Option<String>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable code.
    pub code: String,
    /// What it is about.
    pub subject: String,
    /// What was seen, and what to do.
    pub message: String,
}

impl Subject {
    /// `site well-7`.
    pub fn show(&self) -> String {
        format!("{} {}", self.kind, self.id)
    }
}

impl Decision {
    /// The reason with what binds, what that is worth and what was rejected, on one line.
    pub fn why(&self) -> String {
        // A price of zero says only that more of it would not help.
        let worth = self.shadow_price_micro_dollars_per_hour.filter(|worth| *worth != 0).map(money_per_hour);
        let parts = [
            self.binding.as_ref().map(|binding| format!("binds: {binding}")),
            worth.map(|worth| format!("worth {worth} a unit")),
            self.rejected.as_ref().map(|rejected| format!("rejected: {rejected}")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// What it is about, for tables.
    pub fn about(&self) -> String {
        about(&self.subject)
    }
}

/// The reason code's stable word.
pub fn reason(raw: i32) -> Option<String> {
    read::word(wire::ReasonCode::try_from(raw).map(|code| code.as_str_name()), "REASON_CODE_")
}

/// A subject that may be missing, for tables.
pub fn about(subject: &Option<Subject>) -> String {
    maybe(subject.as_ref(), Subject::show)
}

/// Decisions in a table, under a title.
pub fn table(title: &str, decisions: &[Decision]) -> String {
    let row = |decision: &Decision| {
        let plan = decision.generation.map(|generation| generation.to_string());
        let rest = [decision.about(), word(&decision.reason), decision.why()];
        plan.into_iter().chain(rest).collect()
    };
    // Inside a plan no decision names the plan, and the column is left out.
    let headers = [">PLAN", "ABOUT", "REASON", "WHY"];
    let named = decisions.iter().all(|decision| decision.generation.is_some());
    titled(title, if named { &headers } else { &headers[1..] }, decisions.iter().map(row).collect())
}

/// Findings in a table, under a title.
pub fn findings(title: &str, findings: &[Finding]) -> String {
    let row =
        |finding: &Finding| vec![finding.code.clone(), finding.subject.clone(), finding.message.clone()];
    titled(title, &["CODE", "ABOUT", "MESSAGE"], findings.iter().map(row).collect())
}

/// All of a list.
pub fn all<W, V: From<W>>(list: Vec<W>) -> Vec<V> {
    list.into_iter().map(V::from).collect()
}

/// A subject, where the wire names one that this version knows.
pub fn subject(subject: Option<wire::Subject>) -> Option<Subject> {
    let (kind, id) = match subject?.kind? {
        wire::subject::Kind::Site(id) => ("site", id),
        wire::subject::Kind::Module(id) => ("module", id),
        wire::subject::Kind::Workload(id) => ("workload", id),
    };
    Some(Subject { kind, id })
}

impl From<wire::Decision> for Decision {
    fn from(decision: wire::Decision) -> Self {
        Self {
            at: None,
            generation: None,
            subject: subject(decision.subject),
            reason: reason(decision.reason),
            binding: decision.binding,
            shadow_price_micro_dollars_per_hour: decision.shadow_price_micro_dollars_per_hour,
            rejected: decision.rejected,
        }
    }
}

impl From<PlanDecision> for Decision {
    fn from(told: PlanDecision) -> Self {
        Self {
            at: read::moment(api::convert::field::optional_time(told.at, "at")),
            generation: Some(told.generation),
            ..Self::from(told.decision.unwrap_or_default())
        }
    }
}

impl From<wire::Finding> for Finding {
    fn from(finding: wire::Finding) -> Self {
        Self { code: finding.code, subject: finding.subject, message: finding.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_says_why_in_one_line() {
        let decision = Decision::from(wire::Decision {
            binding: Some("site well-7: N-1 capacity".into()),
            shadow_price_micro_dollars_per_hour: Some(40_000),
            rejected: Some("8 GPUs of job-3".into()),
            ..Default::default()
        });
        assert_eq!(
            decision.why(),
            "binds: site well-7: N-1 capacity; worth $0.04/h a unit; rejected: 8 GPUs of job-3"
        );
        assert_eq!((decision.about().as_str(), decision.reason), ("-", None));
    }
}
