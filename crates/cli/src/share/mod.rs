//! `flareshift share check`: one share held against its job, by the code that the proxy uses. No network, no controller.
//!
//! Assumes that whoever asks has both sides of a conversation: what the pool told and what the miner sent. Read next: [`case`]
//! for the file and the verdict, [`crate::output::share`] for what is printed.

mod case;

use std::fs::File;
use std::io::{self, Read};
use std::process::ExitCode;

use crate::args::{Output, ShareCommand};
use crate::output;
use crate::output::share::Verdict;

use case::{Case, Error};

/// Longest case: a job may have 49 KiB of hex and the submission a few hundred bytes; five times that leaves room for blanks.
const MAX_BYTES: u64 = 256 * 1024;

/// The exit code for a share that is refused.
const REJECTED: u8 = 1;
/// The exit code for a case that cannot be judged: no verdict is given then.
const UNUSABLE: u8 = 2;

/// Runs one of the commands about shares to its end.
pub fn run(command: &ShareCommand, output: Output) -> ExitCode {
    let ShareCommand::Check { file } = command;
    match read(file).and_then(|text| Case::parse(file, &text)) {
        Ok(case) => print(&case.judge(), output),
        Err(error) => {
            eprintln!("flareshift: {error}{}", source(&error));
            ExitCode::from(UNUSABLE)
        }
    }
}

/// The text of a file, or of standard input for `-`; cut one byte behind the limit, so that the parser sees that it is too long.
fn read(file: &str) -> Result<String, Error> {
    let text = match file {
        "-" => io::read_to_string(io::stdin().lock().take(MAX_BYTES + 1)),
        path => File::open(path).and_then(|file| io::read_to_string(file.take(MAX_BYTES + 1))),
    };
    let text = text.map_err(|source| Error::Unreadable { file: file.to_owned(), source })?;
    let fits = u64::try_from(text.len()).is_ok_and(|bytes| bytes <= MAX_BYTES);
    if fits { Ok(text) } else { Err(Error::TooLarge { file: file.to_owned(), most: MAX_BYTES }) }
}

fn print(verdict: &Verdict, output: Output) -> ExitCode {
    let code = if verdict.accepted { 0 } else { REJECTED };
    match output::print(&output::text(verdict, output)) {
        Ok(_) => ExitCode::from(code),
        Err(error) => {
            eprintln!("flareshift: standard output cannot be written: {error}");
            ExitCode::from(UNUSABLE)
        }
    }
}

fn source(error: &Error) -> String {
    std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default()
}
