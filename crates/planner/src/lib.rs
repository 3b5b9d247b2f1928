//! Decides the whole fleet's next hours: [`plan()`], [`check()`], [`explain()`], [`diff()`], [`outlook()`],
//! [`quote()`]. Pure: no clock, no random source, no log, no I/O; what it knows comes in as an [`Input`].
//!
//! Start at [`input`], then [`plan`] for the order of the steps, then [`check`] for what every plan must hold.
//!
//! Invariant: the same input gives the same plan, byte for byte; every plan this crate makes passes its own `check`.

mod affinity;
pub mod appraise;
mod assign;
mod beside;
mod capacity;
pub mod check;
mod commit;
mod decide;
pub mod diff;
pub mod dispatch;
mod elastic;
pub mod explain;
mod grant;
mod horizon;
pub mod input;
mod island;
mod mining;
pub mod outlook;
mod pack;
pub mod plan;
pub mod quote;
pub mod repair;
pub mod report;
mod reserve;
mod security;
mod share;
mod slot;
mod start;
mod storage;
mod tie;
mod worth;

pub use appraise::{Appraisal, appraise};
pub use check::check;
pub use diff::{Change, diff};
pub use explain::{Explanation, explain};
pub use input::{GasStep, Input, Link, ModuleInput, SiteInput};
pub use model::plan::Bound;
pub use outlook::{Assumptions, Outlook, outlook};
pub use plan::{Planned, bound, plan};
pub use quote::{Quote, quote};
pub use repair::repair;
pub use report::{Report, SiteView, Uses};
