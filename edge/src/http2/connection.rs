//! One connection: what comes, frame by frame, and what that makes.

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tokio::io::AsyncRead;

use super::frame::{self, Head, LARGEST_NUMBER, Reason, Violation, flag, kind, setting};
use super::hpack::decoder::Decoder;
use super::request::{Gathered, Unfit};
use super::resets::Resets;
use super::sender::{Came, Sender, Step};
use super::streams::{Known, Receiving, Stream, Streams};
use super::{BLOCK, CONNECTION_WINDOW, FIRST_WINDOW, LARGEST_LIST, PREFACE, STREAMS};
use crate::answering::Answering;
use crate::connection::{RECORD, TURN};
use crate::incoming::Incoming;
use crate::intake::{Taken, UNASKED, intake};
use crate::outgoing::WriteStored;
use crate::request_body::RequestBody;
use crate::request_head::RequestHead;
use crate::watch::{Moved, Watch, ticks};

/// Frames that a block may come in. What fits [`BLOCK`] needs a few.
const MOST_FRAMES: usize = 64;

/// What is sent to learn when the client has heard that the connection is going to end.
const LEAVING: &[u8; 8] = b"leaving\0";

/// Why a connection broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The socket, or TLS.
    #[error("it could not be read or written")]
    Io(#[from] io::Error),
    /// A rule that the client broke.
    #[error("{text} ({reason:?})")]
    Violation { reason: Reason, text: &'static str },
}

/// What a client has to send next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Preface,
    Settings,
    Anything,
}

/// How far a connection is with its end, where that is our wish.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Leaving {
    No,
    /// The client was told, and may not have heard it yet.
    Told,
    /// It knows of which requests none is answered.
    Last,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// The client is gone, or all is said.
    Over,
    Violation(Reason, &'static str),
}

/// A block of fields of which not all frames came.
#[derive(Debug)]
struct Block {
    stream: u32,
    ends: bool,
    bytes: Vec<u8>,
    frames: usize,
}

/// A connection over `stream`, on which `answer` begins to answer each request.
#[derive(Debug)]
pub(crate) struct Connection<S, F> {
    stream: S,
    watch: Arc<Watch>,
    answer: F,
    stage: Stage,
    incoming: Incoming,
    block: Option<Block>,
    decoder: Decoder,
    streams: Streams,
    sender: Sender,
    /// What the client may send on all streams together.
    window: u32,
    /// What was taken of that; made with the first request that has a body.
    taken: Option<Arc<Taken>>,
    /// The client has heard of our settings. Until then it sends by those that there are without any.
    is_agreed: bool,
    resets: Resets,
    leaving: Leaving,
    /// The last stream that the client may hope for an answer on, as far as it was told.
    last: u32,
    ending: Option<Ending>,
    /// Requests of this turn.
    asked: usize,
}

