//! What operators type.

pub mod audit;
