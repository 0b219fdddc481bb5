//! First-come-first-served coupons, decided inside Redis.
//!
//! Three files show the module: [`commands`] is the map, `coupon_core` decides, [`sale`] writes. [`redis`] is the
//! only one that calls Redis.

mod ack;
mod close;
mod commands;
mod counters;
mod fault;
mod info;
mod issue;
mod known;
mod members;
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

use redis::Level;
use redis_module::{Context, RedisString, Status, redis_module};

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

/// Registers everything, or says in the log why not.
fn load(context: &Context, arguments: &[RedisString]) -> Status {
    let arguments: Vec<&[u8]> = arguments.iter().map(RedisString::as_slice).collect();
    let loaded = settings::from_arguments(&arguments).and_then(|configs| redis::load(context, &configs));
    let server = redis::at_load(context);
    if let Err(reason) = loaded {
        server.log(Level::Warning, &format!("not loaded: {reason}"));
        return Status::Err;
    }
    if open::may_evict_coupons(&server.eviction_policy()) {
        server.log(Level::Warning, "maxmemory-policy may evict coupons; COUPON.OPEN is refused until it is noeviction");
    }
    if cfg!(feature = "faults") {
        server.log(Level::Warning, "built with deliberate faults, for tests only");
    }
    server.log(Level::Notice, concat!("version ", env!("CARGO_PKG_VERSION"), " loaded"));
    Status::Ok
}

/// The library's entry points; a module of their own, as the crate's macro writes them without documentation.
mod entry {
    use super::{VERSION, load, redis_module};

    redis_module! {
        name: "coupon",
        version: VERSION,
        allocator: (redis_module::alloc::RedisAlloc, redis_module::alloc::RedisAlloc),
        data_types: [],
        init: load,
    }
}
