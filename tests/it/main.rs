//! End-to-end tests: the real binary, real sockets, real files.
//!
//! One test binary, because linking RocksDB takes longer than any of these tests. Each test starts and stops servers of
//! its own, on free ports and in fresh folders, so all of them can run at once. What a test waits for is a condition;
//! times are limits for when something is broken.

#![allow(clippy::unwrap_used, reason = "a test that meets an unexpected value should stop there")]

mod archives;
mod bad_input;
mod batches;
mod cli;
mod commands;
mod crash;
mod crowd;
mod data_folder;
mod deploy_input;
mod diff;
mod disk;
#[path = "../support/dns.rs"]
mod dns;
mod domains;
mod domains_cli;
#[allow(dead_code, reason = "other tests need other parts of it")]
#[path = "../support/fault_proxy.rs"]
mod fault_proxy;
mod full_disk;
mod http;
mod import;
mod kill_points;
mod login;
mod observed;
mod power;
mod previews;
mod project_files;
mod projects;
#[path = "../support/prometheus_text.rs"]
mod prometheus_text;
mod publish;
mod recorder;
mod revoked;
mod s3;
#[path = "../support/seaweedfs.rs"]
mod seaweedfs;
mod secrets;
mod shutdown;
mod site;
mod stock_cli;
mod strace;
mod terminal;
mod tls;
mod variants;
mod visitors;
mod wire;
mod world;
