//! Functions of the module API, as this server has them.

/// A function of the API that every supported server has (Redis 7.0 and later); [`super::Server::is_supported`] refuses
/// others before any but the oldest is called.
macro_rules! api {
    ($name:ident) => {
        match redis_module::raw::$name {
            Some(function) => function,
            None => $crate::redis::api::lacks(stringify!($name)),
        }
    };
}

#[cold]
#[expect(clippy::panic, reason = "caught where the server called us, and unreachable on a supported server")]
pub(super) fn lacks(name: &str) -> ! {
    panic!("server lacks {name}")
}

pub(super) use api;
