//! The reconciler's deliberate faults ([`coupon_core::fault`]).

coupon_core::faults! {
    /// A batch is written wherever the ledger stands.
    NoCompareAndSet = "no-compare-and-set",
    /// Entries are taken as they come, whatever came before.
    ChainNotFollowed = "chain-not-followed",
    /// Redis is told of rows before they are committed.
    AckBeforeCommit = "ack-before-commit",
    /// The rows and the position are two transactions.
    PositionApart = "position-apart",
    /// A Redis that is behind or diverged is opened where it stands.
    ResumeUnlevel = "resume-unlevel",
    /// What is dropped in a restore is not named before.
    OrphansUnnamed = "orphans-unnamed",
}