impl<S, F> Connection<S, F>
where
    S: AsyncRead + WriteStored + Unpin,
    F: FnMut(Box<RequestHead>, RequestBody) -> Answering,
{
    /// A connection of which `input` was read.
    pub(crate) fn new(stream: S, input: Vec<u8>, watch: Arc<Watch>, answer: F) -> Self {
        let mut sender = Sender::new();
        let say = |id: u16, value: u32| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let settings = [
            say(setting::MAX_CONCURRENT_STREAMS, STREAMS),
            say(setting::INITIAL_WINDOW_SIZE, UNASKED),
            say(setting::MAX_HEADER_LIST_SIZE, LARGEST_LIST),
        ];
        sender.out.frame(kind::SETTINGS, 0, 0, &settings.concat());
        sender.out.widen(0, CONNECTION_WINDOW - FIRST_WINDOW);
        Self {
            stream,
            watch,
            answer,
            stage: Stage::Preface,
            incoming: input.into(),
            block: None,
            decoder: Decoder::new(),
            streams: Streams::default(),
            sender,
            window: CONNECTION_WINDOW,
            taken: None,
            is_agreed: false,
            resets: Resets::new(ticks()),
            leaving: Leaving::No,
            last: LARGEST_NUMBER,
            ending: None,
            asked: 0,
        }
    }

    /// Tells the client to ask for nothing more. What it has asked for until it hears that is answered (RFC 9113 section 6.8).
    pub(crate) fn leave(&mut self) {
        if self.leaving == Leaving::No && self.ending.is_none() {
            self.leaving = Leaving::Told;
            self.go_away(LARGEST_NUMBER, Reason::None, "");
            self.sender.out.frame(kind::PING, 0, 0, LEAVING);
        }
    }

    /// Goes on until there is nothing to do; ready when the connection has ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.asked = 0;
        loop {
            if self.sender.out.is_full() {
                // Nothing is read that there is no room to answer.
                ready!(self.poll_write(cx, RECORD))?;
            }
            let came = self.poll_input(cx)?;
            self.send();
            // What has just begun to wait is polled here for the first time.
            while self.poll_came(cx) {
                self.send();
            }
            self.widen(cx);
            let is_turn_over = self.asked >= TURN;
            if came.is_ready() && !is_turn_over {
                continue;
            }
            let was_full = self.sender.out.is_full();
            ready!(self.poll_write(cx, 1))?;
            if was_full && !is_turn_over {
                continue;
            }
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            if self.leaving == Leaving::Last && self.streams.is_empty() {
                self.ending.get_or_insert(Ending::Over);
            }
            if let Some(ending) = self.ending {
                ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
                return Poll::Ready(match ending {
                    Ending::Over => Ok(()),
                    Ending::Violation(reason, text) => Err(Broken::Violation { reason, text }),
                });
            }
            if is_turn_over {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
    }

    /// Writes what there is, by whole `unit`s.
    fn poll_write(&mut self, cx: &mut Context<'_>, unit: usize) -> Poll<io::Result<()>> {
        self.sender.out.poll_write(Pin::new(&mut self.stream), cx, unit)
    }

    /// Takes the frames that are there, and reads what comes, once; pending where there was nothing.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ending.is_some() {
            return Poll::Pending;
        }
        if !self.incoming.is_empty() {
            // They were left for there was no room to answer them.
            self.take_frames();
            if self.is_busy() {
                return Poll::Ready(Ok(()));
            }
        }
        let read = self.incoming.poll_read(&mut self.stream, cx);
        match read {
            Poll::Ready(Ok(0)) => self.end(Ending::Over),
            Poll::Ready(Ok(_)) => self.take_frames(),
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
        read.map_ok(|_| ())
    }

    /// Whether nothing more is taken in for now.
    fn is_busy(&self) -> bool {
        self.sender.out.is_full() || self.asked >= TURN || self.ending.is_some()
    }

    fn take_frames(&mut self) {
        let mut incoming = mem::take(&mut self.incoming);
        let (mut moved, mut is_cut) = (Moved { ended: false, is_partial: false }, false);
        while !self.is_busy() {
            let Some((head, payload)) = self.next_frame(incoming.rest()) else {
                is_cut = !incoming.is_empty();
                break;
            };
            let length = payload.len() + if head.is_some() { frame::HEAD } else { 0 };
            match head {
                None => self.stage = Stage::Settings,
                Some(head) => {
                    if let Err(violation) = self.on_frame(head, payload) {
                        self.on_violation(violation);
                    }
                }
            }
            incoming.take(length);
            moved.ended |= self.block.is_none();
        }
        moved.is_partial = is_cut || self.block.is_some();
        self.watch.on_frames(moved);
        self.incoming = incoming;
    }

    /// The next frame that `input` begins with, or the preface, which has no head; nothing where it is not there whole.
    fn next_frame<'a>(&mut self, input: &'a [u8]) -> Option<(Option<Head>, &'a [u8])> {
        if self.stage == Stage::Preface {
            let preface = &input[..input.len().min(PREFACE.len())];
            if *preface != PREFACE[..preface.len()] {
                self.on_violation(Violation::Connection(Reason::Protocol, "this is no preface"));
                return None;
            }
            return (preface.len() == PREFACE.len()).then_some((None, preface));
        }
        let head = Head::parse(input)?;
        if head.length > frame::LARGEST {
            self.on_violation(Violation::Connection(Reason::FrameSize, "a frame is too large"));
            return None;
        }
        Some((Some(head), input.get(frame::HEAD..frame::HEAD + head.length)?))
    }

    fn on_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Violation> {
        let broken = |reason, text| Err(Violation::Connection(reason, text));
        if let Some(block) = &self.block
            && (head.kind, head.stream) != (kind::CONTINUATION, block.stream)
        {
            return broken(Reason::Protocol, "a block of fields was interrupted");
        }
        if self.stage == Stage::Settings {
            if head.kind != kind::SETTINGS || head.has(flag::ACK) {
                return broken(Reason::Protocol, "a connection begins with SETTINGS");
            }
            self.stage = Stage::Anything;
        }
        let is_of_connection = matches!(head.kind, kind::SETTINGS | kind::PING | kind::GOAWAY);
        let is_of_stream = matches!(
            head.kind,
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::PUSH_PROMISE | kind::CONTINUATION
        );
        if (is_of_connection && head.stream != 0) || (is_of_stream && head.stream == 0) {
            return broken(Reason::Protocol, "a frame is of a stream that its kind is not of");
        }
        match head.kind {
            kind::DATA => self.on_data(head, payload),
            kind::HEADERS => self.on_headers(head, payload),
            kind::PRIORITY if payload.len() == 5 => Ok(()),
            kind::PRIORITY if self.streams.known(head.stream) == Known::Idle => {
                broken(Reason::FrameSize, "PRIORITY has five bytes")
            }
            kind::PRIORITY => Err(Violation::Stream(head.stream, Reason::FrameSize)),
            kind::RST_STREAM => self.on_reset(head, payload),
            kind::SETTINGS => self.on_settings(head, payload),
            kind::PUSH_PROMISE => broken(Reason::Protocol, "clients push nothing"),
            kind::PING => self.on_ping(head, payload),
            kind::GOAWAY if payload.len() < 8 => broken(Reason::FrameSize, "GOAWAY is too short"),
            // It concerns what we would push.
            kind::GOAWAY => Ok(()),
            kind::WINDOW_UPDATE => self.on_window_update(head, payload),
            kind::CONTINUATION => self.on_continuation(head, payload),
            // RFC 9113 section 4.1.
            _ => Ok(()),
        }
    }

    fn on_violation(&mut self, violation: Violation) {
        match violation {
            Violation::Connection(reason, text) => {
                self.go_away(self.streams.last(), reason, text);
                self.end(Ending::Violation(reason, text));
            }
            Violation::Stream(stream, reason) => {
                self.reset(stream, reason);
                self.on_stream_lost();
            }
        }
    }

    /// A stream did not come to its end, and the client is why.
    fn on_stream_lost(&mut self) {
        if !self.resets.take(ticks()) {
            self.on_violation(Violation::Connection(Reason::Calm, "too many streams were taken back"));
        }
    }

    fn go_away(&mut self, last: u32, reason: Reason, text: &str) {
        // Never more than was said before (RFC 9113 section 6.8).
        self.last = self.last.min(last);
        let last = self.last;
        let payload = [&last.to_be_bytes()[..], &(reason as u32).to_be_bytes(), text.as_bytes()].concat();
        self.sender.out.frame(kind::GOAWAY, 0, 0, &payload);
    }

    /// Nothing is read any more, nor answered; what is there is written.
    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
        self.streams.clear();
        self.block = None;
    }

    fn reset(&mut self, stream: u32, reason: Reason) {
        self.streams.remove(stream);
        self.streams.on_reset(stream);
        self.sender.out.reset(stream, reason);
    }

    fn on_headers(&mut self, head: Head, payload: &[u8]) -> Result<(), Violation> {
        let fragment =
            frame::without_padding(&head, payload).and_then(|payload| frame::without_priority(&head, payload));
        let fragment = fragment.ok_or(Violation::Connection(Reason::Protocol, "padding is longer than its frame"))?;
        let ends = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.on_block(head.stream, ends, fragment);
        }
        self.block = Some(Block { stream: head.stream, ends, bytes: fragment.to_vec(), frames: 1 });
        Ok(())
    }

    fn on_continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), Violation> {
        let Some(mut block) = self.block.take() else {
            return Err(Violation::Connection(Reason::Protocol, "there is nothing that goes on"));
        };
        block.frames += 1;
        if block.bytes.len() + payload.len() > BLOCK || block.frames > MOST_FRAMES {
            return Err(Violation::Connection(Reason::Calm, "a block of fields is too large"));
        }
        block.bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            return self.on_block(block.stream, block.ends, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    /// All fields of a request came, or all that follow its body.
    fn on_block(&mut self, id: u32, ends: bool, block: &[u8]) -> Result<(), Violation> {
        let mut head = Gathered::new();
        let decoded = self.decoder.decode(block, |field, size| head.add(field, size));
        decoded.map_err(|_| Violation::Connection(Reason::Compression, "fields could not be decoded"))?;
        match self.streams.known(id) {
            Known::Idle if id.is_multiple_of(2) => {
                Err(Violation::Connection(Reason::Protocol, "streams of clients have odd numbers"))
            }
            Known::Idle => self.on_request(id, ends, head),
            Known::Open => self.on_trailers(id, ends, &head),
            Known::Reset => Ok(()),
            Known::Closed => Err(Violation::Connection(Reason::StreamClosed, "fields came for a stream that is over")),
        }
    }

    fn on_request(&mut self, id: u32, ends: bool, head: Gathered) -> Result<(), Violation> {
        self.streams.begin(id);
        self.asked += 1;
        if self.leaving == Leaving::Last {
            // It crossed what the client was told.
            self.reset(id, Reason::RefusedStream);
            return Ok(());
        }
        if self.streams.is_full() {
            return Err(Violation::Stream(id, Reason::RefusedStream));
        }
        let (request, length) = match head.into_request(ends) {
            Ok(request) => request,
            Err(Unfit::Malformed) => return Err(Violation::Stream(id, Reason::Protocol)),
            Err(Unfit::TooLarge) => {
                self.sender.refuse(id, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
                if !ends {
                    self.reset(id, Reason::None);
                }
                return Ok(());
            }
        };
        let (body, receiving) = if ends { (RequestBody::empty(), None) } else { self.receive(length) };
        let is_head = request.method() == "HEAD";
        let mut stream = Stream::new(id, self.sender.first_window, is_head, receiving);
        let step = self.sender.answer(&mut stream, (self.answer)(request, body));
        if matches!(step, Step::Over | Step::Failed) {
            self.finish(&stream, step);
            return Ok(());
        }
        self.streams.insert(stream);
        self.after(id, step);
        Ok(())
    }

    /// The body of a request, which comes.
    fn receive(&mut self, length: Option<u64>) -> (RequestBody, Option<Receiving>) {
        let (feed, body) = intake(length, self.taken());
        // What it may send by what it knows (RFC 9113 section 6.9.2); that it takes some back when it hears of less is its own affair.
        let window = if self.is_agreed { UNASKED } else { FIRST_WINDOW };
        (body.into(), Some(Receiving::new(feed, window, length)))
    }

    fn taken(&mut self) -> Arc<Taken> {
        Arc::clone(self.taken.get_or_insert_with(|| Arc::new(Taken::new(self.window, CONNECTION_WINDOW))))
    }

    fn on_trailers(&mut self, id: u32, ends: bool, head: &Gathered) -> Result<(), Violation> {
        let Some(stream) = self.streams.get(id) else { return Ok(()) };
        if stream.receiving.is_none() {
            return Err(Violation::Stream(id, Reason::StreamClosed));
        }
        if !ends || !head.may_trail() {
            return Err(Violation::Stream(id, Reason::Protocol));
        }
        // Nobody asks for them.
        self.end_of_body(id)
    }

    fn end_of_body(&mut self, id: u32) -> Result<(), Violation> {
        let receiving = self.streams.get(id).and_then(|stream| stream.receiving.take());
        match receiving {
            Some(receiving) if receiving.left.is_none_or(|left| left == 0) => receiving.feed.end(),
            Some(_) => return Err(Violation::Stream(id, Reason::Protocol)),
            None => {}
        }
        Ok(())
    }

    fn on_data(&mut self, head: Head, payload: &[u8]) -> Result<(), Violation> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let Some(window) = self.window.checked_sub(length) else {
            return Err(Violation::Connection(Reason::FlowControl, "more came than the connection's window allows"));
        };
        self.window = window;
        let id = head.stream;
        match self.streams.known(id) {
            Known::Idle => return Err(Violation::Connection(Reason::Protocol, "a body came without its request")),
            Known::Closed => {
                return Err(Violation::Connection(Reason::StreamClosed, "a body came for a stream that is over"));
            }
            Known::Open | Known::Reset => {}
        }
        let data = frame::without_padding(&head, payload)
            .ok_or(Violation::Connection(Reason::Protocol, "padding is longer than its frame"))?;
        let taken = self.taken();
        taken.set_window(window);
        // The connection's window is for streams that can use it.
        let unwanted = |violation| {
            taken.add(length);
            violation
        };
        let Some(stream) = self.streams.get(id) else { return unwanted(Ok(())) };
        let Some(receiving) = &mut stream.receiving else {
            return unwanted(Err(Violation::Stream(id, Reason::StreamClosed)));
        };
        let Some(window) = receiving.window.checked_sub(length) else {
            return unwanted(Err(Violation::Stream(id, Reason::FlowControl)));
        };
        receiving.window = window;
        if let Some(left) = &mut receiving.left {
            let Some(less) = left.checked_sub(data.len() as u64) else {
                return unwanted(Err(Violation::Stream(id, Reason::Protocol)));
            };
            *left = less;
        }
        receiving.feed.push(data, length);
        if head.has(flag::END_STREAM) { self.end_of_body(id) } else { Ok(()) }
    }

    fn on_reset(&mut self, head: Head, payload: &[u8]) -> Result<(), Violation> {
        if payload.len() != 4 {
            return Err(Violation::Connection(Reason::FrameSize, "RST_STREAM has four bytes"));
        }
        if self.streams.known(head.stream) == Known::Idle {
            return Err(Violation::Connection(Reason::Protocol, "a stream was reset that never was"));
        }
        // One that is over was no more work than any, and may have ended while this was on its way.
        if self.streams.take(head.stream).is_some() {
            self.on_stream_lost();
        }
        Ok(())
    }

    fn on_settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Violation> {
        if head.has(flag::ACK) {
            self.is_agreed = true;
            let is_empty = payload.is_empty();
            return if is_empty {
                Ok(())
            } else {
                Err(Violation::Connection(Reason::FrameSize, "an answer to SETTINGS is empty"))
            };
        }
        let settings =
            frame::settings(payload).ok_or(Violation::Connection(Reason::FrameSize, "SETTINGS are not whole"))?;
        let mut first_window = self.sender.first_window;
        for (id, value) in settings {
            self.on_setting(id, value, &mut first_window)?;
        }
        // Once, however often it is said: it is about all streams.
        let by = i64::from(first_window) - i64::from(self.sender.first_window);
        if by != 0 {
            self.sender.first_window = first_window;
            self.streams.widen_all(by)?;
        }
        // As much work as a request may be.
        self.asked += 1;
        self.sender.out.frame(kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    fn on_setting(&mut self, id: u16, value: u32, first_window: &mut u32) -> Result<(), Violation> {
        let number = usize::try_from(value).unwrap_or(usize::MAX);
        match id {
            setting::HEADER_TABLE_SIZE => self.sender.encoder.resize(number),
            setting::ENABLE_PUSH if value > 1 => {
                return Err(Violation::Connection(Reason::Protocol, "ENABLE_PUSH is 0 or 1"));
            }
            setting::INITIAL_WINDOW_SIZE => {
                if value > LARGEST_NUMBER {
                    return Err(Violation::Connection(Reason::FlowControl, "INITIAL_WINDOW_SIZE is too large"));
                }
                *first_window = value;
            }
            // Ours stay as small as any client takes, so that streams share a connection.
            setting::MAX_FRAME_SIZE if !(frame::LARGEST..1 << 24).contains(&number) => {
                return Err(Violation::Connection(Reason::Protocol, "MAX_FRAME_SIZE is out of its bounds"));
            }
            // RFC 9113 section 6.5.2: what is not known is passed over.
            _ => {}
        }
        Ok(())
    }

    fn on_ping(&mut self, head: Head, payload: &[u8]) -> Result<(), Violation> {
        if payload.len() != 8 {
            return Err(Violation::Connection(Reason::FrameSize, "PING has eight bytes"));
        }
        if !head.has(flag::ACK) {
            self.sender.out.frame(kind::PING, flag::ACK, 0, payload);
        } else if payload == LEAVING && self.leaving == Leaving::Told {
            self.leaving = Leaving::Last;
            self.go_away(self.streams.last(), Reason::None, "");
        }
        Ok(())
    }

    fn on_window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), Violation> {
        let by =
            frame::number(payload).ok_or(Violation::Connection(Reason::FrameSize, "WINDOW_UPDATE has four bytes"))?;
        if head.stream == 0 {
            if by == 0 {
                return Err(Violation::Connection(Reason::Protocol, "a window is widened by something"));
            }
            let was_open = self.sender.window.open() > 0;
            if !self.sender.window.widen(by.into()) {
                let text = "the connection's window became too large";
                return Err(Violation::Connection(Reason::FlowControl, text));
            }
            if !was_open {
                self.streams.enqueue_all();
            }
            return Ok(());
        }
        match self.streams.known(head.stream) {
            Known::Idle => {
                return Err(Violation::Connection(Reason::Protocol, "a window was widened of a stream that never was"));
            }
            Known::Reset | Known::Closed => return Ok(()),
            Known::Open => {}
        }
        if by == 0 {
            return Err(Violation::Stream(head.stream, Reason::Protocol));
        }
        if self.streams.get(head.stream).is_some_and(|stream| !stream.window.widen(by.into())) {
            return Err(Violation::Stream(head.stream, Reason::FlowControl));
        }
        self.streams.enqueue(head.stream);
        Ok(())
    }

    /// Goes on with streams for which something came that they waited for; says whether there was any.
    fn poll_came(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Poll::Ready((id, came)) = self.sender.poll_came(cx) {
            self.came(id, came);
            any = true;
        }
        any
    }

    fn came(&mut self, id: u32, came: Came) {
        // Else it came when nobody waited any more.
        if let Some(stream) = self.streams.get(id) {
            let step = self.sender.go_on(stream, came);
            self.after(id, step);
        }
    }

    /// Sends on those streams that can go on, by turns.
    fn send(&mut self) {
        while !self.sender.out.is_full()
            && let Some(stream) = self.streams.next()
        {
            let id = stream.id;
            let step = self.sender.send(stream);
            self.after(id, step);
        }
    }

    /// Does what follows from a step of a stream that is open.
    fn after(&mut self, id: u32, step: Step) {
        match step {
            Step::GoesOn => self.streams.enqueue(id),
            Step::Waits => {}
            Step::Over | Step::Failed => {
                if let Some(stream) = self.streams.take(id) {
                    self.finish(&stream, step);
                }
            }
        }
    }

    /// A stream is not kept any longer.
    fn finish(&mut self, stream: &Stream, step: Step) {
        if step == Step::Failed {
            self.reset(stream.id, Reason::Internal);
        } else if stream.receiving.is_some() {
            // The answer is whole, and does not need the rest of the request (RFC 9113 section 8.1).
            self.reset(stream.id, Reason::None);
        }
    }

    /// Lets the client send again what was taken.
    fn widen(&mut self, cx: &Context<'_>) {
        let Some(taken) = &self.taken else { return };
        taken.register(cx);
        if let Some(by) = taken.due() {
            self.window += by;
            taken.set_window(self.window);
            self.sender.out.widen(0, by);
        }
        for (id, receiving) in self.streams.receiving() {
            if let Some(by) = receiving.feed.due() {
                receiving.window += by;
                self.sender.out.widen(id, by);
            }
        }
    }
}
