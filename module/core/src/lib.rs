//! The rules of first-come-first-served coupons, and the words that the module and the reconciler share.
//!
//! Nothing here knows Redis, a clock or an allocator failure: facts come in as arguments, decisions go
//! out as values, and the module's adapters carry them out. That keeps every rule testable by calling
//! a function, and makes a panic inside somebody's Redis a matter of lints and not of care.
//!
//! The path of a request: [`coupon::Coupon::decode`] reads the status hash, [`request::decide`] says
//! what happens, and the names in [`key`], [`coupon::Field`] and [`grant`] say how it is stored.

pub mod chain;
pub mod close;
pub mod cluster;
pub mod coupon;
pub mod filter;
pub mod grant;
pub mod issue;
pub mod key;
pub mod leave;
pub mod ledger;
pub mod limit;
pub mod message;
pub mod number;
pub mod open;
pub mod options;
pub mod position;
pub mod refusal;
pub mod request;
pub mod restore;
pub mod standing;
pub mod user;
pub mod window;
pub mod words;
