//! The operator's command line: one command, its exit code and its answer.
//!
//! Read next: `process.rs`.

use std::path::Path;

use serde_json::Value;

use super::process::{Ended, Process};
use super::{PATIENCE, TempDir, wait_for};

/// Runs one program to its end.
pub fn run(program: &str, args: &[&str]) -> Ended {
    let dir = TempDir::new("command");
    Process::start(program, args, dir.path(), "command").end(PATIENCE)
}

/// The command line against one controller.
pub struct Cli {
    endpoint: String,
    /// Further flags.
    flags: Vec<String>,
}

impl Cli {
    pub fn new(address: &str) -> Self {
        Self::at(&format!("http://{address}"), &[])
    }

    /// The command line with these flags against what answers at a URL.
    pub fn at(endpoint: &str, flags: &[String]) -> Self {
        Self { endpoint: endpoint.to_owned(), flags: flags.to_vec() }
    }

    /// Runs a command, whatever comes of it.
    pub fn run(&self, args: &[&str]) -> Ended {
        let all = ["--endpoint", self.endpoint.as_str(), "-o", "json"];
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        run("flareshift", &[&all, &flags[..], args].concat())
    }

    /// The answer of a command, or why there is none.
    pub fn ask(&self, args: &[&str]) -> Result<Value, String> {
        let ended = self.run(args);
        if ended.code != Some(0) {
            return Err(format!("{args:?} exits with {:?}: {}", ended.code, ended.stderr));
        }
        serde_json::from_str(&ended.stdout).map_err(|error| format!("{error} in {}", ended.stdout))
    }

    /// The answer of a command, tried again while no controller leads.
    pub fn get(&self, args: &[&str]) -> Value {
        wait_for(&format!("an answer to {args:?}"), PATIENCE, || self.ask(args))
    }

    /// Makes a tenant and answers its API key.
    pub fn make_tenant(&self, tenant: &str) -> String {
        let made = self.get(&["tenant", "create", tenant, "--gpu-quota", "1000"]);
        made["api_key"].as_str().unwrap_or_else(|| panic!("no key in {made}")).to_owned()
    }

    /// Orders one small spot workload. The request's id makes it safe to ask again.
    pub fn submit(&self, tenant: &str, request: &str) -> Result<String, String> {
        let order = ["workload", "submit", "--tenant", tenant, "--offering", "h100-spot", "--gpus", "1"];
        let answer = self.ask(&[&order[..], &["--request-id", request]].concat())?;
        Ok(answer["workload"].as_str().unwrap().to_owned())
    }

    /// Ids of all workloads, ended ones too.
    pub fn workloads(&self) -> Vec<String> {
        ids(&self.get(&["workload", "list", "--all"])["workloads"], "workload")
    }

    pub fn tenants(&self) -> Vec<String> {
        ids(&self.get(&["tenant", "list"])["tenants"], "tenant")
    }
}

/// The named text of each object in a list.
pub fn ids(list: &Value, field: &str) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|entry| entry[field].as_str().unwrap().to_owned()).collect()
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
