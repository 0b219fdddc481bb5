//! One request to a daemon that runs: what it serves over HTTP, asked for by the commands beside it.

use crate::error::{Exit, Failure};
use axum::BoxError;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::HOST;
use axum::http::{Request, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A daemon that takes longer is taken for one that does not answer. It may be at a look that waits for both sides.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// More is no answer of a daemon.
const ANSWER_MAX: usize = 64 << 20;

/// Asks the daemon that listens there.
pub async fn get(listen: SocketAddr, path: &str) -> Result<Response<Bytes>, Failure> {
    let answer = timeout(ANSWER_TIMEOUT, ask(reachable(listen), path)).await;
    answer.unwrap_or_else(|late| Err(late.into())).map_err(|why| nobody(listen, why))
}

/// There is no daemon.
pub fn nobody(listen: SocketAddr, why: impl Display) -> Failure {
    let advice = "start one with `coupon-reconciler run`, or say with --listen or LISTEN where it is";
    Failure::new(Exit::Unreachable, format!("no daemon answers on {listen}: {why}; {advice}"))
}

async fn ask(at: SocketAddr, path: &str) -> Result<Response<Bytes>, BoxError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(at).await?)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header(HOST, at.to_string()).body(Body::empty())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Response::from_parts(head, to_bytes(Body::new(body), ANSWER_MAX).await?))
}

/// An address that listens everywhere is reached on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let loopback = if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    SocketAddr::new(if listen.ip().is_unspecified() { loopback } else { listen.ip() }, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// What is made of an answer in these words.
    async fn read(words: &'static [u8]) -> Option<(u16, Bytes)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.ok()?;
        let at = listener.local_addr().ok()?;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            let _ = stream.read(&mut [0; 1024]).await?;
            stream.write_all(words).await
        });
        get(at, "/readyz").await.ok().map(|answer| (answer.status().as_u16(), answer.into_body()))
    }

    #[tokio::test]
    async fn an_answer_is_its_status_and_what_follows_the_headers() {
        let answer = read(b"HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\nredis: away\r\n\r\n.").await;
        assert_eq!(answer, Some((503, Bytes::from_static(b"redis: away\r\n\r\n."))));
        for other in [&b""[..], b"+PONG\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.0 OK\r\n\r\n", b"SSH-2.0 200 OK\r\n\r\n"]
        {
            assert_eq!(read(other).await, None, "{other:?}");
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
