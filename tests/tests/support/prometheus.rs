//! A real Prometheus, and `promtool`, which judges pages, rules and their tests.
//!
//! Read next: `../observability.rs`.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::process::Process;
use super::{PATIENCE, TempDir, free_address, wait_for};

/// A server that scrapes every second.
pub struct Prometheus {
    _dir: TempDir,
    address: String,
    process: Process,
}

/// Whether both programs are there. If not, a line says so, unless they are required.
pub fn ready_or_skip() -> bool {
    let is_there = |name: &str| {
        let mut version = Command::new(name);
        let version = version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    };
    let installed = is_there("promtool") && is_there("prometheus");
    let required = std::env::var("FLARESHIFT_REQUIRE_PROMETHEUS").is_ok_and(|value| value == "1");
    assert!(
        installed || !required,
        "FLARESHIFT_REQUIRE_PROMETHEUS=1, but promtool and prometheus are not on the PATH: install prometheus"
    );
    if !installed {
        eprintln!("SKIPPED: no promtool and prometheus on the PATH (install prometheus)");
    }
    installed
}

/// Runs promtool; `input` is its standard input. Answers all that it said, or fails with it.
pub fn promtool(args: &[&str], dir: &Path, input: Option<&Path>) -> String {
    let mut command = Command::new("promtool");
    command.args(args).current_dir(dir);
    command.stdin(input.map_or(Stdio::null(), |path| File::open(path).unwrap().into()));
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {args:?}: {said}");
    said
}

/// The text of a page and its status.
pub fn page(address: &str, path: &str) -> Result<(u16, String), String> {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    let agent = ureq::Agent::new_with_config(config.timeout_global(Some(Duration::from_secs(5))).build());
    let asked = agent.get(format!("http://{address}{path}")).call();
    let mut answer = asked.map_err(|error| error.to_string())?;
    let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
    Ok((answer.status().as_u16(), text))
}

impl Prometheus {
    /// Starts a server with these jobs and their targets, and the rules of `rules`.
    pub fn start(jobs: &[(&str, &str)], rules: &Path) -> Self {
        let dir = TempDir::new("prometheus");
        let mut config =
            String::from("global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }\n");
        config += &format!("rule_files: [{:?}]\nscrape_configs:\n", rules.display().to_string());
        for (job, target) in jobs {
            config += &format!("  - {{ job_name: {job}, static_configs: [{{ targets: [{target:?}] }}] }}\n");
        }
        let config = dir.write("prometheus.yml", &config);
        let address = free_address();
        let mut command = Command::new("prometheus");
        command.args(["--config.file", &config, "--storage.tsdb.path", &dir.at("data")]).args([
            "--web.listen-address",
            &address,
            "--log.level",
            "warn",
        ]);
        let process = Process::spawn(&mut command, dir.path(), "prometheus");
        Self { _dir: dir, address, process }
    }

    /// The series that an expression selects or makes now.
    pub fn query(&mut self, expression: &str) -> Result<Vec<Value>, String> {
        let answer = self.ask("/api/v1/query", &[("query", expression)])?;
        Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    /// All rules that it has loaded.
    pub fn rules(&mut self) -> Result<Vec<Value>, String> {
        let answer = self.ask("/api/v1/rules", &[])?;
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        Ok(groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect())
    }

    /// Waits until an expression selects something.
    pub fn wait_for(&mut self, expression: &str) -> Vec<Value> {
        wait_for(&format!("{expression} selects something"), PATIENCE, || {
            let found = self.query(expression)?;
            if found.is_empty() { Err("nothing".into()) } else { Ok(found) }
        })
    }

    fn ask(&mut self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        assert!(self.process.is_running(), "{}", self.process.tail());
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        let mut request = ureq::Agent::new_with_config(config).get(format!("http://{}{path}", self.address));
        for (name, value) in query {
            request = request.query(name, value);
        }
        let mut answer = request.call().map_err(|error| error.to_string())?;
        let answer: Value = answer.body_mut().read_json().map_err(|error| error.to_string())?;
        if answer["status"] == "success" { Ok(answer) } else { Err(format!("{query:?}: {answer}")) }
    }
}
