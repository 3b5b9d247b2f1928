//! The live table: the controller's own status, asked over gRPC like any operator's, drawn anew twice a second.

use std::io::{self, Write};
use std::time::Duration;

use agent::simulated::World;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::execute;
use crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, size};
use model::time::Clock;

use super::scenario::Scenario;
use super::{controllers, has_screen};
use crate::output::{self, fleet::Fleet};

/// Time between two drawings, on wall time.
const EVERY: Duration = Duration::from_millis(500);

/// Shows the run until simulated time ends.
pub async fn show(scenario: &Scenario, world: &World, endpoints: &[String]) -> anyhow::Result<()> {
    let mut screen = if has_screen(scenario) { Some(Screen::open()?) } else { None };
    while !world.has_ended() {
        tokio::time::sleep(EVERY).await;
        if let Some(screen) = &mut screen {
            let body = match controllers::status(endpoints).await {
                Ok(status) => output::text(&Fleet::from(status), crate::args::Output::Table),
                Err(error) => format!("no status yet: {error:#}\n"),
            };
            screen.draw(&head(scenario, world, &endpoints.join(" ")), &body)?;
        }
    }
    Ok(())
}

fn head(scenario: &Scenario, world: &World, operators: &str) -> String {
    let simulated = (world.clock.now() - scenario.start).as_secs_f64();
    format!(
        "flareshift dev   simulated {simulated:.0} s at up to {}x   seed {}   operators {operators}   tenants http://{}   \
         Ctrl-C ends\n",
        scenario.args.speed, scenario.args.seed, scenario.args.rest
    )
}

/// The terminal's other screen; dropping it gives the first one back.
struct Screen;

impl Screen {
    fn open() -> io::Result<Self> {
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(Self)
    }

    /// Draws as much as fits.
    fn draw(&mut self, head: &str, body: &str) -> io::Result<()> {
        let (columns, rows) = size().unwrap_or((160, 50));
        let mut out = io::stdout().lock();
        execute!(out, MoveTo(0, 0))?;
        let lines = head.lines().chain(body.lines()).take(usize::from(rows.saturating_sub(1)));
        for line in lines {
            let line: String = line.chars().take(usize::from(columns)).collect();
            write!(out, "{line}")?;
            execute!(out, Clear(ClearType::UntilNewLine))?;
            write!(out, "\r\n")?;
        }
        execute!(out, Clear(ClearType::FromCursorDown))?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no farewell.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
    }
}
