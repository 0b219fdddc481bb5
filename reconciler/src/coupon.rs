//! What happens to one coupon between Redis and the ledger.
//!
//! - `proof`: what Redis proves of grants that the ledger lacks

pub mod proof;
