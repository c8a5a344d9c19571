//! A proxy in front of an S3-compatible store that counts what passes, and makes the store fail on demand.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// What is done to every exchange from now on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Connections end before anything is answered.
    Down,
    /// Nothing is answered, and connections stay.
    Hang,
    /// Answers come in steps of so many bytes, 20 ms apart.
    Slow(usize),
    /// The body of one answer ends after so many bytes, with the connection.
    CutOnce(usize),
    /// One byte in the middle of every GET's body is another.
    Corrupt,
    /// Everything is answered with this status.
    Status(u16),
}

#[derive(Debug, Default)]
struct State {
    fault: Fault,
    /// Parts of names of objects that are answered with 404.
    lost: Vec<String>,
    /// Requests that were passed on or answered, by method and path.
    seen: HashMap<(String, String), usize>,
    connections: Vec<TcpStream>,
    is_over: bool,
}

/// A running proxy. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl FaultProxy {
    /// Starts one before `store`.
    pub(crate) fn before(store: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mut state = lock(&shared);
                if state.is_over {
                    return;
                }
                if state.fault == Fault::Down {
                    continue;
                }
                state.connections.extend(client.try_clone());
                let shared = Arc::clone(&shared);
                thread::spawn(move || drop(serve(client, store, &shared)));
            }
        });
        Self { address, state }
    }

    /// Where it is reached.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what is done from now on. A store that goes down takes its connections with it.
    pub(crate) fn set(&self, fault: Fault) {
        let mut state = lock(&self.state);
        if fault == Fault::Down {
            cut(&mut state);
        }
        state.fault = fault;
    }

    /// Loses every object whose name has `part` in it; nothing is lost any more where that is empty.
    pub(crate) fn lose(&self, part: &str) {
        let mut state = lock(&self.state);
        state.lost.clear();
        state.lost.extend((!part.is_empty()).then(|| part.to_owned()));
    }

    /// How many requests by `method` came for names with `part` in them.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        let state = lock(&self.state);
        let of_them = state.seen.iter().filter(|((by, path), _)| by == method && path.contains(part));
        of_them.map(|(_, count)| count).sum()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.is_over = true;
        cut(&mut state);
        drop(state);
        let _ = TcpStream::connect(self.address);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nothing panics with it")
}

fn cut(state: &mut State) {
    for connection in state.connections.drain(..) {
        let _ = connection.shutdown(Shutdown::Both);
    }
}

/// Passes on the requests of one connection.
fn serve(client: TcpStream, store: SocketAddr, state: &Mutex<State>) -> io::Result<()> {
    let mut answers = client.try_clone()?;
    let mut requests = BufReader::new(client);
    let mut upstream: Option<BufReader<TcpStream>> = None;
    loop {
        let Some(request) = Head::read(&mut requests)? else { return Ok(()) };
        let (fault, is_lost) = {
            let mut state = lock(state);
            *state.seen.entry((request.method().to_owned(), request.path().to_owned())).or_default() += 1;
            let fault = state.fault.clone();
            if matches!(fault, Fault::CutOnce(_)) && request.method() == "GET" {
                state.fault = Fault::None;
            }
            (fault, state.lost.iter().any(|part| request.path().contains(part)))
        };
        let mut body = vec![0; request.length().unwrap_or(0)];
        requests.read_exact(&mut body)?;
        let status = match fault {
            Fault::Down => return Ok(()),
            Fault::Hang => loop {
                thread::sleep(Duration::from_millis(20));
                if lock(state).fault != Fault::Hang {
                    return Ok(());
                }
            },
            Fault::Status(status) => Some(status),
            _ if is_lost => Some(404),
            _ => None,
        };
        if let Some(status) = status {
            let text = "<Error><Code>NoSuchKey</Code><Message>from the proxy</Message></Error>";
            let text = if request.method() == "HEAD" { "" } else { text };
            write!(answers, "HTTP/1.1 {status} Fault\r\nContent-Length: {}\r\n\r\n{text}", text.len())?;
            continue;
        }
        let stream = match &mut upstream {
            Some(stream) => stream,
            none => none.insert(BufReader::new(TcpStream::connect(store)?)),
        };
        stream.get_mut().write_all(&request.bytes)?;
        stream.get_mut().write_all(&body)?;
        let Some(answer) = Head::read(stream)? else { return Ok(()) };
        answers.write_all(&answer.bytes)?;
        let has_no_body = request.method() == "HEAD" || matches!(answer.status(), 204 | 304);
        if has_no_body {
            continue;
        }
        let mut sending = Sending { to: &mut answers, fault: &fault, is_get: request.method() == "GET", sent: 0 };
        match answer.length() {
            Some(length) => sending.pass(stream, length)?,
            None if answer.field("transfer-encoding").is_some() => loop {
                let mut line = Vec::new();
                stream.read_until(b'\n', &mut line)?;
                let text = String::from_utf8_lossy(&line);
                let size = usize::from_str_radix(text.trim(), 16).map_err(io::Error::other)?;
                sending.to.write_all(&line)?;
                sending.pass(stream, size + 2)?;
                if size == 0 {
                    break;
                }
            },
            None => {
                io::copy(stream, sending.to)?;
                return Ok(());
            }
        }
    }
}

/// A body on its way to the client.
struct Sending<'s> {
    to: &'s mut TcpStream,
    fault: &'s Fault,
    is_get: bool,
    sent: usize,
}

impl Sending<'_> {
    fn pass(&mut self, from: &mut impl Read, length: usize) -> io::Result<()> {
        let mut left = length;
        let step = if let Fault::Slow(step) = self.fault { *step } else { 64 << 10 };
        let mut buffer = vec![0; step];
        while left > 0 {
            let part = left.min(step);
            let piece = &mut buffer[..part];
            from.read_exact(piece)?;
            match self.fault {
                Fault::Slow(_) => thread::sleep(Duration::from_millis(20)),
                Fault::Corrupt if self.is_get => piece[part / 2] ^= 1,
                Fault::CutOnce(after) if self.is_get && self.sent + part > *after => {
                    let rest = after - self.sent;
                    self.to.write_all(&piece[..rest])?;
                    self.to.shutdown(Shutdown::Both)?;
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                _ => {}
            }
            self.to.write_all(piece)?;
            self.sent += part;
            left -= part;
        }
        Ok(())
    }
}

/// The head of a request or an answer.
struct Head {
    bytes: Vec<u8>,
    text: String,
}

impl Head {
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        loop {
            let read = from.read_until(b'\n', &mut bytes)?;
            if read == 0 {
                return Ok(None);
            }
            if bytes.ends_with(b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                return Ok(Some(Self { bytes, text }));
            }
        }
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.text.lines().next().unwrap_or_default().split(' ')
    }

    fn method(&self) -> &str {
        self.words().next().unwrap_or_default()
    }

    fn path(&self) -> &str {
        self.words().nth(1).unwrap_or_default()
    }

    fn status(&self) -> u16 {
        self.words().nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    fn field(&self, name: &str) -> Option<&str> {
        let fields = self.text.lines().filter_map(|line| line.split_once(':'));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    fn length(&self) -> Option<usize> {
        self.field("content-length").and_then(|length| length.parse().ok())
    }
}
