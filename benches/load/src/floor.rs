//! The floor: a server that answers every request with the same bytes, so cheaply that a file server can only cost more.
//!
//! One thread, one epoll, one read and one write per request, nothing looked up. What it costs is what the kernel and
//! the load generator's pattern cost; a server's own work is what it costs above that.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::http;

/// The size of the constant body.
pub(crate) const BODY: usize = 1024;

/// Which event is the listener's.
const LISTENER: u64 = u64::MAX;

/// Serves until it is killed.
///
/// # Errors
///
/// Where the port is taken.
pub(crate) fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(http::local(port)).with_context(|| format!("cannot listen on port {port}"))?;
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let (keep, close) = (answer("keep-alive"), answer("close"));
    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; 16 << 10];
    loop {
        events.clear();
        match epoll::wait(&poll, spare_capacity(&mut events), None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error).context("cannot wait for events"),
        }
        for event in &events {
            let data = event.data.u64();
            if data == LISTENER {
                while let Some(stream) = accept(&listener)? {
                    let place = free.pop().unwrap_or(connections.len());
                    epoll::add(&poll, &stream, EventData::new_u64(place as u64), EventFlags::IN)?;
                    if place == connections.len() {
                        connections.push(Some(stream));
                    } else {
                        connections[place] = Some(stream);
                    }
                }
                continue;
            }
            let place = usize::try_from(data).unwrap_or(usize::MAX);
            let Some(Some(stream)) = connections.get_mut(place) else { continue };
            if !respond(stream, &mut buffer, &keep, &close) {
                // Closing takes it out of the epoll set.
                connections[place] = None;
                free.push(place);
            }
        }
    }
}

fn accept(listener: &TcpListener) -> Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            Ok(Some(stream))
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => Ok(None),
        Err(error) => Err(error).context("cannot accept"),
    }
}

/// Answers what has come, and says whether the connection stays. Every read is taken for one request: no load generator
/// here splits or joins requests.
fn respond(stream: &mut TcpStream, buffer: &mut [u8], keep: &[u8], close: &[u8]) -> bool {
    let request = match stream.read(buffer) {
        Ok(0) => return false,
        Ok(read) => &buffer[..read],
        Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    };
    let closes = request.windows(17).any(|window| window == b"Connection: close");
    let answer = if closes { close } else { keep };
    // A socket buffer takes far more than one answer, so a short write is a client that left.
    let written: io::Result<usize> = stream.write(answer);
    !closes && written.is_ok_and(|written| written == answer.len())
}

/// An answer with the fields that a careful file server sends.
fn answer(connection: &str) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\n\
         Content-Type: application/octet-stream\r\n\
         Content-Length: {BODY}\r\n\
         Connection: {connection}\r\n\
         Accept-Ranges: bytes\r\n\
         Cache-Control: public, max-age=0, must-revalidate\r\n\
         ETag: \"00000000000000000000000000000000\"\r\n\
         Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + BODY, b'x');
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_gets_the_constant() {
        let listener = TcpListener::bind(http::local(0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        // It ends with the test's process.
        std::thread::spawn(move || serve(port));
        let mut connection = (0..)
            .find_map(|_| {
                std::thread::yield_now();
                http::Connection::open(port, None).ok()
            })
            .unwrap();
        for fields in [vec![], vec![], vec!["Connection: close".to_owned()]] {
            let answer = connection.get("any.localhost", "/any", &fields).unwrap();
            assert_eq!((answer.status, answer.body.len()), (200, BODY));
        }
        assert!(connection.get("any.localhost", "/any", &[]).is_err(), "it closes when it is asked to");
    }
}
