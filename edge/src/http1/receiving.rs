//! The body of a request, as it comes.

use std::sync::Arc;
use std::task::Context;

use super::chunked::{self, Decoder};
use super::request::Framing;
use crate::intake::{self, Feed, Taken, UNASKED, WINDOW};
use crate::request_body::RequestBody;

/// A body that is not there whole.
#[derive(Debug)]
pub(super) struct Receiving {
    feed: Feed,
    taken: Arc<Taken>,
    coding: Coding,
    /// Bytes of it that there is room for.
    window: u32,
    /// The client waits until it is told to send it.
    expects_continue: bool,
}

#[derive(Debug)]
enum Coding {
    /// So many bytes are left.
    Length(u64),
    Chunked(Decoder),
}

/// What became of bytes that came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// So many were taken, for there was no more or no room for more.
    Some(usize),
    /// So many were, and they were the last ones.
    All(usize),
    /// They are no body.
    Broken,
}

impl Receiving {
    /// A body in this framing, and its other end; nothing where there is none.
    pub(super) fn new(framing: Framing, expects_continue: bool) -> Option<(Self, RequestBody)> {
        let (coding, length) = match framing {
            Framing::Nothing => return None,
            Framing::Length(length) => (Coding::Length(length), Some(length)),
            Framing::Chunked => (Coding::Chunked(Decoder::new()), None),
        };
        let taken = Arc::new(Taken::new(WINDOW, WINDOW));
        let (feed, body) = intake::intake(length, Arc::clone(&taken));
        Some((Self { feed, taken, coding, window: UNASKED, expects_continue }, body.into()))
    }

    /// Takes what it may of `input`.
    pub(super) fn take(&mut self, input: &[u8]) -> Step {
        let mut at = 0;
        loop {
            let left = match &mut self.coding {
                Coding::Length(left) => *left,
                Coding::Chunked(decoder) => match decoder.step(&input[at..]) {
                    Ok((read, step)) => {
                        at += read;
                        match step {
                            chunked::Step::Data(left) => left,
                            chunked::Step::Over => 0,
                            chunked::Step::Starved => return Step::Some(at),
                        }
                    }
                    Err(chunked::Malformed) => return Step::Broken,
                },
            };
            if left == 0 {
                self.feed.end();
                return Step::All(at);
            }
            let room = usize::try_from(self.window.min(u32::try_from(left).unwrap_or(u32::MAX))).unwrap_or(usize::MAX);
            let piece = &input[at..];
            let piece = &piece[..piece.len().min(room)];
            if piece.is_empty() {
                return Step::Some(at);
            }
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            self.feed.push(piece, length);
            self.window -= length;
            at += piece.len();
            match &mut self.coding {
                Coding::Length(left) => *left -= u64::from(length),
                Coding::Chunked(decoder) => decoder.take(piece.len()),
            }
        }
    }

    /// Makes room for as much as was taken at the other end, and has the connection be woken when there is more.
    pub(super) fn widen(&mut self, cx: &Context<'_>) {
        self.taken.register(cx);
        // It is one body's window here, and not one of many.
        let _ = self.taken.due();
        if let Some(by) = self.feed.due() {
            self.window += by;
        }
    }

    /// Whether there is no room for more.
    pub(super) fn is_full(&self) -> bool {
        self.window == 0
    }

    /// The answer begins: behind that the client is not told to send anything. Says whether all of it may still come and be read.
    pub(super) fn on_answer(&mut self) -> bool {
        let may_come = !std::mem::take(&mut self.expects_continue);
        may_come && !self.feed.is_unwanted()
    }

    /// Whether the client is to be told to send it, which is so once: when somebody asks for it.
    pub(super) fn is_to_continue(&mut self) -> bool {
        let is_now = self.expects_continue && self.feed.is_asked_for();
        self.expects_continue &= !is_now;
        is_now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::task::Waker;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[tokio::test]
    async fn a_body_is_taken_as_it_is_asked_for() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
        let chunks: Vec<u8> = bytes
            .chunks(7000)
            .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
            .chain(*b"0\r\n\r\n")
            .collect();
        for (framing, sent) in [(Framing::Length(300_000), &bytes), (Framing::Chunked, &chunks)] {
            let (mut receiving, mut body) = Receiving::new(framing, true).unwrap();
            let input = [sent, &b"GET"[..]].concat();
            let mut at = 0;
            let Step::Some(unasked) = receiving.take(&input) else { panic!("nobody asks for all of it") };
            assert!(unasked <= UNASKED as usize + 100, "{unasked}");
            at += unasked;
            assert!(receiving.is_full() && !receiving.is_to_continue());
            let mut read = Vec::new();
            loop {
                let frame = body.frame().await.unwrap().unwrap();
                read.extend_from_slice(frame.data_ref().unwrap());
                assert_eq!(receiving.is_to_continue(), at == unasked, "once");
                receiving.widen(&cx());
                match receiving.take(&input[at..]) {
                    Step::Some(taken) => at += taken,
                    Step::All(taken) => break at += taken,
                    Step::Broken => panic!("{framing:?}"),
                }
            }
            assert_eq!(&input[at..], b"GET");
            read.extend_from_slice(&body.collect().await.unwrap().to_bytes());
            assert!(read == bytes, "{framing:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_a_shorter_one() {
        for (framing, sent) in [(Framing::Length(7), "abc"), (Framing::Chunked, "3\r\nabc\r\n")] {
            let (mut receiving, body) = Receiving::new(framing, false).unwrap();
            assert_eq!(receiving.take(sent.as_bytes()), Step::Some(sent.len()));
            drop(receiving);
            assert!(body.collect().await.is_err(), "{framing:?}");
        }
        let (mut receiving, body) = Receiving::new(Framing::Chunked, false).unwrap();
        assert_eq!(receiving.take(b"3\r\nabcd"), Step::Broken);
        drop(receiving);
        assert!(body.collect().await.is_err());
    }

    #[test]
    fn what_nobody_wants_is_not_read_for_long() {
        let (mut receiving, body) = Receiving::new(Framing::Length(1 << 30), true).unwrap();
        drop(body);
        assert!(!receiving.is_to_continue() && !receiving.on_answer());
        assert_eq!(receiving.take(&[0; 1 << 20]), Step::Some(UNASKED as usize));
        receiving.widen(&cx());
        assert!(receiving.is_full());
        assert!(Receiving::new(Framing::Nothing, true).is_none());
    }
}
