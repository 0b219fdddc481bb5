//! One HTTP request, for health pages and metrics.

use crate::deadline::DEADLINE;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// What follows.
    pub body: String,
}

impl Answer {
    /// A header; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(header, _)| header.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
}

/// The status and the body of a GET on loopback.
///
/// # Errors
/// As the network says, or if the answer is not HTTP.
pub fn get(port: u16, path: &str) -> io::Result<(u16, String)> {
    ask(port, "GET", path).map(|answer| (answer.status, answer.body))
}

/// Any request on loopback, without a body.
///
/// # Errors
/// As the network says, or if the answer is not HTTP.
pub fn ask(port: u16, method: &str, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    match (status, answer.split_once("\r\n\r\n")) {
        (Some(status), Some((head, body))) => Ok(Answer { status, head: head.to_owned(), body: body.to_owned() }),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {answer}"))),
    }
}
