//! Whether Redis and PostgreSQL are there: one place that knows, says so once per change, and wakes who waits.

use super::clock::Clock;
use crate::coupon::Tools;
use crate::error::{Error, Remedy, Side};
use crate::model::standing::Health;
use tokio::sync::{Notify, watch};

/// Why a side cannot do its part.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Away {
    why: String,
    /// It answers, and something has to be set right. Otherwise how exactly it fails changes from try to try.
    is_unfit: bool,
}

impl Away {
    fn because(error: &Error) -> Self {
        Self { why: error.cause(), is_unfit: matches!(error, Error::Held(_)) }
    }

    /// Whether a log line for the one serves for the other too.
    fn is_said_with(&self, other: &Self) -> bool {
        self == other || !(self.is_unfit || other.is_unfit)
    }
}

/// What is known of one side, or of what the work needs besides.
pub struct Presence {
    name: &'static str,
    /// None while it is there.
    away: watch::Sender<Option<Away>>,
    /// Wakes the keeper, who looks at once instead of at its next beat.
    doubt: Notify,
}

impl Presence {
    /// A side that nobody has looked at yet.
    fn unknown(name: &'static str) -> Self {
        let away = Away { why: "not looked at yet".to_owned(), is_unfit: true };
        Self { name, away: watch::Sender::new(Some(away)), doubt: Notify::new() }
    }

    /// Whether it is there.
    pub fn is_up(&self) -> bool {
        self.away.borrow().is_none()
    }

    /// What is said of it.
    pub fn health(&self) -> Health {
        let why = self.away.borrow().as_ref().map(|away| away.why.clone());
        Health { up: why.is_none(), why }
    }

    /// It answered, and can do its part. True if it was away before.
    pub fn came(&self) -> bool {
        let came = self.away.send_if_modified(|away| away.take().is_some());
        if came {
            tracing::info!("{} is there", self.name);
        }
        came
    }

    /// It did not answer, or an operator has to set it right. Said once, not with every try.
    pub fn left(&self, error: &Error) {
        let away = Away::because(error);
        let before = self.away.send_replace(Some(away.clone()));
        if !before.is_some_and(|before| before.is_said_with(&away)) {
            tracing::warn!("waiting for {}: {}", self.name, away.why);
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
    /// A share of the coupons.
    pub share: Presence,
    /// The time in Redis.
    pub clock: Clock,
}

impl Servers {
    /// Two servers that nobody has looked at yet.
    pub fn unknown(tools: Tools) -> Self {
        let [redis, postgresql, share] =
            [Side::Redis.name(), Side::PostgreSql.name(), "a share of the coupons"].map(Presence::unknown);
        Self { tools, redis, postgresql, share, clock: Clock::default() }
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
        self.tools.counters.retries.inc();
        let remedy = error.remedy();
        match remedy {
            Remedy::Reconnect(Side::Redis) => {
                self.tools.redis.disconnect().await;
                self.redis.left(error);
            }
            Remedy::Reconnect(Side::PostgreSql) => self.postgresql.left(error),
            Remedy::Compare | Remedy::Retry | Remedy::RaiseQuantity => {}
            _ => return Some(remedy.worded(error)),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(why: &str) -> Error {
        Error::Redis(std::io::Error::other(why).into())
    }

    #[test]
    fn a_side_away_is_said_once_unless_something_new_is_to_be_done() {
        let held = |advice: &str| Away::because(&Error::Held(advice.into()));
        let (refused, reset) = (Away::because(&refused("refused")), Away::because(&refused("reset")));
        let unloaded = held("load the module");
        assert!(refused.is_said_with(&reset));
        assert!(unloaded.is_said_with(&unloaded));
        assert!(!refused.is_said_with(&unloaded));
        assert!(!unloaded.is_said_with(&held("point at the primary")));
    }

    #[tokio::test]
    async fn who_comes_and_goes_is_known_and_waited_for() {
        let redis = Presence::unknown("Redis");
        assert!(!redis.is_up());
        tokio::join!(redis.present(), async { assert!(redis.came()) });
        assert!(!redis.came(), "it was there");
        redis.left(&refused("gone"));
        assert_eq!(redis.health().why.as_deref(), Some("gone"));
    }
}
