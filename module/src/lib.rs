//! First-come-first-served coupons, decided inside Redis.
//!
//! Three files show the module: [`commands`] is the map, `coupon_core` decides, [`sale`] writes. [`redis`] is the server as
//! a typed API; [`entry`] is where the server comes in; [`cache`] is what is kept between commands.

mod ack;
mod cache;
mod close;
mod commands;
mod counters;
mod entry;
mod event;
mod fence;
mod info;
mod issue;
mod leave;
mod open;
mod redis;
mod request;
mod restore;
mod resume;
mod sale;
mod settings;
mod status;
mod wait;
mod waiters;

/// The library's entry points; a module of their own, as the crate's macro writes them without documentation.
mod library {
    use crate::entry::{load, unload};
    use redis_module::redis_module;

    /// The version as MODULE LIST shows it: 1.2.3 is 10203.
    const VERSION: i32 = {
        const fn part(text: &str) -> i32 {
            match i32::from_str_radix(text, 10) {
                Ok(number) => number,
                Err(_) => 0,
            }
        }
        part(env!("CARGO_PKG_VERSION_MAJOR")) * 10_000
            + part(env!("CARGO_PKG_VERSION_MINOR")) * 100
            + part(env!("CARGO_PKG_VERSION_PATCH"))
    };

    redis_module! {
        name: "coupon",
        version: VERSION,
        allocator: (redis_module::alloc::RedisAlloc, redis_module::alloc::RedisAlloc),
        data_types: [],
        init: load,
        deinit: unload,
    }
}
