//! The coupon in Redis, read as any client would: COUPON.INFO and the sorted set.

use anyhow::{Context, Result};
use coupon_core::key::ISSUED;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use std::collections::HashMap;
use std::time::Duration;

/// A large page behind a busy server takes longer than the client's own limit of half a second.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to Redis, for one coupon.
pub struct Coupon {
    connection: MultiplexedConnection,
    /// Its key.
    pub key: String,
}

/// COUPON.INFO.
#[derive(Debug, Default)]
pub struct Info(HashMap<String, String>);

impl Info {
    /// A field of the reply; empty if there is none.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.0.get(field).map_or("", String::as_str)
    }

    /// A number of the reply; 0 if there is none.
    #[must_use]
    pub fn count(&self, field: &str) -> u64 {
        self.text(field).parse().unwrap_or_default()
    }

    /// Whether requests are taken.
    #[must_use]
    pub fn is_on_offer(&self) -> bool {
        self.text("status") == coupon_core::words::Status::Available.word() && self.text("fenced") == "0"
    }
}

impl Coupon {
    /// Connects.
    pub async fn connect(url: &str, key: String) -> Result<Self> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
        let client = redis::Client::open(url).context("the Redis URL cannot be read")?;
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        Ok(Self { connection: connection.context("no connection to Redis; is REDIS_URL right?")?, key })
    }

    /// Asks COUPON.INFO.
    pub async fn info(&mut self) -> redis::RedisResult<Info> {
        redis::cmd("COUPON.INFO").arg(&self.key).query_async(&mut self.connection).await.map(Info)
    }

    /// How many users are in the line.
    pub async fn requested(&mut self) -> Result<u64> {
        Ok(redis::cmd("ZCARD").arg(self.line()).query_async(&mut self.connection).await?)
    }

    /// Users and scores from one place in the line (counted from 0), at most so many.
    pub async fn line_from(&mut self, place: u64, limit: u64) -> Result<Vec<(String, f64)>> {
        let mut call = redis::cmd("ZRANGE");
        call.arg(self.line()).arg(place).arg(place + limit - 1).arg("WITHSCORES");
        Ok(call.query_async(&mut self.connection).await?)
    }

    fn line(&self) -> String {
        format!("{}{ISSUED}", self.key)
    }
}
