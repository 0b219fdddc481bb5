//! What a running daemon alone knows, asked of its `/status`. Nobody has to be there: then it is unknown.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A daemon that takes longer is not asked in this look.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// What a daemon says of a coupon that it works on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Findings of the audit that are left.
    pub drift: u64,
    /// Whether the coupon waits for an operator.
    pub stopped: bool,
    /// What went wrong last.
    pub problem: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Overview {
    coupons: Vec<Coupon>,
}

#[derive(Debug, Deserialize)]
struct Coupon {
    id: String,
    here: bool,
    #[serde(flatten)]
    known: Peer,
}

/// Asks for all its coupons; none where nobody answers.
pub async fn ask(at: SocketAddr) -> HashMap<String, Peer> {
    let answer = timeout(ANSWER_TIMEOUT, get(at)).await;
    let Ok(Ok(answer)) = answer else { return HashMap::new() };
    read(&answer).unwrap_or_default()
}

async fn get(at: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(at).await?;
    // In HTTP/1.0 the answer ends with the connection: there is nothing to unwrap.
    stream.write_all(format!("GET /status HTTP/1.0\r\nHost: {at}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn read(answer: &[u8]) -> Option<HashMap<String, Peer>> {
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").and_then(|end| answer.get(end + 4..))?;
    let overview: Overview = serde_json::from_slice(body).ok()?;
    let here = overview.coupons.into_iter().filter(|coupon| coupon.here);
    Some(here.map(|coupon| (coupon.id, coupon.known)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_daemon_works_on_is_known() {
        let answer = b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"more\":1,\"coupons\":[
            {\"id\":\"a\",\"here\":true,\"drift\":2,\"stopped\":true,\"problem\":\"why\",\"epoch\":1},
            {\"id\":\"b\",\"here\":false,\"drift\":0,\"stopped\":false,\"problem\":null}]}";
        let known = Peer { drift: 2, stopped: true, problem: Some("why".into()) };
        assert_eq!(read(answer), Some(HashMap::from([("a".to_owned(), known)])));
        for other in [&b"HTTP/1.0 404 Not Found\r\n\r\n"[..], b"", b"+PONG\r\n"] {
            assert_eq!(read(other), None);
        }
    }
}
