//! Archives: good ones of every format become the site that they hold, and hostile ones are refused by name, with nothing
//! left behind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod build;
mod good;
mod hostile;
mod publish;
mod store;
mod world;
