//! Hearing of changes at once: messages of the module, and notifications of PostgreSQL.
//!
//! Both can be lost, so whenever a subscription begins anew a full pass is asked for.

use super::catalog::{Catalog, Reason};
use super::presence::{Presence, Servers};
use super::scan::id_of;
use crate::error::Error;
use coupon_core::message;
use futures_util::StreamExt;
use std::io;
use std::time::Duration;

/// Before the next try.
const PAUSE: Duration = Duration::from_millis(250);

/// Hears the module's messages.
pub async fn redis(servers: &Servers, catalog: &Catalog) {
    again(&servers.redis, || async {
        let mut messages = servers.tools.redis.subscribe().await?.into_on_message();
        catalog.ask_for_scan();
        while let Some(message) = messages.next().await {
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
        // Notifications may be lost until it listens anew.
        while let Some(notification) = listener.try_recv().await? {
            catalog.mark(notification.payload(), Reason::News);
        }
        Err(Error::Ledger(io::Error::other("the connection for notifications ended").into()))
    })
    .await;
}

/// Subscribes, and again whenever that ends, while the side is there.
async fn again<Ended: Future<Output = Result<(), Error>>>(side: &Presence, subscription: impl Fn() -> Ended) {
    loop {
        side.present().await;
        tokio::select! {
            Err(error) = subscription() => side.left(&error),
            () = side.absent() => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}
