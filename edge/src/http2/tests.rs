//! A connection, frame by frame: what RFC 9113 asks of a server, and what no client may make of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::sync::Notify;

use super::connection::{Broken, Connection};
use super::frame::{self, HEAD, Head, Reason, flag, kind, setting};
use super::{CONNECTION_WINDOW, FIRST_WINDOW, PREFACE, STREAMS};
use crate::answering::Answering;
use crate::body::{Content, EdgeBody};
use crate::intake::{UNASKED, WINDOW};
use crate::pipe::Pipe;
use crate::reply::{Reply, ReplyFields};
use crate::request_body::RequestBody;
use crate::request_head::RequestHead;
use crate::watch::Watch;

type Answers = Box<dyn FnMut(Box<RequestHead>, RequestBody) -> Answering>;

/// A client that sends what it is told to, and the server that it speaks to.
struct Peer {
    connection: Connection<Pipe, Answers>,
    pipe: Pipe,
    /// How the connection ended, once it has.
    ended: Option<Result<(), Broken>>,
}

/// A frame that the server sent.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Sent {
    head: Head,
    payload: Vec<u8>,
}

impl Sent {
    fn is(&self, kind: u8, stream: u32) -> bool {
        (self.head.kind, self.head.stream) == (kind, stream)
    }

    fn reason(&self) -> u32 {
        let at = if self.head.kind == kind::GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

fn watch() -> Arc<Watch> {
    let watch = Watch::new();
    watch.set_multiplexed();
    watch
}

fn body(bytes: impl Into<Bytes>) -> EdgeBody {
    EdgeBody::new(Content::Bytes(bytes.into()), watch().begin(false))
}

fn answer(bytes: impl Into<Bytes>) -> Reply {
    Reply { status: StatusCode::OK, fields: ReplyFields::default(), body: body(bytes) }
}

/// Answers with so many bytes as the path says, at once.
fn sized(request: Request<RequestBody>) -> Answering {
    let length = request.uri().path()[1..].parse().unwrap_or(5);
    Answering::begin(async move { answer(vec![b'x'; length]) })
}

impl Peer {
    fn with(mut answers: impl FnMut(Request<RequestBody>) -> Answering + 'static) -> Self {
        let pipe = Pipe::default();
        let answers: Answers = Box::new(move |head, body| answers(head.to_http(body).expect("a request is one")));
        let connection = Connection::new(pipe.clone(), Vec::new(), watch(), answers);
        Self { connection, pipe, ended: None }
    }

    /// One whose connection is open, with these settings of the client.
    fn open(answers: impl FnMut(Request<RequestBody>) -> Answering + 'static, settings: &[(u16, u32)]) -> Self {
        let mut peer = Self::with(answers);
        let settings: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        let sent = peer.send(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &settings)].concat());
        assert!(sent[0].is(kind::SETTINGS, 0) && sent[1].is(kind::WINDOW_UPDATE, 0), "{sent:?}");
        assert_eq!((sent[2].head.kind, sent[2].head.flags, sent.len()), (kind::SETTINGS, flag::ACK, 3));
        assert_eq!(peer.send(&frame(kind::SETTINGS, flag::ACK, 0, b"")), []);
        peer
    }

    /// Sends, and has the server do what it can; what it sends then.
    fn send(&mut self, bytes: &[u8]) -> Vec<Sent> {
        self.pipe.0.lock().to_server.extend(bytes);
        self.turn()
    }

    fn turn(&mut self) -> Vec<Sent> {
        // More than once, where a turn ends before all was read.
        for _ in 0..100 {
            if self.ended.is_none()
                && let Poll::Ready(ended) = self.connection.poll(&mut Context::from_waker(Waker::noop()))
            {
                self.ended = Some(ended);
            }
        }
        let bytes = std::mem::take(&mut self.pipe.0.lock().to_client);
        let (mut rest, mut frames) = (&bytes[..], Vec::new());
        while let Some(head) = Head::parse(rest) {
            let payload = &rest[HEAD..HEAD + head.length];
            frames.push(Sent { head, payload: payload.to_vec() });
            rest = &rest[HEAD + head.length..];
        }
        assert!(rest.is_empty(), "frames are sent whole");
        frames
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put(&mut bytes, kind, flags, stream, payload);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat()
}

/// A field as a literal.
fn field(name: &str, value: &str) -> Vec<u8> {
    [vec![0], text(name), text(value)].concat()
}

/// The fields of a request.
fn fields(method: &str, path: &str) -> Vec<u8> {
    [field(":method", method), field(":scheme", "https"), field(":path", path), field(":authority", "a.test")].concat()
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_STREAM | flag::END_HEADERS, stream, &fields("GET", path))
}

/// A request whose body is still to come.
fn post(stream: u32, more: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, &[&fields("POST", "/5"), more].concat())
}

fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, stream, payload)
}

