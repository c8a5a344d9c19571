//! The edge on real sockets: heads and bytes as they go over the wire.

// A test fails where it panics; clippy knows only functions that are marked as tests.
#![allow(clippy::unwrap_used)]

mod abuse;
mod content;
mod control;
mod domains;
mod floods;
mod http1;
mod http2;
mod https;
mod lifecycle;
mod memory;
mod observed;
mod paths;
mod previews;
mod proxies;
mod ranges;
mod raw_http2;
mod renamed;
mod sources;
mod tls;
mod tls_client;
mod world;
