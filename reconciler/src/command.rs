//! What operators type.

pub mod health;
pub mod status;
pub mod supervisor;
