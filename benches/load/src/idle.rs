//! Memory of connections that wait: what thousands of them add to a server that was just started.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustls::ClientConfig;

use crate::http::Connection;
use crate::measure::{Metric, Pinned, Sample, measured};
use crate::scenario::Over;
use crate::servers::HOST;
use crate::{floor, http2, procfs};

const PATH: &str = "/1k.bin";

/// Opened before anything is counted, so that what a server allocates once is there.
const WARM: usize = 64;

/// Where to connect to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) pid: u32,
    pub(crate) port: u16,
    pub(crate) over: Over,
    /// The client's settings for TLS, where it is spoken.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// Connections of one kind.
#[derive(Debug)]
enum Held {
    Http1(Vec<Connection>),
    Http2(http2::Client, Vec<http2::Connection>),
}

/// Measures what each of `connections` adds after a request, once it waits for another.
pub(crate) fn memory(target: &Target, connections: usize, cores: Pinned) -> Result<Sample> {
    let (held, usage) = measured(target.pid, cores, || {
        let mut held = match target.over {
            Over::Http1 | Over::Https => Held::Http1(Vec::new()),
            Over::Http2Tls => Held::Http2(http2::Client::new()?, Vec::new()),
        };
        held.open(target, WARM)?;
        held.rest(Duration::from_millis(200));
        let before = procfs::tree_resident(target.pid)?;
        held.open(target, connections)?;
        // Long enough for a server to see that they are idle.
        held.rest(Duration::from_secs(5));
        let after = procfs::tree_resident(target.pid)?;
        Ok((after.saturating_sub(before) as f64 / 1024.0 / connections as f64, held.lost()))
    })?;
    let (kib, errors) = held;
    let mut sample = Sample { errors, ..Sample::of_usage(&usage) };
    // One thread asks one thing at a time; that says nothing of the memory.
    sample.generator_limited = false;
    sample.values.insert(Metric::IdleKib, kib);
    Ok(sample)
}

impl Held {
    /// Opens some more, and asks on each once.
    fn open(&mut self, target: &Target, count: usize) -> Result<()> {
        for _ in 0..count {
            let (status, size) = match self {
                Self::Http1(connections) => {
                    let mut connection = Connection::open(target.port, target.tls.as_ref())?;
                    let answer = connection.get(HOST, PATH, &[])?;
                    connections.push(connection);
                    (answer.status, answer.body.len())
                }
                Self::Http2(client, connections) => {
                    let connection = client.open(target.port, target.tls.as_ref())?;
                    let (status, body) = client.get(&connection, HOST, PATH)?;
                    connections.push(connection);
                    (status, body.len())
                }
            };
            ensure!(status == 200 && size == floor::BODY, "GET {PATH} is answered wrongly");
        }
        Ok(())
    }

    fn rest(&self, time: Duration) {
        match self {
            Self::Http1(_) => std::thread::sleep(time),
            Self::Http2(client, _) => client.rest(time),
        }
    }

    /// How many of some that are asked again were dropped by the server: those would cost it nothing.
    fn lost(&mut self) -> u64 {
        let lost = match self {
            Self::Http1(connections) => {
                connections.iter_mut().skip(WARM).step_by(50).filter_map(|one| one.get(HOST, PATH, &[]).err()).count()
            }
            Self::Http2(client, connections) => {
                let some = connections.iter().skip(WARM).step_by(50);
                some.filter_map(|one| client.get(one, HOST, PATH).err()).count()
            }
        };
        lost as u64
    }
}
