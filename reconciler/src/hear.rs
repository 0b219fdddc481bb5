//! Hearing of changes at once: messages of the module, and notifications of PostgreSQL.
//!
//! Both can be lost, so whenever a subscription begins anew a full pass is asked for.

use crate::catalog::Reason;
use crate::daemon::Daemon;
use crate::daemon::backoff::SIDE;
use crate::error::Error;
use crate::side::Away;
use coupon_core::message;
use futures_util::StreamExt;

impl Daemon {
    /// Hears the module's messages.
    pub async fn hear_redis(&self) {
        let mut failures = 0;
        loop {
            self.sides.redis.present().await;
            match self.redis.subscribe().await {
                Ok(subscription) => {
                    failures = 0;
                    self.pass.make();
                    let mut messages = subscription.into_on_message();
                    loop {
                        tokio::select! {
                            message = messages.next() => match message {
                                Some(message) => self.heed(message.get_channel_name(), message.get_payload_bytes()),
                                None => {
                                    self.sides.redis.left(Away::because("the connection for messages ended"));
                                    break;
                                }
                            },
                            () = self.sides.redis.absent() => break,
                        }
                    }
                }
                Err(error) => {
                    failures += 1;
                    self.sides.redis.left(Away::because(Error::Redis(error).cause()));
                    tokio::time::sleep(SIDE.delay(failures)).await;
                }
            }
        }
    }

    fn heed(&self, channel: &str, key: &[u8]) {
        let Some(id) = self.id_of(key) else { return };
        match channel {
            message::GRANTED => self.mark(id, Reason::Grants),
            message::WAITING if self.shards.hold(id) => self.catalog.expect_waiting(id),
            message::OPENED => self.mark(id, Reason::News),
            _ => {}
        }
    }

    /// Hears which rows were changed.
    pub async fn hear_postgresql(&self) {
        let mut failures = 0;
        loop {
            self.sides.postgresql.present().await;
            match self.ledger.listen().await {
                Ok(mut listener) => {
                    failures = 0;
                    self.pass.make();
                    loop {
                        tokio::select! {
                            notification = listener.try_recv() => match notification {
                                Ok(Some(notification)) => self.mark(notification.payload(), Reason::News),
                                // Notifications may be lost until it listens anew.
                                Ok(None) | Err(_) => {
                                    self.sides.postgresql.left(Away::because("the connection for notifications ended"));
                                    break;
                                }
                            },
                            () = self.sides.postgresql.absent() => break,
                        }
                    }
                }
                Err(error) => {
                    failures += 1;
                    self.sides.postgresql.left(Away::because(Error::Ledger(error).cause()));
                    tokio::time::sleep(SIDE.delay(failures)).await;
                }
            }
        }
    }
}
