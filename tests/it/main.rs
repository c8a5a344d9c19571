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
mod crash;
mod data_folder;
mod deploy_input;
mod diff;
mod disk;
#[path = "../support/dns.rs"]
mod dns;
mod domains;
#[allow(dead_code, reason = "other tests need other parts of it")]
#[path = "../support/fault_proxy.rs"]
mod fault_proxy;
mod full_disk;
mod http;
mod import;
mod kill_points;
mod observed;
mod power;
mod previews;
#[path = "../support/prometheus_text.rs"]
mod prometheus_text;
mod publish;
mod s3;
#[path = "../support/seaweedfs.rs"]
mod seaweedfs;
mod shutdown;
mod site;
mod strace;
mod tls;
mod variants;
mod visitors;
mod wire;
mod world;
