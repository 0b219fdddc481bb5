//! Hearing of changes at once: messages of the module, and notifications of PostgreSQL.
//!
//! Both can be lost, so whenever a subscription begins anew a full pass is asked for.

use super::backoff::SIDE;
use super::catalog::{Catalog, Reason};
use super::presence::{Away, Presence, Servers};
use super::scan::{ScanRequest, id_of};
use crate::error::Error;
use coupon_core::message;
use futures_util::StreamExt;

/// Hears the module's messages.
pub async fn redis(servers: &Servers, catalog: &Catalog, scans: &ScanRequest) {
    again(&servers.redis, || async {
        let mut messages = servers.tools.redis.subscribe().await?.into_on_message();
        scans.make();
        while let Some(message) = messages.next().await {
            let Some(id) = id_of(&servers.tools.keys, message.get_payload_bytes()) else { continue };
            match message.get_channel_name() {
                message::GRANTED => catalog.mark(id, Reason::Grants),
                message::WAITING => catalog.expect_waiting(id),
                message::OPENED => catalog.mark(id, Reason::News),
                _ => {}
            }
        }
        Ok(Away::because("the connection for messages ended"))
    })
    .await;
}

/// Hears which rows were changed.
pub async fn postgresql(servers: &Servers, catalog: &Catalog, scans: &ScanRequest) {
    again(&servers.postgresql, || async {
        let mut listener = servers.tools.ledger.listen().await?;
        scans.make();
        // Notifications may be lost until it listens anew.
        while let Ok(Some(notification)) = listener.try_recv().await {
            catalog.mark(notification.payload(), Reason::News);
        }
        Ok(Away::because("the connection for notifications ended"))
    })
    .await;
}

/// Subscribes, and again whenever that ends, while the side is there.
async fn again<Ended: Future<Output = Result<Away, Error>>>(side: &Presence, subscription: impl Fn() -> Ended) {
    let mut failures = 0;
    loop {
        side.present().await;
        let ended = tokio::select! {
            ended = subscription() => ended,
            () = side.absent() => continue,
        };
        match ended {
            Ok(why) => {
                failures = 0;
                side.left(why);
            }
            Err(error) => {
                failures += 1;
                side.left(Away::because(error.cause()));
                tokio::time::sleep(SIDE.delay(failures)).await;
            }
        }
    }
}
