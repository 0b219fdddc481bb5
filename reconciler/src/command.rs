//! What operators type.

pub mod restore;
