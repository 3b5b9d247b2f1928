//! The operator's commands: one call each to a controller, its answer as a view.
//!
//! [`run`] dispatches; one file a noun makes the calls. Answers go to standard output, what went wrong to standard error, and
//! the exit code says it to scripts. Read next: [`failure`] for the codes, [`crate::output`] for what is printed.

pub mod connect;
pub mod failure;
mod history;
mod module;
mod offering;
mod plan;
mod quote;
mod site;
mod tenant;
mod watch;
mod workload;

use std::process::ExitCode;

use api::operator as wire;

use service::tls::{ClientFlags, is_secure};

use self::connect::Connection;
use self::failure::Error;
use crate::args::{Args, Command, Output, PlanCommand};
use crate::backtest;
use crate::case;
use crate::output::fleet::Fleet;
use crate::output::outlook::Outlook;
use crate::output::version::Versions;
use crate::output::{self, View};

/// Runs one of the operator's commands to its end.
pub fn run(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime);
    match runtime.and_then(|runtime| runtime.block_on(follow(args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flareshift: {error}");
            ExitCode::from(error.code())
        }
    }
}

/// Runs a command; where the controller that was asked stands by, once more at the leader that it names. A standby has done nothing
/// and printed nothing, so no command is carried out twice.
async fn follow(args: Args) -> Result<(), Error> {
    let again = (!args.no_follow).then(|| args.clone());
    match (dispatch(args).await, again) {
        (Err(Error::StandsBy { endpoint, leader }), Some(args)) if !leader.is_empty() => {
            if is_secure(&endpoint) && !is_secure(&leader) {
                return Err(Error::Insecure { endpoint, leader });
            }
            eprintln!("flareshift: {endpoint} stands by, asking the leader at {leader}");
            dispatch(Args { endpoint: leader, ..args }).await
        }
        (outcome, _) => outcome,
    }
}

async fn dispatch(args: Args) -> Result<(), Error> {
    let Args { endpoint, tls, no_follow, output, command } = args;
    let connect = || Connection::open(&endpoint, &tls, no_follow);
    match command {
        Command::Status(status) => {
            let connection = connect().await?;
            let request = wire::GetStatusRequest { decisions: status.decisions.into() };
            let answer = connection.ask(connection.client().get_status(request)).await?;
            answer_with(&Fleet::from(answer), output)
        }
        Command::Site(command) => site::run(&connect().await?, command, output).await,
        Command::Module(command) => module::run(&connect().await?, command, output).await,
        Command::Plan(PlanCommand::Solve { file }) => case::solve(&file, output),
        Command::Plan(PlanCommand::Check { file }) => case::check(&file, output),
        Command::Plan(command) => plan::run(&connect().await?, command, output).await,
        Command::Outlook { site } => {
            let connection = connect().await?;
            let request = wire::GetOutlookRequest { site: site.unwrap_or_default() };
            let answer = connection.ask(connection.client().get_outlook(request)).await?;
            answer_with(&Outlook::from(answer), output)
        }
        Command::Quote(asked) => quote::run(&connect().await?, asked, output).await,
        Command::Backtest(replay) => backtest::run(&replay, output),
        Command::Workload(command) => workload::run(&connect().await?, command, output).await,
        Command::Tenant(command) => tenant::run(&connect().await?, command, output).await,
        Command::Offering(command) => offering::run(&connect().await?, command, output).await,
        Command::Watch(watch) => watch::run(&connect().await?, watch.events_only, output).await,
        Command::Version(version) if version.client => answer_with(&Versions::new(None), output),
        Command::Version(_) => versions(&endpoint, &tls, output).await,
        Command::Dev(_) | Command::Proxy(_) | Command::Share(_) | Command::Store(_) => {
            Err(Error::Usage("this command is run by itself, without a controller to call".into()))
        }
    }
}

/// Prints this program's version in any case, and fails when no controller told its own.
async fn versions(endpoint: &str, tls: &ClientFlags, output: Output) -> Result<(), Error> {
    let asked = async {
        let connection = Connection::open(endpoint, tls, true).await?;
        connection.ask(connection.client().get_version(wire::GetVersionRequest {})).await
    };
    let (server, failure) = match asked.await {
        Ok(server) => (Some(server), Ok(())),
        Err(error) => (None, Err(error)),
    };
    answer_with(&Versions::new(server), output)?;
    failure
}

/// Prints an answer.
fn answer_with(view: &impl View, output: Output) -> Result<(), Error> {
    output::print(&output::text(view, output)).map(drop).map_err(Error::Print)
}
