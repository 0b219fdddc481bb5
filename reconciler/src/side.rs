//! Whether Redis and PostgreSQL are there: one place that knows, says so once per change, and wakes who waits.

use crate::policy::Side;
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::sync::{Notify, watch};

/// What is known of one side.
pub struct Presence {
    side: Side,
    /// None while it is there; otherwise why not.
    away: watch::Sender<Option<String>>,
    /// Wakes the keeper, who looks at once instead of at its next beat.
    doubt: Notify,
    last_said: Mutex<Option<String>>,
}

impl Side {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::PostgreSql => "PostgreSQL",
        }
    }
}

impl Presence {
    /// A side that nobody has looked at yet.
    pub fn unknown(side: Side) -> Self {
        let away = watch::Sender::new(Some("not looked at yet".to_owned()));
        Self { side, away, doubt: Notify::new(), last_said: Mutex::new(None) }
    }

    /// Whether it is there.
    pub fn is_up(&self) -> bool {
        self.away.borrow().is_none()
    }

    /// Why it is not there.
    pub fn why(&self) -> Option<String> {
        self.away.borrow().clone()
    }

    /// It answered, and can do its part. True if it was away before.
    pub fn came(&self) -> bool {
        let came = self.away.send_if_modified(|away| away.take().is_some());
        if came {
            *self.last_said.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::info!("{} is there", self.side.name());
        }
        came
    }

    /// It did not answer, or cannot do its part. Said once per reason, not per try.
    pub fn left(&self, why: &str) {
        self.away.send_if_modified(|away| away.replace(why.to_owned()).is_none());
        let mut last = self.last_said.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != Some(why) {
            tracing::warn!("waiting for {}: {why}", self.side.name());
            *last = Some(why.to_owned());
        }
        self.doubt.notify_one();
    }

    /// Waits until it is there.
    pub async fn present(&self) {
        // The sender lives as long as this, so waiting cannot fail.
        let _ = self.away.subscribe().wait_for(Option::is_none).await;
    }

    /// Waits until it is away.
    pub async fn absent(&self) {
        let _ = self.away.subscribe().wait_for(Option::is_some).await;
    }

    /// Waits until somebody doubts that it is there.
    pub async fn doubted(&self) {
        self.doubt.notified().await;
    }
}

/// Both sides.
pub struct Sides {
    /// Where grants are made.
    pub redis: Presence,
    /// Where they are kept.
    pub postgresql: Presence,
}

impl Sides {
    /// Two sides that nobody has looked at yet.
    pub fn unknown() -> Self {
        Self { redis: Presence::unknown(Side::Redis), postgresql: Presence::unknown(Side::PostgreSql) }
    }

    /// One of them.
    pub const fn of(&self, side: Side) -> &Presence {
        match side {
            Side::Redis => &self.redis,
            Side::PostgreSql => &self.postgresql,
        }
    }

    /// Waits until both are there.
    pub async fn both(&self) {
        while !(self.redis.is_up() && self.postgresql.is_up()) {
            self.redis.present().await;
            self.postgresql.present().await;
        }
    }
}
