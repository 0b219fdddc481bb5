//! What the rooms share: plain data, which imports nothing else of the program.

pub mod counters;
pub mod standing;
