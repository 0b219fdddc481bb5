//! Whether Redis and PostgreSQL are there: one place that knows, says so once per change, and wakes who waits.

use crate::coupon::Tools;
use crate::error::{Error, Remedy, Side};
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::sync::{Notify, watch};

/// Why a side cannot do its part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Away {
    /// It does not answer, or only to say that it is starting or ending. How exactly changes from try to try.
    Unreachable(String),
    /// It answers, and something has to be set right; the sentence says what.
    Unfit(String),
}

impl Away {
    /// It does not answer, because of this.
    pub fn because(error: impl ToString) -> Self {
        Self::Unreachable(error.to_string())
    }

    /// What is said to people.
    pub fn text(&self) -> &str {
        match self {
            Self::Unreachable(text) | Self::Unfit(text) => text,
        }
    }

    /// Whether a log line for the one serves for the other too.
    fn is_said_with(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Unreachable(_), Self::Unreachable(_))) || self == other
    }
}

/// What is known of one side.
pub struct Presence {
    side: Side,
    /// None while it is there; otherwise why not.
    away: watch::Sender<Option<Away>>,
    /// Wakes the keeper, who looks at once instead of at its next beat.
    doubt: Notify,
    /// Why it is away, as it was said last.
    said: Mutex<Option<Away>>,
}

impl Presence {
    /// A side that nobody has looked at yet.
    pub fn unknown(side: Side) -> Self {
        let away = watch::Sender::new(Some(Away::because("not looked at yet")));
        Self { side, away, doubt: Notify::new(), said: Mutex::new(None) }
    }

    /// Whether it is there.
    pub fn is_up(&self) -> bool {
        self.away.borrow().is_none()
    }

    /// Why it is not there.
    pub fn why(&self) -> Option<String> {
        self.away.borrow().as_ref().map(|away| away.text().to_owned())
    }

    /// It answered, and can do its part. True if it was away before.
    pub fn came(&self) -> bool {
        let came = self.away.send_if_modified(|away| away.take().is_some());
        if came {
            *self.said.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::info!("{} is there", self.side.name());
        }
        came
    }

    /// It did not answer, or cannot do its part. Said once, not with every try.
    pub fn left(&self, away: Away) {
        self.away.send_if_modified(|known| known.replace(away.clone()).is_none());
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.as_ref().is_some_and(|said| said.is_said_with(&away)) {
            tracing::warn!("waiting for {}: {}", self.side.name(), away.text());
            *said = Some(away);
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

/// Both servers, what is done there, and whether they are there.
pub struct Servers {
    /// What coupons are worked on with.
    pub tools: Tools,
    /// Where grants are made.
    pub redis: Presence,
    /// Where they are kept.
    pub postgresql: Presence,
}

impl Servers {
    /// Two servers that nobody has looked at yet.
    pub fn unknown(tools: Tools) -> Self {
        Self { tools, redis: Presence::unknown(Side::Redis), postgresql: Presence::unknown(Side::PostgreSql) }
    }

    /// Waits until both are there.
    pub async fn both(&self) {
        while !(self.redis.is_up() && self.postgresql.is_up()) {
            self.redis.present().await;
            self.postgresql.present().await;
        }
    }

    /// As [`Servers::react`], and tells of what a person has to mend.
    pub async fn doubt(&self, error: &Error) {
        if let Some(problem) = self.react(error).await {
            tracing::error!("{problem}");
        }
    }

    /// Notes it where an error says that a side is away. Returns what a person has to mend, with advice.
    pub async fn react(&self, error: &Error) -> Option<String> {
        let remedy = error.remedy();
        match remedy {
            Remedy::Stop(_) | Remedy::Isolate | Remedy::RaiseQuantity => return Some(remedy.worded(error)),
            Remedy::Reconnect(side) => self.lost(side, error).await,
            Remedy::Compare | Remedy::Retry => {}
        }
        self.tools.counters.retries.inc();
        None
    }

    /// A side did not answer, or not well.
    pub async fn lost(&self, side: Side, error: &Error) {
        let presence = match side {
            Side::Redis => {
                self.tools.redis.disconnect().await;
                &self.redis
            }
            Side::PostgreSql => &self.postgresql,
        };
        presence.left(Away::because(error.cause()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_away_is_said_once_unless_something_new_is_to_be_done() {
        let refused = Away::because("refused");
        let reset = Away::because("reset");
        let unloaded = Away::Unfit("load the module".into());
        assert!(refused.is_said_with(&reset));
        assert!(unloaded.is_said_with(&unloaded));
        assert!(!refused.is_said_with(&unloaded));
        assert!(!unloaded.is_said_with(&Away::Unfit("point at the primary".into())));
    }

    #[tokio::test]
    async fn who_comes_and_goes_is_known_and_waited_for() {
        let redis = Presence::unknown(Side::Redis);
        assert!(!redis.is_up());
        tokio::join!(redis.present(), async { assert!(redis.came()) });
        assert!(!redis.came(), "it was there");
        redis.left(Away::because("gone"));
        assert_eq!(redis.why().as_deref(), Some("gone"));
    }
}
