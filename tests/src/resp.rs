//! A Redis client that hides nothing: RESP2 and RESP3, pipelines, pushes, raw bytes.

use crate::call;
use crate::deadline::DEADLINE;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Null of either protocol.
    Null,
    /// `:`
    Int(i64),
    /// `,`
    Double(f64),
    /// `#`
    Bool(bool),
    /// `+`
    Simple(String),
    /// `-`
    Error(String),
    /// `$`, and `=` without its format
    Bulk(Vec<u8>),
    /// `*`, and `~`
    Array(Vec<Value>),
    /// `%`
    Map(Vec<(Value, Value)>),
    /// `>`
    Push(Vec<Value>),
}

impl Value {
    /// Whether the command was refused with an error.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// The integer.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(int) => *int,
            other => panic!("not an integer: {other}"),
        }
    }

    /// The bytes of a string.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Bulk(bytes) => bytes,
            Self::Simple(text) => text.as_bytes(),
            other => panic!("not a string: {other}"),
        }
    }

    /// The text of a string.
    ///
    /// # Panics
    /// If it is none, or not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        str::from_utf8(self.bytes()).unwrap_or_else(|_| panic!("not UTF-8: {self}"))
    }

    /// The elements of an array.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn array(&self) -> &[Value] {
        match self {
            Self::Array(elements) | Self::Push(elements) => elements,
            other => panic!("not an array: {other}"),
        }
    }

    /// The pairs of a map, or of an array that stands for one in RESP2.
    ///
    /// # Panics
    /// If it is neither.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&str, &Value)> {
        match self {
            Self::Map(pairs) => pairs.iter().map(|(name, value)| (name.text(), value)).collect(),
            other => other.array().chunks_exact(2).map(|pair| (pair[0].text(), &pair[1])).collect(),
        }
    }

    /// The value of a name in such a map.
    ///
    /// # Panics
    /// If the name is not in it.
    #[must_use]
    pub fn field(&self, name: &str) -> &Value {
        self.pairs()
            .into_iter()
            .find(|(found, _)| *found == name)
            .map_or_else(|| panic!("no {name} in {self}"), |(_, value)| value)
    }
}

/// The notation of the tables: `+OK`, `-ERR ...`, `:1`, `QUEUED` (a bulk string), `[QUEUED :1]`, `{a :1}`, `nil`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, open: &str, elements: &[Value], close: &str| {
            write!(f, "{open}")?;
            for (i, element) in elements.iter().enumerate() {
                write!(f, "{}{element}", if i > 0 { " " } else { "" })?;
            }
            write!(f, "{close}")
        };
        match self {
            Self::Null => write!(f, "nil"),
            Self::Int(int) => write!(f, ":{int}"),
            Self::Double(double) => write!(f, ",{double}"),
            Self::Bool(bool) => write!(f, "#{bool}"),
            Self::Simple(text) => write!(f, "+{text}"),
            Self::Error(text) => write!(f, "-{text}"),
            Self::Bulk(bytes) => write!(f, "{}", show(bytes)),
            Self::Array(elements) => list(f, "[", elements, "]"),
            Self::Push(elements) => list(f, ">[", elements, "]"),
            Self::Map(pairs) => {
                let flat: Vec<Value> = pairs.iter().flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
                list(f, "{", &flat, "}")
            }
        }
    }
}

/// Bytes as text where they are text, escaped where not.
#[must_use]
pub fn show(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// Writes one command as RESP.
pub fn encode<A: AsRef<[u8]>>(args: &[A], out: &mut Vec<u8>) {
    out.extend(format!("*{}\r\n", args.len()).bytes());
    for arg in args {
        let arg = arg.as_ref();
        out.extend(format!("${}\r\n", arg.len()).bytes());
        out.extend(arg);
        out.extend(b"\r\n");
    }
}

/// Where a server listens: a port of loopback, unless it says more.
#[derive(Debug, Clone, Copy)]
pub struct Place(SocketAddr);

impl From<u16> for Place {
    fn from(port: u16) -> Self {
        Self((Ipv4Addr::LOCALHOST, port).into())
    }
}

impl From<(Ipv4Addr, u16)> for Place {
    fn from(place: (Ipv4Addr, u16)) -> Self {
        Self(place.into())
    }
}

/// A connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    unsent: Vec<u8>,
}

impl Client {
    /// Connects to a server.
    ///
    /// # Errors
    /// As the network says.
    pub fn connect(place: impl Into<Place>) -> io::Result<Self> {
        Self::connect_with(place, DEADLINE)
    }

