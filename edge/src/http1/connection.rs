//! One connection: requests one after the other, each answered before the next is looked at.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::Body as _;
use tokio::io::AsyncRead;

use super::receiving::{self, Receiving};
use super::request::{self, Head, Refusal};
use super::response::{self, Asked, Framing};
use crate::answering::Answering;
use crate::body::EdgeBody;
use crate::connection::{INPUT, TURN};
use crate::control::BoxError;
use crate::head;
use crate::incoming::Incoming;
use crate::outgoing::{Outgoing, WriteStored};
use crate::pages::Page;
use crate::piece::Piece;
use crate::reply::Reply;
use crate::request::{Method, Protocol};
use crate::request_body::RequestBody;
use crate::request_head::RequestHead;
use crate::respond;
use crate::watch::Watch;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Bounds of a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) bytes: usize,
    pub(crate) fields: usize,
}

/// Why a connection broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The socket, or TLS.
    #[error("it could not be read or written")]
    Io(#[from] io::Error),
    /// An answer that had begun could not be made to its end.
    #[error("an answer broke off")]
    Body(#[source] BoxError),
    /// An answer was shorter than its head had said.
    #[error("an answer ended {0} bytes too early")]
    Short(u64),
}

/// A request that is being answered.
#[derive(Debug)]
struct Exchange {
    asked: Asked,
    progress: Progress,
}

/// How far an answer is.
enum Progress {
    /// It is being made.
    Waiting(Pin<Box<dyn Future<Output = Reply> + Send>>),
    /// Its body is being sent.
    Sending(EdgeBody, Framing),
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting(_) => "Waiting",
            Self::Sending(..) => "Sending",
        })
    }
}

/// A connection over `stream`, on which `answer` begins to answer each request.
#[derive(Debug)]
pub(crate) struct Connection<S, F> {
    stream: S,
    watch: Arc<Watch>,
    answer: F,
    bounds: Bounds,
    /// Bytes of which only whole multiples are written while more is to come.
    unit: usize,
    incoming: Incoming,
    /// Bytes of the head that was not there whole when it was looked at last.
    looked_at: usize,
    out: Outgoing,
    exchange: Option<Exchange>,
    /// The body of the request, while it comes.
    receiving: Option<Receiving>,
    /// Nothing is read any more once what was asked is answered.
    is_last: bool,
    is_leaving: bool,
    /// The client has closed its side.
    saw_end: bool,
    /// Requests of this turn.
    asked: usize,
}