fn widen(stream: u32, by: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

fn set(id: u16, value: u32) -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// Never answers.
fn silent(_: Request<RequestBody>) -> Answering {
    Answering::begin(std::future::pending())
}

/// Bytes of bodies in `sent`, for a stream.
fn received(sent: &[Sent], stream: u32) -> usize {
    sent.iter().filter(|sent| sent.is(kind::DATA, stream)).map(|sent| sent.payload.len()).sum()
}

/// Whether a stream has ended with its answer.
fn is_whole(sent: &[Sent], stream: u32) -> bool {
    let ends = |sent: &&Sent| sent.head.stream == stream && matches!(sent.head.kind, kind::DATA | kind::HEADERS);
    sent.iter().rfind(ends).is_some_and(|sent| sent.head.has(flag::END_STREAM))
}

/// What a violation is answered with.
#[derive(Clone, Copy, Debug)]
enum End {
    Connection(Reason),
    Stream(u32, Reason),
    Nothing,
}

#[test]
fn a_broken_rule_ends_what_it_is_a_rule_of() {
    use End::{Connection, Nothing, Stream};
    let all = |parts: &[&[u8]]| parts.concat();
    let table: Vec<(&str, Vec<u8>, End)> = vec![
        // RFC 9113 section 4
        ("a kind that nobody knows", frame(0xfa, 0xff, 9, b"anything"), Nothing),
        ("a frame of 16 KiB", frame(0xfa, 0, 0, &[0; frame::LARGEST]), Nothing),
        ("a frame of more", frame(0xfa, 0, 0, &[0; frame::LARGEST + 1]), Connection(Reason::FrameSize)),
        ("an index of nothing", frame(kind::HEADERS, 5, 1, &[0xff, 0]), Connection(Reason::Compression)),
        (
            "a block within a block",
            all(&[&frame(kind::HEADERS, 1, 1, &fields("GET", "/")), &get(3, "/")]),
            Connection(Reason::Protocol),
        ),
        (
            "PING within a block",
            all(&[&frame(kind::HEADERS, 1, 1, b""), &frame(kind::PING, 0, 0, &[0; 8])]),
            Connection(Reason::Protocol),
        ),
        (
            "a block of another stream goes on",
            all(&[&frame(kind::HEADERS, 1, 1, b""), &frame(kind::CONTINUATION, 4, 3, b"")]),
            Connection(Reason::Protocol),
        ),
        // section 5.1
        ("DATA of a stream that never was", data(1, 0, b"x"), Connection(Reason::Protocol)),
        ("RST_STREAM of one", frame(kind::RST_STREAM, 0, 1, &[0; 4]), Connection(Reason::Protocol)),
        ("WINDOW_UPDATE of one", widen(1, 1), Connection(Reason::Protocol)),
        ("PRIORITY of one", frame(kind::PRIORITY, 0, 1, &[0; 5]), Nothing),
        ("a number of servers", get(2, "/"), Connection(Reason::Protocol)),
        ("DATA behind the end", all(&[&get(1, "/wait"), &data(1, 0, b"x")]), Stream(1, Reason::StreamClosed)),
        ("fields behind the end", all(&[&get(1, "/wait"), &get(1, "/")]), Stream(1, Reason::StreamClosed)),
        ("DATA of a stream that is over", all(&[&get(1, "/5"), &data(1, 0, b"x")]), Connection(Reason::StreamClosed)),
        ("fields of one", all(&[&get(1, "/5"), &get(1, "/5")]), Connection(Reason::StreamClosed)),
        ("WINDOW_UPDATE of one", all(&[&get(1, "/5"), &widen(1, 1)]), Nothing),
        ("RST_STREAM of one", all(&[&get(1, "/5"), &frame(kind::RST_STREAM, 0, 1, &[0; 4])]), Nothing),
        (
            "DATA of one that was reset",
            all(&[&frame(kind::HEADERS, 4, 1, &field("x", "y")), &data(1, 0, b"x")]),
            Stream(1, Reason::Protocol),
        ),
        // section 6.1
        ("DATA of no stream", data(0, 0, b"x"), Connection(Reason::Protocol)),
        (
            "padding beyond its frame",
            all(&[&post(1, b""), &data(1, flag::PADDED, &[4, 1, 1, 1])]),
            Connection(Reason::Protocol),
        ),
        ("padding up to its end", all(&[&post(1, b""), &data(1, flag::PADDED, &[3, 1, 1, 1])]), Nothing),
        // sections 6.2 to 6.4
        ("HEADERS of no stream", frame(kind::HEADERS, 5, 0, &fields("GET", "/")), Connection(Reason::Protocol)),
        (
            "padding of HEADERS beyond them",
            frame(kind::HEADERS, 5 | flag::PADDED, 1, &[9, 0]),
            Connection(Reason::Protocol),
        ),
        ("PRIORITY of no stream", frame(kind::PRIORITY, 0, 0, &[0; 5]), Connection(Reason::Protocol)),
        ("PRIORITY of four bytes", frame(kind::PRIORITY, 0, 1, &[0; 4]), Connection(Reason::FrameSize)),
        (
            "the same of a stream",
            all(&[&get(1, "/wait"), &frame(kind::PRIORITY, 0, 1, &[0; 4])]),
            Stream(1, Reason::FrameSize),
        ),
        ("RST_STREAM of no stream", frame(kind::RST_STREAM, 0, 0, &[0; 4]), Connection(Reason::Protocol)),
        (
            "RST_STREAM of three bytes",
            all(&[&get(1, "/wait"), &frame(kind::RST_STREAM, 0, 1, &[0; 3])]),
            Connection(Reason::FrameSize),
        ),
        // section 6.5
        ("SETTINGS of a stream", frame(kind::SETTINGS, 0, 1, b""), Connection(Reason::Protocol)),
        ("SETTINGS of five bytes", frame(kind::SETTINGS, 0, 0, &[0; 5]), Connection(Reason::FrameSize)),
        ("an answer to SETTINGS", frame(kind::SETTINGS, flag::ACK, 0, b""), Nothing),
        ("an answer with something in it", frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]), Connection(Reason::FrameSize)),
        ("a setting that nobody knows", set(0xff, 1), Nothing),
        ("ENABLE_PUSH", set(setting::ENABLE_PUSH, 1), Nothing),
        ("ENABLE_PUSH of 2", set(setting::ENABLE_PUSH, 2), Connection(Reason::Protocol)),
        ("a window that is none", set(setting::INITIAL_WINDOW_SIZE, 1 << 31), Connection(Reason::FlowControl)),
        ("frames that are too small", set(setting::MAX_FRAME_SIZE, 16_383), Connection(Reason::Protocol)),
        ("frames that are too large", set(setting::MAX_FRAME_SIZE, 1 << 24), Connection(Reason::Protocol)),
        ("frames of some size", set(setting::MAX_FRAME_SIZE, (1 << 24) - 1), Nothing),
        // sections 6.6 to 6.8
        ("PUSH_PROMISE", frame(kind::PUSH_PROMISE, 4, 1, &[0; 4]), Connection(Reason::Protocol)),
        ("PING of a stream", frame(kind::PING, 0, 1, &[0; 8]), Connection(Reason::Protocol)),
        ("PING of seven bytes", frame(kind::PING, 0, 0, &[0; 7]), Connection(Reason::FrameSize)),
        ("an answer to no PING", frame(kind::PING, flag::ACK, 0, &[0; 8]), Nothing),
        ("GOAWAY of a stream", frame(kind::GOAWAY, 0, 1, &[0; 8]), Connection(Reason::Protocol)),
        ("GOAWAY of seven bytes", frame(kind::GOAWAY, 0, 0, &[0; 7]), Connection(Reason::FrameSize)),
        ("GOAWAY", frame(kind::GOAWAY, 0, 0, &[0; 8]), Nothing),
        // section 6.9
        ("WINDOW_UPDATE by nothing", widen(0, 0), Connection(Reason::Protocol)),
        ("WINDOW_UPDATE of three bytes", frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3]), Connection(Reason::FrameSize)),
        ("a connection's window that is none", widen(0, frame::LARGEST_NUMBER), Connection(Reason::FlowControl)),
        ("a stream's window by nothing", all(&[&get(1, "/wait"), &widen(1, 0)]), Stream(1, Reason::Protocol)),
        (
            "a stream's window that is none",
            all(&[&get(1, "/wait"), &widen(1, frame::LARGEST_NUMBER)]),
            Stream(1, Reason::FlowControl),
        ),
        (
            "one by a setting",
            all(&[&get(1, "/wait"), &widen(1, 1), &set(setting::INITIAL_WINDOW_SIZE, frame::LARGEST_NUMBER)]),
            Connection(Reason::FlowControl),
        ),
        // section 6.10
        ("CONTINUATION of nothing", frame(kind::CONTINUATION, 4, 1, b""), Connection(Reason::Protocol)),
        (
            "CONTINUATION behind the end",
            all(&[&get(1, "/wait"), &frame(kind::CONTINUATION, 4, 1, b"")]),
            Connection(Reason::Protocol),
        ),
        // section 8
        (
            "no path",
            frame(kind::HEADERS, 5, 1, &[field(":method", "GET"), field(":scheme", "https")].concat()),
            Stream(1, Reason::Protocol),
        ),
        (
            "a field of HTTP/1",
            frame(kind::HEADERS, 5, 1, &[fields("GET", "/"), field("upgrade", "x")].concat()),
            Stream(1, Reason::Protocol),
        ),
        (
            "a body that is announced and does not come",
            frame(kind::HEADERS, 5, 1, &[fields("POST", "/"), field("content-length", "1")].concat()),
            Stream(1, Reason::Protocol),
        ),
        (
            "a body that is too long",
            all(&[&post(1, &field("content-length", "2")), &data(1, 0, b"abc")]),
            Stream(1, Reason::Protocol),
        ),
        (
            "a body that is too short",
            all(&[&post(1, &field("content-length", "2")), &data(1, 1, b"a")]),
            Stream(1, Reason::Protocol),
        ),
        ("fields behind a body", all(&[&post(1, b""), &frame(kind::HEADERS, 5, 1, &field("x", "y"))]), Nothing),
        (
            "fields behind a body that goes on",
            all(&[&post(1, b""), &frame(kind::HEADERS, 4, 1, &field("x", "y"))]),
            Stream(1, Reason::Protocol),
        ),
        (
            "a path behind a body",
            all(&[&post(1, b""), &frame(kind::HEADERS, 5, 1, &field(":path", "/"))]),
            Stream(1, Reason::Protocol),
        ),
    ];
    for at_once in [None, Some(1)] {
        for (what, bytes, end) in &table {
            let mut peer = Peer::open(
                |request| {
                    if *request.method() == "POST" || request.uri().path() == "/wait" {
                        silent(request)
                    } else {
                        sized(request)
                    }
                },
                &[],
            );
            peer.pipe.0.lock().at_once = at_once;
            let mut sent = Vec::new();
            // By bytes, a turn reads only so many.
            for part in bytes.chunks(if at_once.is_some() { 64 } else { usize::MAX }) {
                sent.extend(peer.send(part));
            }
            let goes_on = match *end {
                Connection(reason) => {
                    let gone = sent.iter().find(|sent| sent.head.kind == kind::GOAWAY);
                    assert_eq!(gone.map(Sent::reason), Some(reason as u32), "{what}: {sent:?}");
                    let broken =
                        matches!(&peer.ended, Some(Err(Broken::Violation { reason: told, .. })) if *told == reason);
                    assert!(broken && peer.pipe.0.lock().is_shut, "{what}: {:?}", peer.ended);
                    false
                }
                Stream(stream, reason) => {
                    let reset = sent.iter().find(|sent| sent.is(kind::RST_STREAM, stream));
                    assert_eq!(reset.map(Sent::reason), Some(reason as u32), "{what}: {sent:?}");
                    true
                }
                Nothing => {
                    let bad = sent.iter().find(|sent| matches!(sent.head.kind, kind::RST_STREAM | kind::GOAWAY));
                    assert_eq!(bad, None, "{what}");
                    true
                }
            };
            if goes_on {
                let sent = peer.send(&get(101, "/7"));
                assert_eq!((received(&sent, 101), is_whole(&sent, 101)), (7, true), "{what}: {sent:?}");
            }
        }
    }
}

