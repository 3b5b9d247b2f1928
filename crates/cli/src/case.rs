//! `flareshift plan solve` and `plan check`: a planner's input from a file, planned and judged without a controller.
//!
//! One document serves both: what `solve -o json` prints is what `check` reads, so that somebody else's plan can take the place of
//! ours. Its fields are described in docs/planner-input.md. Assumes nothing of the file: what is no input is refused with its place,
//! what is one but makes no sense gets a safe plan and findings. Read next: [`crate::output::case`], which prints it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use controller::observe::digest;
use model::plan::{Bound, Plan};
use model::report::Finding;
use planner::{Input, Report};
use serde::{Deserialize, Serialize};

use crate::args::Output;
use crate::operator::failure::Error;
use crate::output::{self, case as view};

/// The shape of the document that this version reads and writes.
const SCHEMA: u32 = 1;
/// Largest file that is read: an input of 10,000 modules and 20,000 workloads with its plan takes about 60 MB.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Most servers of a pool, and GPUs of a server: a module is a container, and each server is counted one by one.
const MAX_SERVERS: u32 = 10_000;
/// Largest integer: 10^15 W, or a billion dollars, leave room for every sum and product in 64 bits.
const MAX_AMOUNT: u64 = 1_000_000_000_000_000;

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Of this document.
    pub schema: u32,
    /// What the planner is given.
    pub input: Input,
    /// What was decided; ours or anybody's.
    #[serde(default)]
    pub plan: Option<Plan>,
    /// The operator's view; `check` does not read it.
    #[serde(default)]
    pub report: Option<Report>,
    /// How good any plan for this input could be; `check` does not read it.
    #[serde(default)]
    pub bound: Option<Bound>,
    /// What is wrong with the plan; `check` does not read it.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// Plans the input of a file and prints plan, report and bound.
pub fn solve(path: &Path, output: Output) -> Result<(), Error> {
    let case = solved(read(path)?.input)?;
    let broken = case.findings.len();
    let text = match output {
        Output::Table => view::Solved(&case).table(),
        Output::Json => output::json(&case),
    };
    output::print(&text).map_err(Error::Print)?;
    verdict(broken)
}

/// Judges the plan of a file on its input, and prints what is wrong with it.
pub fn check(path: &Path, output: Output) -> Result<(), Error> {
    let Case { input, plan, .. } = read(path)?;
    let Some(plan) = plan else {
        let at = path.display();
        return Err(Error::Usage(format!(
            "{at}: holds no `plan` to check; put one beside `input`, as `plan solve {at} -o json` prints it"
        )));
    };
    let judged = view::Checked { generation: plan.generation, findings: judge(&plan, &input)? };
    let broken = judged.findings.len();
    output::print(&output::text(&judged, output)).map_err(Error::Print)?;
    verdict(broken)
}

/// An input with its plan, report and bound.
fn solved(input: Input) -> Result<Case, Error> {
    let made = planner::plan(&input);
    // Nobody waits, so a large fleet gets its bound too.
    let bound = made.bound.unwrap_or_else(|| planner::bound(&input));
    let input_digest = digest(&input).map_err(|error| Error::Usage(error.to_string()))?;
    let plan = Plan { input: input_digest, bound: Some(bound), ..made.plan };
    let findings = judge(&plan, &input)?;
    Ok(Case {
        schema: SCHEMA,
        input,
        plan: Some(plan),
        report: Some(made.report),
        bound: Some(bound),
        findings,
    })
}

/// What the independent check finds, and whether the plan says that it was made for another input.
fn judge(plan: &Plan, input: &Input) -> Result<Vec<Finding>, Error> {
    let mut findings = planner::check(plan, input);
    let found = digest(input).map_err(|error| Error::Usage(error.to_string()))?;
    if !plan.input.is_empty() && plan.input != found {
        findings.push(Finding {
            code: "other-input".into(),
            subject: format!("plan {}", plan.generation),
            message: format!(
                "was made for input {}, not for {found}; plan again, or leave its `input` empty",
                plan.input
            ),
        });
    }
    Ok(findings)
}

fn verdict(broken: usize) -> Result<(), Error> {
    match broken {
        0 => Ok(()),
        broken => Err(Error::Unsound { findings: broken }),
    }
}

fn read(path: &Path) -> Result<Case, Error> {
    let wrong = |why: String| Error::Usage(format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(|error| wrong(format!("cannot be read ({error})")))?;
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| wrong(format!("cannot be read as text ({error})")))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(wrong(format!("is larger than {MAX_BYTES} bytes; split the fleet")));
    }
    parse(&text).map_err(wrong)
}

