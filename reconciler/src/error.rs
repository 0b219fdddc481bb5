//! What can go wrong in the daemon's work on a coupon.

use coupon_core::number::Seq;

/// An error of one pass over a coupon. What is done about it stands in [`crate::policy`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL, or the way to it. Whether a statement took effect is unknown unless the server answered.
    #[error("PostgreSQL: {}", crate::ledger::wording(.0))]
    Ledger(#[from] sqlx::Error),
    /// Redis, or the way to it.
    #[error("Redis: {}", crate::redis::wording(.0))]
    Redis(#[from] redis::RedisError),
    /// PostgreSQL did not answer in time.
    #[error("a statement was not answered in time")]
    Unanswered,
    /// The stream does not continue the ledger.
    #[error("the stream does not continue the ledger at seq {expected}: {found}")]
    Broken {
        /// The grant that should follow.
        expected: Seq,
        /// What stands there.
        found: String,
    },
    /// The coupon has to wait for an operator; the sentence says why and what to do.
    #[error("{0}")]
    Held(String),
    /// The daemon is about to end; what is left to do is found again by the next one.
    #[error("the reconciler is stopping")]
    Stopping,
    /// Somebody else moved the coupon meanwhile: compare again.
    #[error("the coupon moved meanwhile")]
    Moved,
}

impl Error {
    /// Its text, where the server that it comes from is named already.
    pub fn cause(&self) -> String {
        match self {
            Self::Ledger(error) => crate::ledger::wording(error),
            Self::Redis(error) => crate::redis::wording(error),
            error => error.to_string(),
        }
    }
}
