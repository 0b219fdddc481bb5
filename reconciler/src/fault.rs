//! Deliberate faults: each breaks one promise, so that the tests can be seen to notice. Compiled to nothing without the
//! feature `faults`; with it, one of them is chosen by the environment variable `COUPON_FAULT`.

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