/// The document, or what is wrong with it and where.
fn parse(text: &str) -> Result<Case, String> {
    let advice = "docs/planner-input.md describes the fields";
    let value: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| format!("is no JSON: {error}; JSON has no NaN, write null"))?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => {}
        Some(schema) => return Err(format!("has schema {schema}, this program reads {SCHEMA}")),
        None => return Err(format!("has no `schema`; write {SCHEMA}, and {advice}")),
    }
    amounts(&value, "")?;
    // From the text, since only that knows lines and columns.
    let case: Case = serde_json::from_str(text).map_err(|error| format!("{error}; {advice}"))?;
    names(&case.input)?;
    Ok(case)
}

/// Refuses numbers that no sum or product in 64 bits would survive.
fn amounts(value: &serde_json::Value, at: &str) -> Result<(), String> {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            // The number of a plan or an envelope counts and is not computed with.
            let counted =
                |name: &str| matches!(name, "generation" | "parent" | "leader" | "epoch" | "sequence");
            let fields = fields.iter().filter(|(name, value)| !(counted(name) && value.is_number()));
            fields.into_iter().try_for_each(|(name, value)| amounts(value, &format!("{at}/{name}")))
        }
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(nth, value)| amounts(value, &format!("{at}/{nth}")))
        }
        Value::Number(number) => {
            let size = number.as_i64().map(i64::unsigned_abs).or(number.as_u64());
            match size {
                Some(size) if size > MAX_AMOUNT => Err(format!("{at}: {number} is more than ±{MAX_AMOUNT}")),
                _ => Ok(()),
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

/// Refuses ids that contradict the names they stand under, and pools that are no pools.
fn names(input: &Input) -> Result<(), String> {
    let other = |kind: &str, name: &str, id: &str| {
        (name != id).then(|| format!("{kind} {name:?} has the id {id:?}; make them the same"))
    };
    let sites =
        input.sites.iter().filter_map(|(name, site)| other("site", name.as_str(), site.site.id.as_str()));
    let modules = input
        .modules
        .iter()
        .filter_map(|(name, given)| other("module", name.as_str(), given.module.id.as_str()));
    let workloads = input
        .workloads
        .iter()
        .filter_map(|(name, given)| other("workload", name.as_str(), given.id.as_str()));
    let pools = input
        .modules
        .iter()
        .flat_map(|(name, given)| given.module.pools.iter().map(move |pool| (name, pool)));
    let large = pools.filter(|(_, (_, pool))| pool.servers.max(pool.gpus) > MAX_SERVERS);
    let large = large.map(|(module, (pool, _))| {
        format!("module {module} pool {pool}: more than {MAX_SERVERS} servers, or GPUs in one; split it")
    });
    let mut wrong = sites.chain(modules).chain(workloads).chain(large);
    wrong.next().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EMPTY: &str = r#"{"schema":1,"input":{"now":0,"sites":{},"modules":{},"workloads":{},
        "market":{"price":1,"difficulty":1.0,"subsidy":1,"fees_ppm":0,"pool_fee_ppm":0}}}"#;

    #[test]
    fn what_is_no_input_is_refused_with_its_place() {
        let check = |text: &str, expected: &[&str]| {
            let wrong = parse(text).unwrap_err();
            for word in expected {
                assert!(wrong.contains(word), "{wrong:?} does not say {word:?}");
            }
        };
        check("", &["no JSON", "line 1"]);
        check("{\"schema\": NaN}", &["no JSON", "line 1", "null"]);
        check("{}", &["no `schema`", "docs/planner-input.md"]);
        check("{\"schema\": 7}", &["schema 7, this program reads 1"]);
        check("{\"schema\": 1}", &["missing field `input`", "line 1", "docs/planner-input.md"]);
        check(&EMPTY.replace("\"now\"", "\"then\""), &["unknown field `then`", "line 1 column"]);
        check(&EMPTY.replace("\"price\":1", "\"price\":1.5"), &["line 2 column"]);
        check(&EMPTY.replace("\"price\":1", "\"price\":9999999999999999"), &["/input/market/price"]);
    }

    #[test]
    fn an_empty_fleet_is_an_input_and_its_case_reads_back() {
        let case = solved(parse(EMPTY).unwrap().input).unwrap();
        assert_eq!((case.findings.len(), case.plan.as_ref().unwrap().input.len()), (0, 64));
        let again = parse(&output::json(&case)).unwrap();
        assert_eq!(again, case);
    }

    #[test]
    fn a_plan_for_another_input_is_told_apart() {
        let case = solved(parse(EMPTY).unwrap().input).unwrap();
        let plan = case.plan.unwrap();
        let later = Input { now: model::Time(1), ..case.input };
        let codes = |plan: &Plan| {
            judge(plan, &later).unwrap().into_iter().map(|finding| finding.code).collect::<Vec<_>>()
        };
        assert_eq!(codes(&plan), ["other-input"]);
        assert_eq!(codes(&Plan { input: String::new(), ..plan.clone() }), Vec::<String>::new());
    }
}
