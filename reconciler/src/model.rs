//! What the rooms share: coupons as both sides see them, grants on their way, where the ledger stands, and what the daemon says of
//! itself. Plain data, which imports nothing else of the program.

pub mod counters;
pub mod coupon;
pub mod grant;
pub mod pause;
pub mod standing;
