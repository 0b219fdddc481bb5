//! All that happens to one coupon.
//!
//! ```text
//! compare: row <-> Redis --plan--> publish, adopt, mirror
//!                              \-> open: epoch -> definition -> RESUME
//!                                    \-> behind or diverged: restore (fork, then the ledger's grants)
//!                                    \-> the ledger is the older one: rebuild
//! relay: stream -> rows -> ACK
//! ```

mod compare;
mod fork;
mod letters;
mod plan;
pub mod proof;
mod rebuild;
mod relay;
mod restore;

pub use plan::{Plan, Publication, plan};
pub use relay::{Pass, follow};

use crate::ledger::Ledger;
use crate::model::counters::Counters;
use crate::redis::Redis;
use coupon_core::key::KeyPattern;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What coupons are worked on with.
#[derive(Clone)]
pub struct Tools {
    /// Where grants are made.
    pub redis: Arc<Redis>,
    /// Where they are kept.
    pub ledger: Arc<Ledger>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// How a coupon's key is made of its id.
    pub keys: KeyPattern,
    /// Rows in one batch.
    pub batch_max: u32,
    /// Cancelled when the work has to end.
    pub stop: CancellationToken,
}

impl Tools {
    /// One coupon, to be worked on.
    pub fn coupon<'a>(&'a self, id: &'a str) -> Coupon<'a> {
        Coupon { tools: self, id, key: self.keys.key(id) }
    }
}

/// A coupon that is worked on.
pub struct Coupon<'a> {
    tools: &'a Tools,
    id: &'a str,
    key: String,
}

impl Coupon<'_> {
    fn redis(&self) -> &Redis {
        &self.tools.redis
    }

    fn ledger(&self) -> &Ledger {
        &self.tools.ledger
    }
}
