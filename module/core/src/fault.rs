//! Deliberate faults: each breaks one promise, so that the tests can show that they would notice.
//!
//! They exist only in a build with the feature `faults` of the crate that declares them, which is never shipped;
//! elsewhere `Fault::is_on` is the constant `false` and leaves no trace. Such a build takes the name of one fault from the
//! environment variable `COUPON_FAULT`.

/// Declares a crate's faults with their names.
#[macro_export]
macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident = $name:literal,)+) => {
        /// What to do wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault { $($(#[$doc])* $fault,)+ }

        impl Fault {
            #[cfg(feature = "faults")]
            const ALL: &'static [(&'static str, Self)] = &[$(($name, Self::$fault),)+];

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
    };
}
