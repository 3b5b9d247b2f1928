//! `flareshift`: the operator's command line over gRPC, and `flareshift dev`.
//!
//! Entry point: read the command line, hand it on, exit with its code. Read next: `args.rs`.

mod args;
mod backtest;
mod case;
mod dev;
mod duration;
mod operator;
mod output;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::Args::read() {
        Ok(args::Args { command: args::Command::Dev(dev), .. }) => dev::run(*dev),
        Ok(args) => operator::run(args),
        Err(code) => code,
    }
}
