//! Local servers for tests: one speaks the hub's protocol, another stands in for the storage behind it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha1::{Digest, Sha1};
use sha2::Sha256;

/// The commit that every revision resolves to.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A received request.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET` or `HEAD`.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The value of the first header called `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
    }

    /// The start of the requested range.
    fn start(&self) -> usize {
        let range =
            self.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        range.unwrap_or(0)
    }
}

/// The way a body is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sending {
    /// Completely, as announced.
    Whole,
    /// The connection closes after a number of bytes.
    CutAfter(usize),
    /// After a number of bytes nothing more is sent, but the connection stays open.
    SilentAfter(usize),
    /// The body repeats forever, with no length announced.
    Endless,
}

/// A reply to a request.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The complete body.
    pub body: Vec<u8>,
    /// The way the body is sent.
    pub sending: Sending,
}

impl Reply {
    /// A reply without headers, whose body is sent completely.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), sending: Sending::Whole }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Replaces the value of every header called `name`.
    #[must_use]
    pub fn replacing(mut self, name: &str, value: &str) -> Self {
        for header in self.headers.iter_mut().filter(|header| header.0 == name) {
            header.1 = value.into();
        }
        self
    }

    /// Changes the way the body is sent.
    #[must_use]
    pub fn sent(self, sending: Sending) -> Self {
        Self { sending, ..self }
    }

    /// A reply with `bytes` from the start of the requested range.
    pub fn ranged(request: &Request, bytes: &[u8]) -> Self {
        match request.start() {
            0 => Self::new(200, bytes),
            start => Self::new(206, &bytes[start..])
                .with("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())),
        }
    }
}

/// A running server, which records its requests. It ends with the process.
pub struct Server {
    /// `http://127.0.0.1:PORT`.
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts a server on a free port.
    ///
    /// # Panics
    /// When the system has none.
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                std::thread::spawn(move || {
                    let Some(request) = read_request(&stream) else { return };
                    log.lock().unwrap().push(request.clone());
                    // The client may hang up at any time.
                    let _ = write_reply(stream, &request, &answer(&request));
                });
            }
        });
        Self { address, requests }
    }

    /// The requests since the last call.
    ///
    /// # Panics
    /// When a handler panicked.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    /// The requests since the last call, as `METHOD path`.
    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream.take(1 << 16)).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let headers = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_lowercase(), value.to_owned()))
    });
    Some(Request { method, path, headers: headers.collect() })
}

fn write_reply(mut stream: TcpStream, request: &Request, reply: &Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Answer\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let has_length = reply.headers.iter().any(|header| header.0 == "Content-Length");
    if !has_length && reply.sending != Sending::Endless {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    match reply.sending {
        Sending::Whole => stream.write_all(&reply.body),
        Sending::CutAfter(bytes) => stream.write_all(&reply.body[..bytes]),
        Sending::SilentAfter(bytes) => {
            stream.write_all(&reply.body[..bytes])?;
            std::thread::sleep(Duration::from_secs(20));
            Ok(())
        }
        Sending::Endless => loop {
            stream.write_all(&reply.body)?;
        },
    }
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Git's hash of a blob, in hexadecimal.
pub fn git_sha1(bytes: &[u8]) -> String {
    hexadecimal(&Sha1::digest([format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hub with one repository, and the storage that sends its large files.
#[derive(Clone)]
pub struct Hub {
    /// Small files, sent by the hub itself.
    pub small: Vec<(String, Vec<u8>)>,
    /// Large files, sent from `storage`.
    pub large: Vec<(String, Vec<u8>)>,
    /// The address of the storage.
    pub storage: String,
}

impl Hub {
    /// The reply of a faultless hub.
    pub fn answer(&self, request: &Request) -> Reply {
        if request.path.starts_with("/api/models/") {
            let names = self.small.iter().chain(&self.large).map(|file| format!("{{\"rfilename\": {:?}}}", file.0));
            let siblings = names.collect::<Vec<_>>().join(", ");
            return Reply::new(
                200,
                format!("{{\"id\": \"timm/x\", \"sha\": \"{COMMIT}\", \"siblings\": [{siblings}]}}"),
            );
        }
        let Some(name) = request.path.strip_prefix(&format!("/timm/x/resolve/{COMMIT}/")) else {
            return Reply::new(404, "").with("X-Error-Code", "RepoNotFound");
        };
        let find = |files: &[(String, Vec<u8>)]| files.iter().find(|file| file.0 == name).map(|file| file.1.clone());
        if let Some(bytes) = find(&self.small) {
            let etag = format!("\"{}\"", git_sha1(&bytes));
            return Reply::ranged(request, &bytes).with("ETag", etag).with("X-Repo-Commit", COMMIT);
        }
        let Some(bytes) = find(&self.large) else {
            return Reply::new(404, "").with("X-Error-Code", "EntryNotFound").with("X-Repo-Commit", COMMIT);
        };
        Reply::new(302, "moved")
            .with("Location", format!("{}/stored/{name}?signature=x", self.storage))
            .with("ETag", "\"of the redirection\"")
            .with("X-Linked-Etag", format!("\"{}\"", sha256(&bytes)))
            .with("X-Linked-Size", bytes.len().to_string())
            .with("X-Repo-Commit", COMMIT)
    }
}
