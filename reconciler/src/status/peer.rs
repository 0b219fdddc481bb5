//! What a running daemon alone knows, asked of its `/status`. Nobody has to be there: then it is unknown.

use crate::fetch;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::SocketAddr;

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
    let Ok(answer) = fetch::get(at, "/status").await else { return HashMap::new() };
    read(&answer.body).unwrap_or_default()
}

fn read(body: &[u8]) -> Option<HashMap<String, Peer>> {
    let overview: Overview = serde_json::from_slice(body).ok()?;
    let here = overview.coupons.into_iter().filter(|coupon| coupon.here);
    Some(here.map(|coupon| (coupon.id, coupon.known)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_daemon_works_on_is_known() {
        let answer = b"{\"more\":1,\"coupons\":[
            {\"id\":\"a\",\"here\":true,\"drift\":2,\"stopped\":true,\"problem\":\"why\",\"epoch\":1},
            {\"id\":\"b\",\"here\":false,\"drift\":0,\"stopped\":false,\"problem\":null}]}";
        let known = Peer { drift: 2, stopped: true, problem: Some("why".into()) };
        assert_eq!(read(answer), Some(HashMap::from([("a".to_owned(), known)])));
        for other in [&b"404"[..], b"", b"+PONG\r\n"] {
            assert_eq!(read(other), None);
        }
    }
}
