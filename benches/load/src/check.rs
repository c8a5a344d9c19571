//! Whether every server answers with the bytes of the files, before anything is measured: figures of servers that do
//! different things compare nothing.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::ClientConfig;

use crate::corpus::{Corpus, Page};
use crate::http::{Answer, Connection};
use crate::http2;
use crate::servers::{HOST, Running};
use crate::tls::Identity;

/// Asks a server for every file, and over TLS, where it serves it, for every file again; and over HTTP/2, with and
/// without TLS, for one file of each size. Gives the number of answers; names the first that is wrong.
pub(crate) fn bytes(running: &Running, corpus: &Corpus, identity: Option<&Identity>) -> Result<usize> {
    let mut checked = over_http1(running.port, None, corpus)?;
    if let Some(port) = running.h2_port {
        checked += over_http2(port, None, &corpus.sizes).context("HTTP/2")?;
    }
    if let (Some(identity), Ok((_, port))) = (identity, running.tls()) {
        checked += over_http1(port, Some(&identity.client(&["http/1.1"])?), corpus).context("TLS")?;
        checked += over_http2(port, Some(&identity.client(&["h2"])?), &corpus.sizes).context("HTTP/2 over TLS")?;
    }
    Ok(checked)
}

fn over_http1(port: u16, tls: Option<&Arc<ClientConfig>>, corpus: &Corpus) -> Result<usize> {
    let mut connection = Connection::open(port, tls)?;
    let mut checked = 0;
    for page in corpus.all() {
        let answer = connection.get(HOST, &page.url, &[])?;
        check_answer(&answer, &fs::read(&page.file)?).with_context(|| page.url.clone())?;
        checked += 1;
    }
    Ok(checked)
}

fn over_http2(port: u16, tls: Option<&Arc<ClientConfig>>, pages: &[Page]) -> Result<usize> {
    let client = http2::Client::new()?;
    let connection = client.open(port, tls)?;
    for page in pages {
        let (status, body) = client.get(&connection, HOST, &page.url)?;
        check_body(status, &body, &fs::read(&page.file)?).with_context(|| page.url.clone())?;
    }
    Ok(pages.len())
}

fn check_answer(answer: &Answer, bytes: &[u8]) -> Result<()> {
    ensure!(answer.field("content-encoding").is_none(), "the answer is encoded, though nothing asked for it");
    check_body(answer.status, &answer.body, bytes)
}

fn check_body(status: u16, body: &[u8], bytes: &[u8]) -> Result<()> {
    ensure!(status == 200, "the status is {status}");
    ensure!(body == bytes, "{} bytes came that differ from the file's {}", body.len(), bytes.len());
    Ok(())
}
