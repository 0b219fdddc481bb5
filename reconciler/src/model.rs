//! What the rooms share: coupons as both sides see them, grants on their way, and where the ledger stands. Values, without any
//! effect.

pub mod coupon;
pub mod grant;
