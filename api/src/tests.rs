//! The control plane over an engine in memory: what clients see, call by call.

mod archives;
mod bad_input;
mod batches;
mod description;
mod diff;
mod http_rules;
mod previews;
mod publishing;
mod retries;
mod world;