    /// The same with another patience, for the connection and for each reply.
    ///
    /// # Errors
    /// As the network says.
    pub fn connect_with(place: impl Into<Place>, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&place.into().0, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream: BufReader::with_capacity(1 << 16, stream), unsent: Vec::new() })
    }

    /// Sends a line (see [`call::words`]) and reads the reply.
    ///
    /// # Panics
    /// If the connection breaks.
    pub fn run(&mut self, line: &str) -> Value {
        self.call(&call::words(line))
    }

    /// Sends a command and reads the reply.
    ///
    /// # Panics
    /// If the connection breaks.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        let shown: Vec<String> = args.iter().take(8).map(|arg| show(arg.as_ref())).collect();
        self.try_call(args).unwrap_or_else(|error| panic!("no reply to {}: {error}", shown.join(" ")))
    }

    /// Sends a command and reads the reply.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn try_call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Value> {
        self.queue(args);
        self.flush()?;
        self.read()
    }

    /// Keeps a command for the next [`Client::flush`].
    pub fn queue<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        encode(args, &mut self.unsent);
    }

    /// Keeps a line for the next [`Client::flush`].
    pub fn queue_line(&mut self, line: &str) {
        self.queue(&call::words(line));
    }

    /// Sends what is kept.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.get_mut().write_all(&self.unsent)?;
        self.unsent.clear();
        Ok(())
    }

    /// Sends raw bytes.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends many lines at once and reads their replies.
    ///
    /// # Panics
    /// If the connection breaks.
    pub fn pipeline<L: AsRef<str>>(&mut self, lines: &[L]) -> Vec<Value> {
        for line in lines {
            self.queue_line(line.as_ref());
        }
        self.replies(lines.len()).unwrap_or_else(|error| panic!("no replies to a pipeline: {error}"))
    }

    /// Sends what is kept and reads so many replies.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn replies(&mut self, count: usize) -> io::Result<Vec<Value>> {
        self.flush()?;
        (0..count).map(|_| self.read()).collect()
    }

    /// Reads one reply, or one push.
    ///
    /// # Errors
    /// If the connection breaks or what comes is not RESP.
    pub fn read(&mut self) -> io::Result<Value> {
        let line = self.read_line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| malformed(&line))?;
        let number = || rest.parse::<i64>().map_err(|_| malformed(&line));
        Ok(match kind {
            "+" => Value::Simple(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Int(number()?),
            "," => Value::Double(rest.parse().map_err(|_| malformed(&line))?),
            "#" => Value::Bool(rest == "t"),
            "_" => Value::Null,
            "$" | "=" => match usize::try_from(number()?) {
                Ok(len) => {
                    let mut bytes = self.read_bytes(len + 2)?;
                    bytes.truncate(len);
                    if kind == "=" {
                        bytes.drain(..4);
                    }
                    Value::Bulk(bytes)
                }
                Err(_) => Value::Null,
            },
            "*" | "~" | ">" => match usize::try_from(number()?) {
                Ok(len) => {
                    let elements = (0..len).map(|_| self.read()).collect::<io::Result<_>>()?;
                    if kind == ">" { Value::Push(elements) } else { Value::Array(elements) }
                }
                Err(_) => Value::Null,
            },
            "%" => {
                let len = number()?;
                let pairs = (0..len).map(|_| Ok((self.read()?, self.read()?))).collect::<io::Result<_>>()?;
                Value::Map(pairs)
            }
            _ => return Err(malformed(&line)),
        })
    }

    /// Reads a line without its end.
    ///
    /// # Errors
    /// If the connection breaks or the line is not UTF-8.
    pub fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n").or_else(|| line.strip_suffix('\n')) {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn read_bytes(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn malformed(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not RESP: {line}"))
}

/// Runs a table of (call, reply) in order. A reply that begins with `-` need only begin so; all others are exact.
///
/// # Panics
/// At the first reply that differs, naming its row.
pub fn expect<C: AsRef<str>>(client: &mut Client, table: &[(C, &str)]) {
    for (row, (call, expected)) in table.iter().enumerate() {
        let call = call.as_ref();
        let reply = client.run(call).to_string();
        let is_met = if expected.starts_with('-') { reply.starts_with(expected) } else { reply == *expected };
        assert!(is_met, "row {row}: {call}\n  expected {expected}\n  got      {reply}");
    }
}
