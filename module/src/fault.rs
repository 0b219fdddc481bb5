//! Deliberate faults: each breaks one promise, so that the tests can show that they would notice.
//!
//! They exist only in a build with the feature `faults`, which is never shipped; elsewhere [`Fault::is_on`] is the
//! constant `false` and leaves no trace. Such a build takes the fault's name from the environment variable
//! `COUPON_FAULT` when it is loaded.

/// Declares the faults with their names.
macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident = $name:literal,)+) => {
        /// What to do wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault { $($(#[$doc])* $fault,)+ }

        #[cfg(feature = "faults")]
        impl Fault {
            const ALL: &'static [(&'static str, Self)] = &[$(($name, Self::$fault),)+];
        }
    };
}

faults! {
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
    /// STATUS calls a grant persisted before it is.
    PersistedEarly = "persisted-early",
    /// The hash does not say that the sorted set must be there.
    TripwireCut = "tripwire-cut",
    /// A status hash changed by somebody else is taken as it was last read.
    ChangeUnnoticed = "change-unnoticed",
}

impl Fault {
    /// Whether this fault is to be made.
    #[cfg(feature = "faults")]
    pub fn is_on(self) -> bool {
        static ON: std::sync::LazyLock<Option<Fault>> = std::sync::LazyLock::new(|| {
            let name = std::env::var("COUPON_FAULT").ok()?;
            Fault::ALL.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault)
        });
        *ON == Some(self)
    }

    /// Whether this fault is to be made: never.
    #[cfg(not(feature = "faults"))]
    pub const fn is_on(self) -> bool {
        false
    }
}
