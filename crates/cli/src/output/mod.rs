//! What commands print: one view a noun, each with a table for people and JSON for programs.
//!
//! A view is a plain struct of our own; its field names are the stable names of the JSON, with units in them, and `null` is
//! "unknown", never zero. Views are made from what the wire brings in the same file; they call nobody. Answers go to standard
//! output, talk to standard error. Read next: [`fleet`], which `status` and the live table are drawn from.

pub mod affinity;
pub mod backtest;
pub mod case;
pub mod decision;
pub mod event;
pub mod fleet;
pub mod history;
pub mod module;
pub mod offering;
pub mod outlook;
pub mod plan;
pub mod proxy;
pub mod quote;
mod read;
pub mod replay;
pub mod share;
pub mod show;
pub mod site;
pub mod table;
pub mod tenant;
pub mod units;
pub mod version;
pub mod workload;

#[cfg(test)]
mod goldens;
#[cfg(test)]
mod samples;

use std::io::{self, Write};

use serde::Serialize;

use crate::args::Output;

/// What a command answers.
pub trait View: Serialize {
    /// For people: lines that end with a line break.
    fn table(&self) -> String;
}

/// The text of an answer, as it goes to standard output.
pub fn text(view: &impl View, output: Output) -> String {
    match output {
        Output::Table => view.table(),
        Output::Json => json(view),
    }
}

/// A document as JSON that people can read too.
pub fn json(document: &impl Serialize) -> String {
    serde_json::to_string_pretty(document).expect("what is printed has string keys only, so it is JSON")
        + "\n"
}

/// The text of one of many answers: in JSON one line each, so that a reader can take them as they come.
pub fn line(view: &impl View, output: Output) -> String {
    match output {
        Output::Table => view.table(),
        Output::Json => {
            serde_json::to_string(view).expect("a view has string keys only, so it is JSON") + "\n"
        }
    }
}

/// Prints a text. A reader that closed the pipe has seen enough: that is no error, and `false` says to stop.
pub fn print(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}
