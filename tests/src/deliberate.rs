//! Deliberate faults: each is a patch in `tests/faults` that breaks one promise, beside the name of the test that has to notice.
//!
//! A patch is applied to a [`copy`](copy::Copy) of the tree and built there, so that no line of the product knows of it. The
//! test is [played](play) on a healthy build first, then on the faulty one: it has to pass, then to fail, and to say why.

pub mod copy;
pub mod patch;
pub mod play;
