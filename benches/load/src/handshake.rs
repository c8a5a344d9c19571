//! TLS handshakes as a load: each request has a connection of its own, and each connection a full handshake.
//!
//! Not by `wrk`: it clears and reuses its TLS objects, sessions with them, so that its later handshakes may be resumed, and
//! it verifies a signature, which makes it the limit. Here no session is kept, every handshake that is counted was seen to
//! be full, and the signature is not verified ([`tls`]). Tickets are what each server gives by itself; they are counted.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;

use crate::servers::HOST;
use crate::stats::quantile;
use crate::wrk::Load;
use crate::{http, tls};

/// How long one may take before it counts as lost.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One run, within this process.
#[derive(Clone, Debug)]
pub(crate) struct Handshakes {
    pub(crate) port: u16,
    pub(crate) path: &'static str,
    /// The size of what is at the path.
    pub(crate) size: usize,
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
    pub(crate) client: Arc<ClientConfig>,
}

/// What one connection did.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// From the first packet to the last byte of the body.
    micros: f64,
    bytes: usize,
    tickets: u32,
}

impl Handshakes {
    /// Runs to the end. Gives what was measured, and how many session tickets came with a handshake.
    pub(crate) fn run(&self) -> Result<(Load, f64)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let began = Instant::now();
        let tasks = LocalSet::new();
        let request = format!("GET {} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n", self.path);
        let (run, connector) = (Rc::new((self.clone(), request)), TlsConnector::from(Arc::clone(&self.client)));
        let until = tokio::time::Instant::from_std(began + self.duration);
        let workers: Vec<_> = (0..self.connections)
            .map(|_| {
                let (run, connector) = (Rc::clone(&run), connector.clone());
                tasks.spawn_local(async move {
                    let (run, request) = &*run;
                    let (mut answers, mut lost) = (Vec::new(), Vec::new());
                    let one_after_the_other = async {
                        loop {
                            let one = tokio::time::timeout(TIMEOUT, run.one(&connector, request));
                            match one.await.context("no answer in time").and_then(|answer| answer) {
                                Ok(answer) => answers.push(answer),
                                Err(error) => {
                                    lost.push(error);
                                    tokio::time::sleep(Duration::from_millis(10)).await;
                                }
                            }
                        }
                    };
                    // What is under way at the end counts as neither.
                    let _: Result<(), _> = tokio::time::timeout_at(until, one_after_the_other).await;
                    (answers, lost)
                })
            })
            .collect();
        let done = runtime.block_on(tasks.run_until(async {
            let (mut answers, mut lost) = (Vec::new(), Vec::new());
            for worker in workers {
                let (some, other) = worker.await.context("a worker ended")?;
                answers.extend(some);
                lost.extend(other);
            }
            anyhow::Ok((answers, lost))
        }));
        let seconds = began.elapsed().as_secs_f64();
        let (answers, lost) = done?;
        if let Some(error) = lost.first() {
            eprintln!("warning: of {} handshakes {} failed: {error:#}", answers.len() + lost.len(), lost.len());
        }
        sum(&answers, lost.len() as u64, seconds)
    }

    /// Connects, shakes hands, asks, and waits until the server closes: who closes first remembers the connection for a
    /// minute, and the client would run out of ports.
    async fn one(&self, connector: &TlsConnector, request: &str) -> Result<Answer> {
        let began = Instant::now();
        let stream = TcpStream::connect(http::local(self.port)).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let mut stream = connector.connect(tls::server_name(), stream).await.context("no handshake")?;
        tls::check(stream.get_ref().1)?;
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::with_capacity(self.size + 1024);
        while !is_whole(&answer, self.size)? {
            let read = stream.read_buf(&mut answer).await?;
            ensure!(read > 0, "the connection ended within an answer");
        }
        let micros = began.elapsed().as_secs_f64() * 1e6;
        // Some end a connection without saying so in TLS, which is an error to a client that wants more.
        let more = stream.read_buf(&mut answer).await.unwrap_or(0);
        ensure!(more == 0, "there is more than one answer");
        Ok(Answer { micros, bytes: answer.len(), tickets: stream.get_ref().1.tls13_tickets_received() })
    }
}

/// Whether an answer with a body of that size is there. Anything but a 200 is an error.
fn is_whole(answer: &[u8], size: usize) -> Result<bool> {
    let status = &answer[..answer.len().min(12)];
    ensure!(status == &b"HTTP/1.1 200"[..status.len()], "it answers `{}`", String::from_utf8_lossy(status));
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let body = answer.len() - head - 4;
    ensure!(body <= size, "a body of {body} bytes, and not of {size}");
    Ok(body == size)
}

fn sum(answers: &[Answer], lost: u64, seconds: f64) -> Result<(Load, f64)> {
    ensure!(!answers.is_empty(), "no request was answered");
    let mut latencies: Vec<f64> = answers.iter().map(|answer| answer.micros).collect();
    latencies.sort_by(f64::total_cmp);
    let percentile = |share| quantile(&latencies, share).context("there are answers");
    let load = Load {
        answers: answers.len() as u64,
        bytes: answers.iter().map(|answer| answer.bytes as u64).sum(),
        seconds,
        refused: 0,
        lost,
        p50: percentile(0.5)?,
        p99: percentile(0.99)?,
        p999: percentile(0.999)?,
    };
    let tickets = answers.iter().map(|answer| f64::from(answer.tickets)).sum::<f64>();
    Ok((load, tickets / answers.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in;
    use crate::tls::Identity;

    #[test]
    fn handshakes_are_counted_with_their_tickets() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::create(folder.path()).unwrap();
        let mut run = Handshakes {
            port: stand_in::serve(&identity, "http/1.1"),
            path: "/",
            size: stand_in::BODY.len(),
            connections: 3,
            duration: Duration::ZERO,
            client: identity.client(&["http/1.1"]).unwrap(),
        };
        // A machine that is busy needs longer for the first.
        let longer = |power: u32| {
            run.duration = Duration::from_millis(200_u64 << power);
            run.run().ok()
        };
        let (load, tickets) = (0..10).find_map(longer).unwrap();
        assert!(load.answers > 0 && load.bytes > load.answers * run.size as u64, "{load:?}");
        assert!((tickets - 2.0).abs() < 1e-9, "{tickets}: rustls gives two by itself");
        run.size += 1;
        run.duration = Duration::from_millis(200);
        assert!(run.run().is_err(), "no answer is whole");
    }

    #[test]
    fn an_answer_is_whole_with_its_body() {
        let head = "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n";
        for (text, want) in [
            (String::new(), Some(false)),
            ("HTTP/1".to_owned(), Some(false)),
            (head[..head.len() - 2].to_owned(), Some(false)),
            (head.to_owned() + "ab", Some(false)),
            (head.to_owned() + "abc", Some(true)),
            (head.to_owned() + "abcd", None),
            ("HTTP/1.1 404 Not Found\r\n\r\n".to_owned(), None),
            ("HTTP/1.0".to_owned(), None),
        ] {
            assert_eq!(is_whole(text.as_bytes(), 3).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn answers_are_summed_up() {
        let answer = |micros, tickets| Answer { micros, bytes: 1100, tickets };
        let (load, tickets) =
            sum(&[answer(300.0, 2), answer(100.0, 2), answer(200.0, 1), answer(400.0, 1)], 2, 0.5).unwrap();
        assert_eq!((load.answers, load.bytes, load.lost, load.p50, tickets), (4, 4400, 2, 250.0, 1.5));
        assert!(sum(&[], 1, 0.5).is_err());
    }
}
