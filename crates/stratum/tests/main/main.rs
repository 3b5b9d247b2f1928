//! The crate as its users see it: miners made of `upstream` and `mine` against sessions of `downstream`, byte soup, and
//! the accounting equation over all of it.
#![allow(clippy::unwrap_used)]

mod fuzz;
mod rows;
mod soup;
mod whole;
