//! HTTP/1.1 and 1.0 (RFC 9112), the server's side.
//!
//! A connection is one state machine in one task ([`connection`]): it reads a head, has the request answered where it was read,
//! and writes what that made, together with the answers to other requests that came with it. While one is answered, only
//! its body is read, and what shows that the client leaves.
//!
//! The steps by themselves: [`request`] is what makes a request of a head, [`chunked`] and [`receiving`] are the body that a
//! client sends, [`response`] is the head of an answer, [`Outgoing`](crate::outgoing::Outgoing) what the socket is to take next.
//!
//! # What a client can make us do
//!
//! All of it is bounded, whatever a client sends or leaves: a head has as many bytes and fields as the
//! [`Limits`](crate::config::Limits) say; a body is read as far as it is asked for ([`WINDOW`](crate::intake::WINDOW)); and
//! nothing is answered while there is [enough](crate::outgoing::ENOUGH) to be written. A connection that has nothing to read, to
//! answer or to write has no memory but its own state.
//!
//! How long anything may take is the [`Watch`](crate::watch::Watch)'s to say.
//!
//! # What may not be taken in two ways
//!
//! Requests follow one another in one stream of bytes, so whoever stands before us must have found the same end of each
//! (RFC 9112 section 11.2). Lines and names are what [`httparse`] takes for such. A length is digits, and there is one; a
//! transfer coding is `chunked` alone, without a length beside it; anything else is refused, and the connection ends.

pub(crate) mod connection;

mod chunked;
mod receiving;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub(crate) use connection::{Bounds, Connection};
