//! Loading and unloading, and what the server is asked to tell.

use super::Coupons;
use crate::redis::{KeyEvent, Level, Server, ServerEvent};
use crate::{cache, fence, open, sale, settings};
use coupon_core::number::number;
use redis_module::{Context, RedisString, Status};
use std::ffi::CStr;

pub(super) const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

/// Registers everything, or says in the log why not.
pub fn load(context: &Context, arguments: &[RedisString]) -> Status {
    let arguments: Vec<&[u8]> = arguments.iter().map(RedisString::as_slice).collect();
    let server = Server::at(context);
    if let Err(reason) = register(&server, &arguments) {
        server.log(Level::Warning, &format!("not loaded: {reason}"));
        return Status::Err;
    }
    if open::may_evict_coupons(&server.eviction_policy()) {
        server.log(Level::Warning, "maxmemory-policy may evict coupons; COUPON.OPEN is refused until it is noeviction");
    }
    server.log(Level::Notice, concat!("version ", env!("CARGO_PKG_VERSION"), " loaded"));
    Status::Ok
}

/// Gives back all that was kept; the library may stay where it is, and be loaded again. The server has made sure that
/// nobody is blocked.
pub fn unload(context: &Context) -> Status {
    cache::forget_all();
    sale::end();
    Server::at(context).free_library_context();
    Status::Ok
}

fn register(server: &Server, arguments: &[&[u8]]) -> Result<(), String> {
    let configs = settings::from_arguments(arguments)?;
    if !server.is_supported() {
        return Err("Redis 7.0 or later, or Valkey, is needed".into());
    }
    let valkey = server.valkey_version();
    server.declare(!valkey.is_empty());
    fence::draw(server);
    listen(server, &valkey)?;
    if !server.register_info::<Coupons>() {
        return Err("cannot register the section of INFO".into());
    }
    server.register_configs(&configs)?;
    server.register_commands::<Coupons>(c"coupon", VERSION)
}

/// Asks to be told of all that can change a coupon behind the module's back.
fn listen(server: &Server, valkey: &[u8]) -> Result<(), String> {
    for event in [
        ServerEvent::Role,
        ServerEvent::Loading,
        ServerEvent::AsyncLoading,
        ServerEvent::Flush,
        ServerEvent::SwapDb,
        ServerEvent::Beat,
    ] {
        if !server.listen::<Coupons>(event) {
            return Err(format!("cannot subscribe to the server's event {event:?}"));
        }
    }
    if !valkey.is_empty() {
        // Before 9.0 there is none.
        let _ = server.listen::<Coupons>(ServerEvent::Slots);
    }
    let tells_of_gone_keys = server.listen::<Coupons>(ServerEvent::KeyGone);
    let moves_clients = moves_clients(valkey);
    let mut kinds = vec![KeyEvent::Hash, KeyEvent::SortedSet, KeyEvent::Stream];
    if !moves_clients {
        // Of a TTL that is set, for one.
        kinds.extend([KeyEvent::Generic, KeyEvent::Expired]);
    }
    match (tells_of_gone_keys, moves_clients) {
        // A coupon's key that is overwritten makes an event of its new type alone.
        (false, _) => kinds.extend([KeyEvent::Evicted, KeyEvent::String, KeyEvent::List, KeyEvent::Set]),
        // Whatever takes the place of a key follows on one that is gone, or on none: strings, lists and sets of other
        // applications are left alone.
        (true, false) => kinds.push(KeyEvent::New),
        (true, true) => {}
    }
    if !server.listen_to_keys::<Coupons>(&kinds) {
        return Err("cannot subscribe to the events of keys".into());
    }
    if moves_clients {
        server.log(Level::Notice, "status hashes are read in every call: on this Valkey, to be told of all changes would leave clients of MOVE and COPY in another database");
    }
    cache::begin(cache::Told {
        changes: !moves_clients,
        lost_slots: tells_of_gone_keys || !server.is_cluster(),
        field_ttl: server.knows_field_ttl(),
    });
    Ok(())
}

/// Whether a module that listens to the events of MOVE and COPY makes this server leave their client in the database it has
/// written to: from Valkey 8.1 on, until <https://github.com/valkey-io/valkey/pull/4024>, which 8.1.8 lacks and 9.1.2 has.
/// Without an answer to which release was the first, all before 9.1 count as affected.
fn moves_clients(valkey_version: &[u8]) -> bool {
    let mut parts = valkey_version.split(|byte| *byte == b'.').map(|part| number(part).unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    ((8, 1)..(9, 1)).contains(&version)
}
