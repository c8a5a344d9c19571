//! A server that answers what it was told to, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and target, such as `GET /api/v1/me`.
    pub(crate) line: String,
    /// The head's other lines, in lower case.
    pub(crate) head: String,
    /// The body, where it is JSON.
    pub(crate) body: Value,
}

/// The server. Its thread ends with the test's process.
#[derive(Debug)]
pub(crate) struct Recorder {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Recorder {
    /// Starts a server that asks `answer` for a status and a body, by method and target.
    pub(crate) fn start(answer: impl Fn(&Asked) -> (u16, Value) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A client that leaves is none of this thread's business.
                let _ = serve(stream, &answer, &kept);
            }
        });
        Self { address, asked }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The one request whose method and target begin with `line`.
    #[track_caller]
    pub(crate) fn only(&self, line: &str) -> Asked {
        let asked = self.asked();
        let found: Vec<_> = asked.iter().filter(|asked| asked.line.starts_with(line)).collect();
        assert_eq!(found.len(), 1, "{line}: {asked:?}");
        found[0].clone()
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &impl Fn(&Asked) -> (u16, Value),
    kept: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut head, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut line)?;
    loop {
        let mut field = String::new();
        reader.read_line(&mut field)?;
        let field = field.trim_end().to_lowercase();
        if field.is_empty() {
            break;
        }
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&field);
        head.push('\n');
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let asked = Asked { line, head, body: serde_json::from_slice(&body).unwrap_or_default() };
    let (status, body) = answer(&asked);
    kept.lock().unwrap().push(asked);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}