impl<S, F> Connection<S, F>
where
    S: AsyncRead + WriteStored + Unpin,
    F: FnMut(Box<RequestHead>, RequestBody) -> Answering,
{
    /// A connection of which `input` was read.
    pub(crate) fn new(stream: S, input: Vec<u8>, watch: Arc<Watch>, bounds: Bounds, unit: usize, answer: F) -> Self {
        Self {
            stream,
            watch,
            answer,
            bounds,
            unit,
            incoming: input.into(),
            looked_at: 0,
            out: Outgoing::default(),
            exchange: None,
            receiving: None,
            is_last: false,
            is_leaving: false,
            saw_end: false,
            asked: 0,
        }
    }

    /// Bytes of memory that it has beside its own state.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.incoming.memory() + self.out.memory()
    }

    /// Has the connection end behind what was asked already.
    pub(crate) fn leave(&mut self) {
        self.is_leaving = true;
    }

    /// Goes on until there is nothing to do; ready when the connection has ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.asked = 0;
        loop {
            if self.exchange.is_some() {
                // A body is taken as it comes. Whether the client leaves is asked only where its answer waits for something.
                let has_body = self.receiving.is_some();
                if has_body && self.is_left(cx)? {
                    return Poll::Ready(Ok(()));
                }
                match self.poll_exchange(cx) {
                    Poll::Ready(Ok(())) => {
                        if self.exchange.is_none()
                            || self.out.poll_write(Pin::new(&mut self.stream), cx, self.unit)?.is_ready()
                        {
                            continue;
                        }
                    }
                    Poll::Ready(Err(broken)) => {
                        self.send_the_last(cx);
                        return Poll::Ready(Err(broken));
                    }
                    // What there is of the answer is not kept back for what has to be waited for.
                    Poll::Pending => _ = self.poll_send(cx)?,
                }
                if !has_body && self.is_left(cx)? {
                    return Poll::Ready(Ok(()));
                }
                return Poll::Pending;
            }
            let is_busy = self.out.is_full() || self.asked >= TURN;
            if !self.is_last && !is_busy && self.begin_next() {
                continue;
            }
            // Answers to what came together are written together.
            ready!(self.poll_send(cx))?;
            if self.is_last {
                if self.incoming.is_empty() && !self.saw_end {
                    // What has come by now would have the kernel reset the connection, and the last answer be lost with that. So would
                    // an end without a farewell, were it an error here.
                    let _ = self.poll_read(cx);
                }
                if !self.incoming.is_empty() {
                    // The client has sent more than was looked at, and may go on.
                    self.watch.on_waiting(true);
                }
                return Pin::new(&mut self.stream).poll_shutdown(cx).map_err(Into::into);
            }
            if self.asked >= TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !is_busy && !self.saw_end {
                ready!(self.poll_next(cx))?;
            }
            self.is_last |= self.saw_end && !is_busy;
        }
    }

    /// Reads what comes where a request is waited for.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_partial = !self.incoming.is_empty();
        self.watch.on_waiting(is_partial);
        let read = self.poll_read(cx);
        if read.is_pending() && self.is_leaving && !is_partial {
            self.is_last = true;
            return Poll::Ready(Ok(()));
        }
        read
    }

    /// Reads what comes, once.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let read = self.incoming.poll_read(&mut self.stream, cx);
        if let Poll::Ready(Ok(0)) = read {
            self.saw_end = true;
        }
        read.map_ok(|_| ())
    }

    /// Writes all that there is.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.out.poll_write(Pin::new(&mut self.stream), cx, 1))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Takes what came beside an answer; says whether nobody waits for that any more, after what there is of it was sent.
    fn is_left(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let is_left = self.poll_receive(cx)? == Came::NobodyWaits;
        if is_left {
            self.send_the_last(cx);
        }
        Ok(is_left)
    }

    /// Writes what the socket takes of it: what was answered before the connection broke off is not lost with that.
    fn send_the_last(&mut self, cx: &mut Context<'_>) {
        self.watch.take_turn();
        let _ = self.poll_send(cx);
    }

    /// Begins to answer the next request, if its head is there; says whether something was done.
    fn begin_next(&mut self) -> bool {
        if self.looked_at == 0 {
            self.pass_over_empty_lines();
        }
        let input = self.incoming.rest();
        let is_worth_it = !input.is_empty() && may_be_whole(input, self.looked_at);
        let parsed = if is_worth_it { request::parse(input, self.bounds.fields) } else { Ok(None) };
        match parsed {
            Ok(Some((_, length))) if length > self.bounds.bytes => self.refuse(Refusal::TooLarge),
            Ok(Some((head, length))) => {
                self.incoming.take(length);
                self.begin(head);
            }
            Ok(None) => {
                // One that begins an empty line may be passed over still.
                self.looked_at = if input == b"\r" { 0 } else { input.len() };
                return self.refuse_if_too_large();
            }
            Err(refusal) => self.refuse(refusal),
        }
        self.looked_at = 0;
        true
    }

    /// An empty line before a request means nothing (RFC 9112 section 2.2).
    fn pass_over_empty_lines(&mut self) {
        let mut rest = self.incoming.rest();
        while let Some(less) = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")) {
            rest = less;
        }
        let passed = self.incoming.rest().len() - rest.len();
        if passed > 0 {
            self.incoming.take(passed);
            self.watch.on_nothing();
            // As much work as a request may be.
            self.asked += 1;
        }
    }

    /// Refuses a head that is not there whole, if it has all that one may have; says whether that is so.
    fn refuse_if_too_large(&mut self) -> bool {
        let is_too_large = self.incoming.rest().len() >= self.bounds.bytes;
        if is_too_large {
            self.refuse(Refusal::TooLarge);
        }
        is_too_large
    }

    /// Answers what is no request. What follows cannot be told.
    fn refuse(&mut self, refusal: Refusal) {
        self.give_up(refusal.page());
    }

    /// Answers with one of the edge's own pages, and ends.
    fn give_up(&mut self, page: Page) {
        let (status, fields) = respond::head(head::page(Method::Get, page).head);
        let asked = Asked { protocol: Protocol::Http11, is_head: false, persists: false };
        let html = page.html().as_bytes();
        self.out.append(|out| {
            response::put(out, asked, status, &fields.into(), Some(html.len() as u64));
            out.extend_from_slice(html);
        });
        self.is_last = true;
    }

    /// Begins to answer a request.
    fn begin(&mut self, head: Head) {
        let Head { request, framing, persists, expects_continue } = head;
        self.asked += 1;
        let asked = Asked { protocol: request.protocol(), is_head: request.method() == "HEAD", persists };
        let has_body = framing != request::Framing::Nothing;
        let mut request_body = RequestBody::empty();
        if let Some((receiving, body)) = Receiving::new(framing, expects_continue) {
            request_body = body;
            self.receiving = Some(receiving);
            // A short one mostly came with its head.
            self.take_body();
        }
        let answering = (self.answer)(request, request_body);
        if has_body && self.receiving.is_none() && !self.is_last {
            self.watch.on_body_over();
        }
        match answering {
            Answering::Done(answer) => self.start(asked, answer),
            Answering::Waiting(answer) => {
                self.exchange = Some(Exchange { asked, progress: Progress::Waiting(answer) });
            }
            Answering::Panicked => {
                tracing::error!("a connection was given up because what answers its request panicked");
                self.give_up(Page::Internal);
            }
        }
    }

    /// Sends the head of an answer.
    fn start(&mut self, mut asked: Asked, reply: Reply) {
        // Where nobody will read the rest of the request, nothing can be read behind it.
        let may_be_read = self.receiving.as_mut().is_none_or(Receiving::on_answer);
        asked.persists &= may_be_read && !self.is_last && !self.is_leaving;
        let Reply { status, fields, body } = reply;
        let length = body.size_hint().exact();
        let (framing, persists) = self.out.append(|out| response::put(out, asked, status, &fields, length));
        self.is_last |= !persists;
        if matches!(framing, Framing::Nothing | Framing::Length(0)) {
            self.finish();
        } else {
            self.exchange = Some(Exchange { asked, progress: Progress::Sending(body, framing) });
        }
    }

    /// The answer is whole.
    fn finish(&mut self) {
        self.exchange = None;
        // What is left of the request would be taken for the next one.
        self.is_last |= self.receiving.take().is_some();
    }

    /// Goes on with the answer until there is enough to be written; ready where it is over, or that is so.
    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while let Some(exchange) = &mut self.exchange
            && !self.out.is_full()
        {
            match &mut exchange.progress {
                Progress::Waiting(answer) => {
                    let answer = ready!(answer.as_mut().poll(cx));
                    let asked = exchange.asked;
                    self.start(asked, answer);
                }
                Progress::Sending(body, framing) => match ready!(Pin::new(body).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        let Ok(data) = frame.into_data() else { continue };
                        if put_piece(&mut self.out, framing, data) {
                            self.finish();
                        }
                    }
                    Some(Err(error)) => {
                        if *framing == Framing::UntilClose {
                            // Its end is that of the connection, which must not look like one.
                            self.watch.reset();
                        }
                        return Poll::Ready(Err(Broken::Body(error)));
                    }
                    None => {
                        match *framing {
                            Framing::Length(left) if left > 0 => return Poll::Ready(Err(Broken::Short(left))),
                            Framing::Chunked => self.out.append(|out| out.extend_from_slice(b"0\r\n\r\n")),
                            _ => {}
                        }
                        self.finish();
                    }
                },
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what came of the request's body, and reads more of it; behind it, looks whether the client leaves.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> io::Result<Came> {
        loop {
            if let Some(receiving) = &mut self.receiving {
                receiving.widen(cx);
                if receiving.is_to_continue() {
                    self.out.append(|out| out.extend_from_slice(CONTINUE));
                }
            }
            self.take_body();
            let is_enough = match &self.receiving {
                Some(receiving) => receiving.is_full(),
                // Requests that come meanwhile are left for later.
                None => self.incoming.rest().len() >= INPUT,
            };
            if is_enough {
                return Ok(Came::Something);
            }
            if self.saw_end {
                // Where that was not the end of its request, who reads that learns it.
                let was_cut = self.receiving.take().is_some();
                let may_finish = self.watch.may_finish();
                if was_cut && !may_finish {
                    // Where nobody reads it just then, nobody is woken by that.
                    cx.waker().wake_by_ref();
                }
                let goes_on = was_cut || may_finish;
                return Ok(if goes_on { Came::Something } else { Came::NobodyWaits });
            }
            if self.poll_read(cx)?.is_pending() {
                return Ok(Came::Something);
            }
        }
    }

    /// Takes of the request's body what was read and there is room for.
    fn take_body(&mut self) {
        let Some(receiving) = &mut self.receiving else { return };
        match receiving.take(self.incoming.rest()) {
            receiving::Step::Some(bytes) => self.incoming.take(bytes),
            receiving::Step::All(bytes) => {
                self.incoming.take(bytes);
                self.receiving = None;
                // Where it has not begun to be answered, that is said again when it has.
                self.watch.on_body_over();
            }
            receiving::Step::Broken => {
                self.receiving = None;
                self.is_last = true;
            }
        }
    }
}

