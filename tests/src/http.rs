//! One HTTP request, for health pages and metrics.

use crate::deadline::DEADLINE;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

/// The status and the body of a GET on loopback.
///
/// # Errors
/// As the network says, or if the answer is not HTTP.
pub fn get(port: u16, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n");
    match (status, body) {
        (Some(status), Some((_, body))) => Ok((status, body.to_owned())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {answer}"))),
    }
}
