//! The module's deliberate faults ([`coupon_core::fault`]).

coupon_core::faults! {
    /// The gate is open whatever the fence says.
    FenceSkipped = "fence-skipped",
    /// A promoted replica and a reloaded server keep their token.
    TokenKept = "token-kept",
    /// Stream entries get their ID from the clock.
    StarIds = "star-ids",
    /// ZADD reaches neither replica nor AOF.
    ZaddNotReplicated = "zadd-not-replicated",
    /// HSET reaches neither replica nor AOF.
    HsetNotReplicated = "hset-not-replicated",
    /// XADD reaches neither replica nor AOF.
    XaddNotReplicated = "xadd-not-replicated",
    /// One unit more than there is.
    StockIgnored = "stock-ignored",
    /// A user who is in is let in again.
    DuplicateLetIn = "duplicate-let-in",
    /// Scores are the clock's, whatever came before.
    ArrivalByClockAlone = "arrival-by-clock-alone",
    /// ACK trims entries that are no rows yet.
    TrimUnpersisted = "trim-unpersisted",
    /// ACK is taken whatever the fence, the epoch and the position.
    AckBlind = "ack-blind",
    /// RESTORE brings users and entries back, but not how many units are left.
    RemainingNotRestored = "remaining-not-restored",
    /// RESTORE takes a history also where the gate was not shut before.
    RestoreUnshut = "restore-unshut",
    /// STATUS calls a grant persisted before it is.
    PersistedEarly = "persisted-early",
    /// The hash does not say that the sorted set must be there.
    TripwireCut = "tripwire-cut",
    /// A status hash changed by somebody else is taken as it was last read.
    ChangeUnnoticed = "change-unnoticed",
    /// Who is in is taken as it was learned, although others have come in since.
    JoinUnnoticed = "join-unnoticed",
}