#[test]
fn a_connection_begins_with_its_preface_and_settings() {
    for (what, bytes) in [
        ("HTTP/1", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("nearly", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX".to_vec(), frame(kind::SETTINGS, 0, 0, b"")].concat()),
        ("a request first", [PREFACE, &get(1, "/")].concat()),
        ("an answer to SETTINGS first", [PREFACE, &frame(kind::SETTINGS, flag::ACK, 0, b"")].concat()),
    ] {
        let mut peer = Peer::with(sized);
        let sent = peer.send(&bytes);
        assert_eq!(sent.last().map(|sent| (sent.head.kind, sent.reason())), Some((kind::GOAWAY, 1)), "{what}");
        assert!(matches!(peer.ended, Some(Err(Broken::Violation { .. }))), "{what}");
    }
}

#[test]
fn a_body_goes_as_far_as_its_windows() {
    let mut peer = Peer::open(sized, &[(setting::INITIAL_WINDOW_SIZE, 10)]);
    let mut sent = peer.send(&get(1, "/25"));
    assert_eq!((received(&sent, 1), is_whole(&sent, 1)), (10, false));
    sent = peer.send(&widen(1, 5));
    assert_eq!(received(&sent, 1), 5);
    // By a setting it may be less than nothing, and what is given then only fills it up.
    assert_eq!(received(&peer.send(&set(setting::INITIAL_WINDOW_SIZE, 3)), 1), 0);
    assert_eq!(received(&peer.send(&widen(1, 7)), 1), 0);
    assert_eq!(received(&peer.send(&widen(1, 4)), 1), 4);
    sent = peer.send(&set(setting::INITIAL_WINDOW_SIZE, 100));
    assert_eq!((received(&sent, 1), is_whole(&sent, 1)), (6, true));
    // And all streams together.
    let mut peer = Peer::open(sized, &[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
    let sent = peer.send(&[get(1, "/50000"), get(3, "/50000")].concat());
    assert_eq!(received(&sent, 1) + received(&sent, 3), FIRST_WINDOW as usize);
    let sent = peer.send(&widen(0, 34_464));
    assert_eq!(received(&sent, 1) + received(&sent, 3), 34_464);
    assert!(!is_whole(&sent, 1) || !is_whole(&sent, 3), "one byte is left");
    let sent = peer.send(&widen(0, 1));
    assert_eq!(received(&sent, 1) + received(&sent, 3), 1);
    assert!(peer.ended.is_none());
}

#[test]
fn streams_share_a_connection() {
    let mut peer = Peer::open(sized, &[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
    peer.send(&widen(0, 1 << 24));
    let sent = peer.send(&[get(1, "/200000"), get(3, "/200000"), get(5, "/1000")].concat());
    let order: Vec<u32> =
        sent.iter().filter(|sent| sent.head.kind == kind::DATA).map(|sent| sent.head.stream).collect();
    assert_eq!(order[..7], [1, 3, 5, 1, 3, 1, 3], "a small answer does not wait for large ones");
    for (stream, length) in [(1, 200_000), (3, 200_000), (5, 1000)] {
        assert_eq!((received(&sent, stream), is_whole(&sent, stream)), (length, true));
    }
}

#[test]
fn heads_come_with_what_they_do_not_say() {
    let mut peer = Peer::open(sized, &[]);
    let sent = peer.send(&frame(kind::HEADERS, 5, 1, &fields("HEAD", "/7")));
    assert_eq!((sent.len(), sent[0].head.kind, sent[0].head.has(flag::END_STREAM)), (1, kind::HEADERS, true));
    let mut seen = Vec::new();
    let take = |field: &super::hpack::Field, _| seen.push(format!("{field:?}"));
    super::hpack::decoder::Decoder::new().decode(&sent[0].payload, take).unwrap();
    assert!(seen.iter().any(|field| field.contains("\"date\"")), "{seen:?}");
    let sent = peer.send(&get(3, "/0"));
    assert!(sent.len() == 1 && is_whole(&sent, 3), "an answer without a body has no DATA: {sent:?}");
}

/// Sends the body of a request back, when all of it is there.
fn echo(request: Request<RequestBody>) -> Answering {
    Answering::begin(async move {
        match request.into_body().collect().await {
            Ok(body) => answer(body.to_bytes()),
            Err(_) => answer("broken"),
        }
    })
}

#[test]
fn a_request_has_a_body_of_any_length() {
    let mut peer = Peer::open(echo, &[(setting::INITIAL_WINDOW_SIZE, 1 << 24)]);
    peer.send(&widen(0, 1 << 24));
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251).to_le_bytes()[0]).collect();
    // Somebody asks for it, so all of its window is open.
    let opened = peer.send(&post(1, b""));
    assert_eq!(opened[0].payload, (WINDOW - UNASKED).to_be_bytes());
    let (mut stream, mut connection, mut sent) = (WINDOW, CONNECTION_WINDOW, Vec::new());
    let mut parts = body.chunks(10_000).peekable();
    while let Some(part) = parts.next() {
        let length = u32::try_from(part.len()).unwrap() + 1 + 9;
        (stream, connection) = (stream.checked_sub(length).unwrap(), connection.checked_sub(length).unwrap());
        let flags = flag::PADDED | if parts.peek().is_none() { flag::END_STREAM } else { 0 };
        sent = peer.send(&data(1, flags, &[&[9], part, &[0; 9]].concat()));
        let by = |of: u32| -> u32 {
            sent.iter()
                .filter(|sent| sent.is(kind::WINDOW_UPDATE, of))
                .map(|sent| u32::from_be_bytes(sent.payload[..].try_into().unwrap()))
                .sum()
        };
        (stream, connection) = (stream + by(1), connection + by(0));
        assert!(stream <= WINDOW && connection <= CONNECTION_WINDOW);
    }
    assert_eq!((received(&sent, 1), is_whole(&sent, 1)), (body.len(), true));
    let echoed: Vec<u8> =
        sent.iter().filter(|sent| sent.is(kind::DATA, 1)).flat_map(|sent| sent.payload.clone()).collect();
    assert!(echoed == body);
}

#[test]
fn more_than_a_window_is_a_violation_and_what_nobody_takes_is_none() {
    let piece = vec![0; 16 << 10];
    let mut peer = Peer::open(silent, &[]);
    // The body is held by nobody once its request is: the answer that never comes has it.
    peer.send(&post(1, b""));
    let mut sent = Vec::new();
    for _ in 0..=UNASKED / (16 << 10) {
        sent.extend(peer.send(&data(1, 0, &piece)));
    }
    let reset = sent.iter().find(|sent| sent.is(kind::RST_STREAM, 1));
    assert_eq!(reset.map(Sent::reason), Some(Reason::FlowControl as u32));
    // A stream that was answered before its body came is reset, and what comes after all is passed over.
    let mut peer = Peer::open(sized, &[]);
    let sent = peer.send(&post(1, b""));
    let reset = sent.iter().find(|sent| sent.is(kind::RST_STREAM, 1));
    assert_eq!((reset.map(Sent::reason), is_whole(&sent, 1)), (Some(Reason::None as u32), true));
    let mut widened = 0;
    for _ in 0..200 {
        for sent in peer.send(&data(1, 0, &piece)) {
            assert!(sent.is(kind::WINDOW_UPDATE, 0), "{sent:?}");
            widened += 1;
        }
    }
    assert_eq!((widened, peer.ended.is_none()), (200 * (16 << 10) / (CONNECTION_WINDOW / 2), true));
}

#[test]
fn bodies_that_nobody_takes_do_not_stop_others() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let mut peer = Peer::open(
        {
            let bodies = Arc::clone(&bodies);
            move |request: Request<RequestBody>| {
                if request.uri().path() == "/5" {
                    bodies.lock().push(request.into_body());
                    return silent(Request::new(RequestBody::empty()));
                }
                echo(request)
            }
        },
        &[(setting::INITIAL_WINDOW_SIZE, 1 << 24)],
    );
    let piece = vec![7; 8 << 10];
    let mut window = i64::from(CONNECTION_WINDOW);
    let widened = |sent: &[Sent], of: u32| -> i64 {
        let by = |sent: &Sent| i64::from(u32::from_be_bytes(sent.payload[..].try_into().unwrap()));
        sent.iter().filter(|sent| sent.is(kind::WINDOW_UPDATE, of)).map(by).sum()
    };
    for number in 0..STREAMS - 1 {
        let id = 1 + 2 * number;
        let sent = peer.send(&[post(id, b""), data(id, 0, &piece), data(id, 0, &piece)].concat());
        assert_eq!((widened(&sent, id), received(&sent, id)), (0, 0), "nobody asks for it");
        window += widened(&sent, 0) - (16 << 10);
    }
    // One that is taken goes on for as long as it likes.
    let head = frame(kind::HEADERS, flag::END_HEADERS, 1001, &fields("POST", "/echo"));
    let (mut stream, mut left) = (i64::from(UNASKED) + widened(&peer.send(&head), 1001), 1 << 20);
    while left > 0 {
        let length = usize::try_from(window.min(stream).min(left).min(16 << 10)).unwrap();
        assert!(length > 0, "{left} bytes are left, and the windows are {window} and {stream}");
        let sent = peer.send(&data(1001, 0, &vec![7; length]));
        (window, stream) = (window + widened(&sent, 0), stream + widened(&sent, 1001));
        let taken = i64::try_from(length).unwrap();
        (window, stream, left) = (window - taken, stream - taken, left - taken);
    }
    assert_eq!(received(&peer.send(&[widen(0, 1 << 24), data(1001, flag::END_STREAM, b"")].concat()), 1001), 1 << 20);
}

#[test]
fn a_client_may_send_before_it_hears_of_our_settings() {
    let mut peer = Peer::with(silent);
    let begin = [PREFACE, &frame(kind::SETTINGS, 0, 0, b""), &post(1, b"")].concat();
    let mut sent = peer.send(&begin);
    let mut left = FIRST_WINDOW as usize;
    while left > 0 {
        let length = left.min(frame::LARGEST);
        sent.extend(peer.send(&data(1, 0, &vec![7; length])));
        left -= length;
    }
    assert!(!sent.iter().any(|sent| matches!(sent.head.kind, kind::RST_STREAM | kind::GOAWAY)), "{sent:?}");
    let reset = peer.send(&data(1, 0, b"x"));
    assert_eq!(reset.first().map(Sent::reason), Some(Reason::FlowControl as u32), "one byte more");
}

#[test]
fn answers_come_when_they_are_there() {
    let go: Arc<Vec<Notify>> = Arc::new((0..3).map(|_| Notify::new()).collect());
    let mut peer = Peer::open(
        {
            let (go, mut next) = (Arc::clone(&go), 0);
            move |_| {
                let (go, number) = (Arc::clone(&go), next);
                next += 1;
                Answering::begin(async move {
                    go[number].notified().await;
                    answer(vec![b'x'; number + 1])
                })
            }
        },
        &[],
    );
    assert_eq!(peer.send(&[get(1, "/"), get(3, "/"), get(5, "/")].concat()), []);
    for (number, stream) in [(1, 3), (2, 5), (0, 1)] {
        go[number].notify_one();
        let sent = peer.turn();
        assert_eq!((received(&sent, stream), is_whole(&sent, stream)), (number + 1, true));
    }
}

#[test]
fn what_nobody_waits_for_is_dropped() {
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut peer = Peer::open(
        {
            let dropped = Arc::clone(&dropped);
            move |_| {
                let counts = Counts(Arc::clone(&dropped));
                Answering::begin(async move {
                    let _counts = counts;
                    std::future::pending().await
                })
            }
        },
        &[],
    );
    peer.send(&[get(1, "/"), get(3, "/"), get(5, "/")].concat());
    assert_eq!(dropped.load(SeqCst), 0);
    peer.send(&frame(kind::RST_STREAM, 0, 3, &[0, 0, 0, 8]));
    assert_eq!(dropped.load(SeqCst), 1);
    peer.pipe.0.lock().is_closed = true;
    peer.turn();
    assert!(matches!(peer.ended, Some(Ok(()))));
    assert_eq!(dropped.load(SeqCst), 3, "the client is gone");
}

#[test]
fn a_panic_ends_its_stream_alone() {
    let mut peer = Peer::open(
        |request| match request.uri().path() {
            "/at-once" => Answering::begin(async { panic!("on purpose") }),
            "/later" => Answering::begin(async {
                let mut turns = 0;
                std::future::poll_fn(|_| {
                    turns += 1;
                    if turns < 2 { Poll::Pending } else { Poll::Ready(()) }
                })
                .await;
                panic!("on purpose")
            }),
            _ => sized(request),
        },
        &[],
    );
    let sent = peer.send(&[get(1, "/at-once"), get(3, "/later"), get(5, "/9")].concat());
    for stream in [1, 3] {
        let reset = sent.iter().find(|sent| sent.is(kind::RST_STREAM, stream));
        assert_eq!(reset.map(Sent::reason), Some(Reason::Internal as u32), "{stream}");
    }
    assert_eq!((received(&sent, 5), is_whole(&sent, 5)), (9, true));
}

#[test]
fn there_are_only_so_many_streams() {
    let mut peer = Peer::open(silent, &[]);
    let ids = || (0..).map(|number| 1 + 2 * number);
    let all: Vec<u8> = ids().take(STREAMS as usize + 2).flat_map(|id| get(id, "/")).collect();
    let sent = peer.send(&all);
    let refused: Vec<u32> =
        sent.iter().map(|sent| (sent.head.kind == kind::RST_STREAM).then_some(sent.head.stream).unwrap()).collect();
    assert_eq!(refused, ids().skip(STREAMS as usize).take(2).collect::<Vec<_>>());
    assert!(sent.iter().all(|sent| sent.reason() == Reason::RefusedStream as u32));
    // One less, one more.
    peer.send(&frame(kind::RST_STREAM, 0, 1, &[0; 4]));
    assert_eq!(peer.send(&get(1001, "/")), []);
}

#[test]
fn a_client_that_takes_back_too_much_is_left() {
    let mut peer = Peer::open(silent, &[]);
    for number in 0..2000_u32 {
        let id = 1 + 2 * number;
        let sent = peer.send(&[get(id, "/"), frame(kind::RST_STREAM, 0, id, &[0, 0, 0, 8])].concat());
        if let Some(gone) = sent.iter().find(|sent| sent.head.kind == kind::GOAWAY) {
            assert_eq!(gone.reason(), Reason::Calm as u32);
            assert!((1000..1200).contains(&number), "{number}");
            return;
        }
    }
    panic!("it may go on");
}

#[test]
fn a_block_has_a_bound() {
    for (frames, length) in [(3, 12_000), (70, 1)] {
        let mut peer = Peer::open(sized, &[]);
        let mut bytes = frame(kind::HEADERS, flag::END_STREAM, 1, &fields("GET", "/"));
        (0..frames).for_each(|_| bytes.extend(frame(kind::CONTINUATION, 0, 1, &vec![0x80; length])));
        let sent = peer.send(&bytes);
        assert_eq!(sent.last().map(Sent::reason), Some(Reason::Calm as u32), "{frames} of {length}");
    }
    // A list that is too large costs its request alone.
    let mut peer = Peer::open(sized, &[]);
    let long = [&[0][..], &text("x"), &[0x7f, 0xd1, 0x8b, 0x01], &vec![b'y'; 18_000]].concat();
    let block = [fields("GET", "/"), long].concat();
    let (begin, rest) = block.split_at(10_000);
    let sent = peer.send(&[frame(kind::HEADERS, 1, 1, begin), frame(kind::CONTINUATION, 4, 1, rest)].concat());
    assert!(is_whole(&sent, 1) && received(&sent, 1) == 0, "{sent:?}");
    assert!(sent[0].payload.windows(3).any(|code| code == b"431"));
    assert!(is_whole(&peer.send(&get(3, "/")), 3));
}

#[test]
fn a_client_that_takes_nothing_is_not_read_from() {
    let mut peer = Peer::open(sized, &[(setting::INITIAL_WINDOW_SIZE, 1 << 24)]);
    peer.send(&widen(0, 1 << 24));
    peer.pipe.0.lock().is_blocked = true;
    for number in 0..5000_u32 {
        peer.send(&[get(1 + 2 * number, "/1000"), frame(kind::PING, 0, 0, &[7; 8])].concat());
    }
    let left = peer.pipe.0.lock().to_server.len();
    assert!(left > 200_000, "{left} bytes are left of some 300,000");
    peer.pipe.0.lock().is_blocked = false;
    let mut sent = Vec::new();
    for _ in 0..100 {
        sent.extend(peer.turn());
    }
    assert_eq!(sent.iter().filter(|sent| sent.head.kind == kind::PING).count(), 5000, "and nothing is lost");
    assert!(
        (0..5000).all(|number| is_whole(&sent[sent.len().saturating_sub(8000)..], 1 + 2 * number) || number < 4000)
    );
    assert_eq!(received(&sent, 1) + received(&sent, 9999), 2000);
}

#[test]
fn a_connection_that_leaves_answers_what_was_asked() {
    let go = Arc::new(Notify::new());
    let mut peer = Peer::open(
        {
            let go = Arc::clone(&go);
            move |request| {
                if request.uri().path() != "/wait" {
                    return sized(request);
                }
                let go = Arc::clone(&go);
                Answering::begin(async move {
                    go.notified().await;
                    answer("late")
                })
            }
        },
        &[],
    );
    peer.send(&get(1, "/wait"));
    peer.connection.leave();
    peer.connection.leave();
    let sent = peer.turn();
    assert_eq!(sent.iter().map(|sent| sent.head.kind).collect::<Vec<_>>(), [kind::GOAWAY, kind::PING]);
    assert_eq!(sent[0].payload[..8], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    // What the client asked before it heard of that is answered, and no more.
    assert!(is_whole(&peer.send(&get(3, "/5")), 3));
    let last = peer.send(&frame(kind::PING, flag::ACK, 0, &sent[1].payload));
    assert_eq!((last[0].head.kind, &last[0].payload[..]), (kind::GOAWAY, &[0, 0, 0, 3, 0, 0, 0, 0][..]));
    let refused = peer.send(&get(5, "/5"));
    assert_eq!((refused[0].head.kind, refused[0].reason()), (kind::RST_STREAM, Reason::RefusedStream as u32));
    assert!(peer.ended.is_none());
    go.notify_one();
    assert_eq!(received(&peer.turn(), 1), 4);
    assert!(matches!(peer.ended, Some(Ok(()))) && peer.pipe.0.lock().is_shut);
}

#[test]
fn a_body_that_breaks_off_is_an_error_to_whoever_reads_it() {
    let mut bodies = Vec::new();
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let mut peer = Peer::open(
        move |request: Request<RequestBody>| {
            sender.send(request.into_body()).unwrap();
            silent(Request::new(RequestBody::empty()))
        },
        &[],
    );
    peer.send(&[post(1, b""), post(3, b""), post(5, &field("content-length", "3"))].concat());
    peer.send(&[data(1, 0, b"abc"), data(3, 1, b"abc"), data(5, 0, b"ab")].concat());
    while let Ok(body) = received.try_recv() {
        bodies.push(body);
    }
    let left = |body: &RequestBody| body.size_hint().exact();
    assert_eq!(bodies.iter().map(left).collect::<Vec<_>>(), [None, None, Some(3)]);
    peer.send(&frame(kind::RST_STREAM, 0, 1, &[0; 4]));
    drop(peer);
    for (body, is_whole) in bodies.into_iter().zip([false, true, false]) {
        let collected = futures_util::FutureExt::now_or_never(body.collect()).expect("nothing more comes");
        assert_eq!(collected.is_ok(), is_whole);
    }
}

/// Frames of every kind, right and wrong.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![Just(0_u32), Just(1), Just(3), Just(5), 0_u32..12];
    let block = prop_oneof![
        Just(fields("GET", "/70000")),
        Just(fields("POST", "/5")),
        prop::collection::vec(any::<u8>(), 0..40)
    ];
    let payload = prop_oneof![
        block,
        Just(Vec::new()),
        any::<u32>().prop_map(|number| number.to_be_bytes().to_vec()),
        (0_u16..7, any::<u32>()).prop_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()),
        prop::collection::vec(any::<u8>(), 0..300),
    ];
    (0_u8..11, any::<u8>(), stream, payload)
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
}

proptest! {
    #[test]
    fn anything_may_come(frames in prop::collection::vec(any_frame(), 0..40), at_once in prop::option::of(1_usize..50)) {
        let mut peer = Peer::open(|request| if *request.method() == "POST" { echo(request) } else { sized(request) }, &[]);
        peer.pipe.0.lock().at_once = at_once;
        for frame in frames {
            peer.send(&frame);
        }
        let is_over = peer.ended.is_some();
        let sent = peer.send(&get(1001, "/7"));
        let is_answered = sent.iter().any(|sent| sent.is(kind::HEADERS, 1001));
        // Else it is in the middle of a block, which this does not belong into, or the connection's window is not open.
        prop_assert!(is_over || is_answered || sent.iter().any(|sent| sent.head.kind == kind::GOAWAY));
    }

    #[test]
    fn whatever_windows_are_every_answer_comes_whole(
        lengths in prop::collection::vec(0_usize..150_000, 1..20),
        moves in prop::collection::vec((any::<bool>(), 0_u32..60_000, 0_usize..20, any::<bool>()), 0..60),
    ) {
        let mut peer = Peer::open(sized, &[(setting::INITIAL_WINDOW_SIZE, 1000)]);
        let id = |number: usize| u32::try_from(1 + 2 * number).unwrap();
        let (mut window, mut all) = (i64::from(FIRST_WINDOW), Vec::new());
        let mut asked = 0;
        for (is_setting, by, number, takes) in moves {
            if asked < lengths.len() {
                all.extend(peer.send(&get(id(asked), &format!("/{}", lengths[asked]))));
                asked += 1;
            }
            peer.pipe.0.lock().is_blocked = !takes;
            let sent = if is_setting {
                peer.send(&set(setting::INITIAL_WINDOW_SIZE, by))
            } else if number == 0 {
                window += i64::from(by);
                peer.send(&widen(0, by.max(1)))
            } else {
                peer.send(&widen(id(number % asked), by.max(1)))
            };
            all.extend(sent);
        }
        let sent: usize = (0..asked).map(|number| received(&all, id(number))).sum();
        prop_assert!(i64::try_from(sent).unwrap() <= window + 60, "{sent} of {window}");
        peer.pipe.0.lock().is_blocked = false;
        for (number, length) in lengths.iter().enumerate().skip(asked) {
            all.extend(peer.send(&get(id(number), &format!("/{length}"))));
        }
        all.extend(peer.send(&[set(setting::INITIAL_WINDOW_SIZE, 1 << 24), widen(0, 1 << 24)].concat()));
        for (number, length) in lengths.iter().enumerate() {
            prop_assert_eq!((received(&all, id(number)), is_whole(&all, id(number))), (*length, true), "{}", number);
        }
        prop_assert!(peer.ended.is_none());
    }
}
