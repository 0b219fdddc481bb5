//! One request to a daemon that runs: what it serves over HTTP, asked for by the commands beside it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A daemon that takes longer is taken for one that does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// What it answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's status code.
    pub status: u16,
    /// What follows the headers.
    pub body: Vec<u8>,
}

/// Asks the daemon that listens there.
///
/// # Errors
/// As the network says; or if it does not answer in time, or not in HTTP.
pub async fn get(listen: SocketAddr, path: &str) -> io::Result<Answer> {
    let answer = timeout(ANSWER_TIMEOUT, ask(reachable(listen), path)).await??;
    read(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is another program: that was no HTTP"))
}

/// An address that listens everywhere is reached on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(at: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(at).await?;
    // In HTTP/1.0 the answer ends with the connection: there is nothing to unwrap.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn read(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (answer.get(..end)?, answer.get(end + 4..)?);
    let line = head.split(|byte| *byte == b'\r').next()?.strip_prefix(b"HTTP/1.")?;
    let status = std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_what_follows_the_headers() {
        let answer = Answer { status: 503, body: b"redis: away\r\n\r\n.".to_vec() };
        assert_eq!(read(b"HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\nredis: away\r\n\r\n."), Some(answer));
        for other in [&b""[..], b"+PONG\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.0 OK\r\n\r\n", b"SSH-2.0 200 OK\r\n\r\n"]
        {
            assert_eq!(read(other), None, "{other:?}");
        }
    }

    #[test]
    fn who_listens_everywhere_is_asked_on_loopback() {
        for (listen, at) in
            [("0.0.0.0:9187", "127.0.0.1:9187"), ("[::]:9187", "[::1]:9187"), ("10.1.2.3:80", "10.1.2.3:80")]
        {
            assert_eq!(listen.parse().map(reachable), at.parse(), "{listen}");
        }
    }
}
