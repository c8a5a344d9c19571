//! What is sent on streams: heads, and bodies piece by piece, within the windows.

use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use http::StatusCode;
use http_body::{Body as _, Frame};

use super::FIRST_WINDOW;
use super::frame;
use super::hpack::encoder::{Encoder, Implied};
use super::streams::{Progress, Stream, Window};
use crate::answering::Answering;
use crate::body::EdgeBody;
use crate::control::BoxError;
use crate::date;
use crate::guard::{catch, poll_caught};
use crate::outgoing::Outgoing;
use crate::piece::Piece;
use crate::reply::{Reply, ReplyFields};

type Next = Option<Result<Frame<Piece>, BoxError>>;

/// Everything of a connection that sends.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) out: Outgoing,
    pub(crate) encoder: Encoder,
    /// What may be sent on all streams together.
    pub(crate) window: Window,
    /// What may be sent on a stream that begins.
    pub(crate) first_window: u32,
    waiting: FuturesUnordered<Abortable<Wait>>,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// More can be sent when it has its next turn.
    GoesOn,
    /// Something is waited for: the client's window, or what is to be sent.
    Waits,
    /// Its answer is whole.
    Over,
    /// It cannot be answered.
    Failed,
}

/// Something that a stream waits for.
#[derive(Debug)]
struct Wait {
    stream: u32,
    what: What,
}

enum What {
    Answer(Pin<Box<dyn Future<Output = Reply> + Send>>),
    /// Nothing once it was handed on.
    Piece(Option<EdgeBody>),
}

/// What was waited for.
pub(crate) enum Came {
    Answer(Reply),
    Piece(EdgeBody, Next),
    /// Nothing will come, for what would have made it panicked.
    Panicked,
}

impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Answer(_) => "Answer",
            Self::Piece(_) => "Piece",
        })
    }
}

impl What {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        match self {
            Self::Answer(answer) => answer.as_mut().poll(cx).map(Came::Answer),
            Self::Piece(body) => {
                let piece = ready!(Pin::new(body.as_mut().expect("it is polled until it is there")).poll_frame(cx));
                Poll::Ready(body.take().map_or(Came::Panicked, |body| Came::Piece(body, piece)))
            }
        }
    }
}

impl Future for Wait {
    type Output = (u32, Came);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        catch(|| this.what.poll(cx)).unwrap_or(Poll::Ready(Came::Panicked)).map(|came| (this.stream, came))
    }
}

/// What answers a stream panicked, which must end nothing else.
fn panicked() -> Step {
    tracing::error!("a stream was given up because what answers it panicked");
    Step::Failed
}

impl Sender {
    pub(crate) fn new() -> Self {
        Self {
            out: Outgoing::default(),
            encoder: Encoder::new(),
            window: Window::new(FIRST_WINDOW),
            first_window: FIRST_WINDOW,
            waiting: FuturesUnordered::new(),
        }
    }

    /// Answers the request of a stream.
    pub(crate) fn answer(&mut self, stream: &mut Stream, answering: Answering) -> Step {
        match answering {
            Answering::Done(answer) => self.begin(stream, answer),
            Answering::Waiting(answer) => self.wait(stream, What::Answer(answer)),
            Answering::Panicked => panicked(),
        }
    }

    /// Answers with a status and nothing else.
    pub(crate) fn refuse(&mut self, stream: u32, status: StatusCode) {
        let Self { out, encoder, .. } = self;
        let implied = Implied { date: date::now(), length: None };
        out.fields(stream, true, |out| encoder.encode(status, &ReplyFields::default(), &implied, out));
    }

    /// Goes on with a stream for which something came that it waited for.
    pub(crate) fn go_on(&mut self, stream: &mut Stream, came: Came) -> Step {
        match came {
            Came::Answer(answer) => self.begin(stream, answer),
            Came::Piece(body, piece) => {
                stream.progress = Progress::Sending { body, piece: Piece::default() };
                self.take(stream, piece)
            }
            Came::Panicked => panicked(),
        }
    }

    /// The next thing that was waited for, and its stream.
    pub(crate) fn poll_came(&mut self, cx: &mut Context<'_>) -> Poll<(u32, Came)> {
        loop {
            match self.waiting.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(came))) => return Poll::Ready(came),
                // Nobody waits for it any more.
                Poll::Ready(Some(Err(_))) => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn begin(&mut self, stream: &mut Stream, reply: Reply) -> Step {
        let Reply { status, fields, body } = reply;
        let ends = stream.is_head || body.is_end_stream();
        let implied = Implied { date: date::now(), length: body.size_hint().exact().filter(|_| !ends) };
        let Self { out, encoder, .. } = self;
        out.fields(stream.id, ends, |out| {
            encoder.encode(status, &fields, &implied, out);
        });
        if ends {
            return Step::Over;
        }
        stream.progress = Progress::Sending { body, piece: Piece::default() };
        self.send(stream)
    }

    /// Sends a frame of a stream's body, if there is one and it may.
    pub(crate) fn send(&mut self, stream: &mut Stream) -> Step {
        let Progress::Sending { body, piece } = &mut stream.progress else { return Step::Waits };
        if !piece.is_empty() {
            return self.send_piece(stream);
        }
        // Also where no window is open: the client owes to open one for what is there, and only for that.
        match poll_caught(pin!(std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)))) {
            Ok(Poll::Ready(piece)) => self.take(stream, piece),
            Ok(Poll::Pending) => match mem::replace(&mut stream.progress, Progress::Begun) {
                Progress::Sending { body, .. } => self.wait(stream, What::Piece(Some(body))),
                Progress::Begun | Progress::Waiting(_) => Step::Failed,
            },
            Err(_) => panicked(),
        }
    }

    /// Takes the next piece of a stream's body, and sends what it may of it.
    fn take(&mut self, stream: &mut Stream, next: Next) -> Step {
        let Progress::Sending { body, piece } = &mut stream.progress else { return Step::Failed };
        match next.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) if data.is_empty() && !body.is_end_stream() => Step::GoesOn,
            Some(Ok(Ok(data))) => {
                *piece = data;
                self.send_piece(stream)
            }
            Some(Ok(Err(frame))) => match frame.into_trailers() {
                Ok(fields) => {
                    let Self { out, encoder, .. } = self;
                    out.fields(stream.id, true, |out| encoder.encode_trailers(&fields, out));
                    Step::Over
                }
                // Nothing that is known.
                Err(_) => Step::GoesOn,
            },
            Some(Err(_)) => Step::Failed,
            None => {
                self.out.data(stream.id, true, Piece::default());
                Step::Over
            }
        }
    }

    /// Sends what it may of the piece at hand.
    fn send_piece(&mut self, stream: &mut Stream) -> Step {
        let Progress::Sending { body, piece } = &mut stream.progress else { return Step::Failed };
        let room = stream.window.open().min(self.window.open()).min(frame::LARGEST);
        let bytes = if piece.len() <= room { mem::take(piece) } else { piece.split_to(room) };
        let ends = piece.is_empty() && body.is_end_stream();
        if bytes.is_empty() && !ends {
            return Step::Waits;
        }
        stream.window.take(bytes.len());
        self.window.take(bytes.len());
        self.out.data(stream.id, ends, bytes);
        if ends { Step::Over } else { Step::GoesOn }
    }

    fn wait(&mut self, stream: &mut Stream, what: What) -> Step {
        let (abort, registration) = AbortHandle::new_pair();
        self.waiting.push(Abortable::new(Wait { stream: stream.id, what }, registration));
        stream.progress = Progress::Waiting(abort);
        Step::Waits
    }
}