/// What became of what a client sends while it waits for its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Came {
    /// It goes on waiting.
    Something,
    /// It is gone, as far as who answers is concerned.
    NobodyWaits,
}

/// Adds a piece of a body; says whether that was its last.
fn put_piece(out: &mut Outgoing, framing: &mut Framing, mut data: Piece) -> bool {
    match framing {
        Framing::Length(left) => {
            // What its head does not speak of would be taken for the next answer.
            data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= data.len() as u64;
            out.push(data);
            return *left == 0;
        }
        Framing::Nothing => {}
        Framing::Chunked if data.is_empty() => {}
        Framing::Chunked => {
            let size = format!("{:x}\r\n", data.len());
            out.append(|out| out.extend_from_slice(size.as_bytes()));
            out.push(data);
            out.append(|out| out.extend_from_slice(b"\r\n"));
        }
        Framing::UntilClose => out.push(data),
    }
    false
}

/// Whether a head may have come to its end in `input`, of which so many bytes were looked at already. Else whoever sends it byte
/// by byte would have all of it read for each.
fn may_be_whole(input: &[u8], looked_at: usize) -> bool {
    // The end of a head is an empty line, which ends the line before it too.
    let new = &input[looked_at.saturating_sub(2)..];
    looked_at == 0 || new.windows(2).any(|pair| pair == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}
