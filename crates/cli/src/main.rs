//! `flareshift`: the operator's command line over gRPC, `flareshift dev`, and `flareshift share check`, which asks nobody.
//!
//! Entry point: read the command line, hand it on, exit with its code. Read next: `args.rs`.

mod args;
mod backtest;
mod case;
mod dev;
mod duration;
mod operator;
mod output;
mod proxy;
mod share;
mod store_command;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::Args::read() {
        Ok(args::Args { command: args::Command::Dev(dev), .. }) => dev::run(*dev),
        Ok(args::Args { command: args::Command::Proxy(command), output, .. }) => proxy::run(&command, output),
        Ok(args::Args { command: args::Command::Share(command), output, .. }) => share::run(&command, output),
        Ok(args::Args { command: args::Command::Store(store), output, .. }) => {
            store_command::run(&store, output)
        }
        Ok(args) => operator::run(args),
        Err(code) => code,
    }
}
