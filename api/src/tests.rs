//! The control plane over an engine in memory: what clients see, call by call.

mod accounts;
mod archives;
mod audit;
mod bad_input;
mod batches;
mod deletion;
mod description;
mod diff;
#[allow(dead_code, reason = "other tests need other parts of it")]
#[path = "../../tests/support/dns.rs"]
mod dns;
mod domains;
mod http_rules;
mod invites;
mod previews;
mod projects;
mod publishing;
mod quotas;
mod rates;
mod retries;
mod scopes;
mod secrets;
mod throttling;
mod tokens;
mod world;
