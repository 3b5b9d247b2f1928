//! `flareshift store`: export, import, migrate, fsck and what else is done to a store that no controller uses.
//!
//! Assumes that this program was built without etcd, as it is for a new user: an address that begins with `etcd` is then answered
//! by the name of the program that has it, `flareshift-controller store`, with the same commands.
//! Read next: `controller/src/maintenance.rs`.

use std::process::ExitCode;

use api::clock::WallClock;
use controller::maintenance;
use model::time::Clock as _;

use crate::args::{Output, StoreArgs};
use crate::output;

/// The exit code where this process itself fails.
const FAILED: u8 = 1;

/// Runs one of the commands about a store to its end.
pub fn run(args: &StoreArgs, output: Output) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return told(&format!("the runtime does not start: {error}"), FAILED),
    };
    let seconds = u64::try_from(WallClock.now().0 / 1000).unwrap_or(0);
    match runtime.block_on(maintenance::run(&args.place, &args.command, seconds)) {
        Ok(answer) => {
            let text = match output {
                Output::Table => format!("{answer}\n"),
                Output::Json => output::json(&answer),
            };
            match output::print(&text) {
                Ok(_) => ExitCode::from(answer.code()),
                Err(error) => told(&format!("standard output cannot be written: {error}"), FAILED),
            }
        }
        Err(error) => told(&error.to_string(), error.code()),
    }
}

fn told(what: &str, code: u8) -> ExitCode {
    eprintln!("flareshift: {what}");
    ExitCode::from(code)
}
