//! Hearing of changes at once: messages of the module, and notifications of PostgreSQL.
//!
//! Both can be lost, so whenever a subscription begins anew a full pass is asked for.

use super::catalog::{Catalog, Reason};
use super::presence::{Presence, Servers};
use super::scan::id_of;
use crate::error::{Error, Remedy};
use crate::ledger::Ledger;
use coupon_core::message;
use futures_util::StreamExt;
use redis::RedisError;
use std::io;
use std::time::Duration;
use tokio::time::timeout;

/// How long a subscription may be silent before it is asked whether it is there, and have for an answer.
const BEAT: Duration = Duration::from_secs(3);

/// Before the next try.
const PAUSE: Duration = Duration::from_millis(250);

/// Hears the module's messages.
pub async fn redis(servers: &Servers, catalog: &Catalog) {
    again(&servers.redis, || async {
        let (mut subscription, mut messages) = servers.tools.redis.subscribe().await?.split();
        catalog.ask_for_scan();
        loop {
            let Ok(message) = timeout(BEAT, messages.next()).await else {
                // Nothing is said; or packets are lost, without a word too.
                let answer = timeout(BEAT, subscription.ping::<()>()).await;
                answer.map_err(|late| RedisError::from(io::Error::from(late)))??;
                continue;
            };
            let Some(message) = message else { break };
            let Some(id) = id_of(&servers.tools.keys, message.get_payload_bytes()) else { continue };
            match message.get_channel_name() {
                message::GRANTED => catalog.mark(id, Reason::Grants),
                message::WAITING => catalog.expect_waiting(id),
                message::OPENED => catalog.mark(id, Reason::News),
                _ => {}
            }
        }
        Err(Error::Redis(io::Error::other("the connection for messages ended").into()))
    })
    .await;
}

/// Hears which rows were changed.
pub async fn postgresql(servers: &Servers, catalog: &Catalog) {
    again(&servers.postgresql, || async {
        let mut listener = servers.tools.ledger.listen().await?;
        catalog.ask_for_scan();
        loop {
            catalog.mark(Ledger::hear(&mut listener).await?.payload(), Reason::News);
        }
    })
    .await;
}

/// Subscribes, and again whenever that ends, while the side is there.
async fn again<Ended: Future<Output = Result<(), Error>>>(side: &Presence, subscription: impl Fn() -> Ended) {
    loop {
        side.present().await;
        tokio::select! {
            // Full passes do where there is no room for a connection that listens.
            Err(error) = subscription() => if error.remedy() != Remedy::Retry { side.left(&error) },
            () = side.absent() => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}
