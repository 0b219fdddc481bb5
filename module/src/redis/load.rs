//! Registering everything with the server.

use super::api::{api, missing_function};
use super::door::{DOORS, Door};
use super::event::{draw_token, on_data_change, on_history_change, on_key_change};
use super::server::{Level, Server};
use crate::commands::{Argument, Command, Kind, TABLE};
use crate::{counters, known, waiters};
use coupon_core::coupon::number;
use redis_module::{Context, raw};
use std::ffi::{CStr, c_char, c_int, c_longlong, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Whether keys live in slots.
pub(super) static IS_CLUSTER: AtomicBool = AtomicBool::new(false);

/// A numeric config.
pub struct Config {
    /// Its name behind `coupon.`.
    pub name: &'static CStr,
    /// Its lowest, default and highest value.
    pub range: [i64; 3],
    /// Where it lives.
    pub value: &'static AtomicI64,
}

unsafe extern "C" fn get_config(_: *const c_char, value: *mut c_void) -> c_longlong {
    // SAFETY: the pointer is the static that `load` registered.
    unsafe { &*value.cast::<AtomicI64>() }.load(Ordering::Relaxed)
}

unsafe extern "C" fn set_config(
    _: *const c_char,
    new: c_longlong,
    value: *mut c_void,
    _: *mut *mut raw::RedisModuleString,
) -> c_int {
    // SAFETY: as in `get_config`; Redis has checked the range.
    unsafe { &*value.cast::<AtomicI64>() }.store(new, Ordering::Relaxed);
    raw::REDISMODULE_OK as c_int
}

/// Writes the section `coupon` of INFO; the server puts the module's name before that of each field.
unsafe extern "C" fn write_info(info: *mut raw::RedisModuleInfoCtx, _: c_int) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the info is alive for the call, and Redis copies names and values.
        unsafe {
            if api!(RedisModule_InfoAddSection)(info, c"".as_ptr()) != raw::REDISMODULE_OK as c_int {
                return;
            }
            api!(RedisModule_InfoAddFieldCString)(info, c"version".as_ptr(), VERSION.as_ptr());
            let known::Count { hashes, sets } = known::count();
            let gauges = [(c"waiting_clients", waiters::count()), (c"hashes_in_mind", hashes), (c"sets_in_mind", sets)];
            for (name, value) in counters::all().chain(gauges) {
                api!(RedisModule_InfoAddFieldULongLong)(info, name.as_ptr(), value);
            }
        }
    }));
}

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

/// Registers everything with the server.
///
/// # Errors
/// A sentence for the log.
pub fn load(context: &Context, configs: &[Config]) -> Result<(), String> {
    if let Some(name) = missing_function() {
        return Err(format!("this server lacks {name}: Redis 7.0 or later, or Valkey, is needed"));
    }
    let server = Server::new(context.ctx);
    draw_token();
    // SAFETY: the context is the one of OnLoad; all strings are copied; the callbacks live as long as the library.
    unsafe {
        let flags = api!(RedisModule_GetContextFlags)(server.ctx);
        IS_CLUSTER.store(flags & raw::REDISMODULE_CTX_FLAGS_CLUSTER as c_int != 0, Ordering::Relaxed);
        // See `signal_modified`.
        api!(RedisModule_SetModuleOptions)(server.ctx, raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED as c_int);
        let events: [(u64, unsafe extern "C" fn(_, _, _, _)); 5] = [
            (raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, on_history_change),
            (raw::REDISMODULE_EVENT_LOADING, on_history_change),
            (raw::REDISMODULE_EVENT_REPL_ASYNC_LOAD, on_data_change),
            (raw::REDISMODULE_EVENT_FLUSHDB, on_data_change),
            (raw::REDISMODULE_EVENT_SWAPDB, on_data_change),
        ];
        for (id, callback) in events {
            let event = raw::RedisModuleEvent { id, dataver: 1 };
            if api!(RedisModule_SubscribeToServerEvent)(server.ctx, event, Some(callback))
                != raw::REDISMODULE_OK as c_int
            {
                return Err("cannot subscribe to the server's events".into());
            }
        }
        if moves_clients(&server.info(c"server", c"valkey_version").unwrap_or_default()) {
            server.log(Level::Notice, "status hashes are read in every call: on this Valkey, to be told of changes would leave clients of MOVE and COPY in another database");
        } else {
            // Of no other type, so that strings, lists and sets of other applications are not slowed down.
            let kinds = raw::REDISMODULE_NOTIFY_HASH
                | raw::REDISMODULE_NOTIFY_ZSET
                | raw::REDISMODULE_NOTIFY_STREAM
                | raw::REDISMODULE_NOTIFY_GENERIC
                | raw::REDISMODULE_NOTIFY_EXPIRED
                | raw::REDISMODULE_NOTIFY_EVICTED;
            if api!(RedisModule_SubscribeToKeyspaceEvents)(server.ctx, kinds, Some(on_key_change))
                != raw::REDISMODULE_OK as c_int
            {
                return Err("cannot subscribe to the events of keys".into());
            }
            known::begin();
        }
        if api!(RedisModule_RegisterInfoFunc)(server.ctx, Some(write_info)) != raw::REDISMODULE_OK as c_int {
            return Err("cannot register the section of INFO".into());
        }
        for config in configs {
            let [min, default, max] = config.range;
            let status = api!(RedisModule_RegisterNumericConfig)(
                server.ctx,
                config.name.as_ptr(),
                default,
                raw::REDISMODULE_CONFIG_DEFAULT as c_uint,
                min,
                max,
                Some(get_config),
                Some(set_config),
                None,
                ptr::from_ref(config.value).cast_mut().cast(),
            );
            if status != raw::REDISMODULE_OK as c_int {
                return Err(format!("cannot register the config {:?}", config.name));
            }
        }
        if api!(RedisModule_LoadConfigs)(server.ctx) != raw::REDISMODULE_OK as c_int {
            return Err("a config is out of range".into());
        }
    }
    add_category(&server);
    for (command, door) in TABLE.iter().zip(DOORS) {
        register(&server, command, door)?;
    }
    Ok(())
}

/// The server while the module is loaded.
pub fn at_load(context: &Context) -> Server {
    Server::new(context.ctx)
}

/// Whether a module that listens to the events of keys makes this server leave a client of MOVE or COPY in the
/// database it has written to: from Valkey 8.1 on, until <https://github.com/valkey-io/valkey/pull/4024>, which 8.1.8
/// lacks and 9.1.2 has. Without an answer to which release was the first, all before 9.1 count as affected.
fn moves_clients(valkey_version: &[u8]) -> bool {
    let mut parts = valkey_version.split(|byte| *byte == b'.').map(|part| number(part).unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    ((8, 1)..(9, 1)).contains(&version)
}

/// The ACL category of all commands.
const CATEGORY: &CStr = c"coupon";

/// Adds the category where the server has any for modules (Redis 7.4, Valkey 8). One that is there already is ours, of
/// before an unload: servers keep them.
fn add_category(server: &Server) {
    // SAFETY: a read of a pointer that was set before this call; the name is copied.
    unsafe {
        if let Some(add) = (&raw const raw::RedisModule_AddACLCategory).read() {
            add(server.ctx, CATEGORY.as_ptr());
        }
    }
}

fn register(server: &Server, command: &Command, door: Door) -> Result<(), String> {
    let version = raw::RedisModuleCommandInfoVersion {
        version: 1,
        sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
        sizeof_keyspec: size_of::<raw::RedisModuleCommandKeySpec>(),
        sizeof_arg: size_of::<raw::RedisModuleCommandArg>(),
    };
    let mut args = arguments(command.args);
    // SAFETY: all zero is a valid value of this struct of numbers, pointers and unions of such, and marks its end.
    let end: raw::RedisModuleCommandKeySpec = unsafe { std::mem::zeroed() };
    let mut spec = end;
    spec.flags = u64::from(command.key);
    spec.begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX;
    spec.bs.index.pos = 1;
    spec.find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE;
    spec.fk.range = raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_1 { lastkey: 0, keystep: 1, limit: 0 };
    let mut key_specs = [spec, end];
    let info = raw::RedisModuleCommandInfo {
        version: &raw const version,
        summary: command.summary.as_ptr(),
        complexity: command.complexity.as_ptr(),
        since: command.since.as_ptr(),
        history: ptr::null_mut(),
        tips: ptr::null(),
        arity: command.arity,
        key_specs: key_specs.as_mut_ptr(),
        args: args.as_mut_ptr(),
    };
    // SAFETY: Redis copies all of the info; it lives to the end of this block.
    unsafe {
        let (ctx, name) = (server.ctx, command.name.as_ptr());
        let created = api!(RedisModule_CreateCommand)(ctx, name, Some(door), command.flags.as_ptr(), 1, 1, 1);
        if created != raw::REDISMODULE_OK as c_int {
            return Err(format!("cannot register {:?}: another module has a command of that name", command.name));
        }
        let handle = api!(RedisModule_GetCommand)(ctx, name);
        if api!(RedisModule_SetCommandInfo)(handle, &raw const info) != raw::REDISMODULE_OK as c_int {
            return Err(format!("cannot describe {:?}", command.name));
        }
        // Redis 7.2 knows how to put a command into a category, and has none of a module's own: that fails, and rights
        // go by the commands' names there, as on 7.0.
        if let Some(set) = (&raw const raw::RedisModule_SetCommandACLCategories).read() {
            set(handle, CATEGORY.as_ptr());
        }
    }
    Ok(())
}

/// The description of the arguments, ended by an empty one.
fn arguments(list: &[Argument]) -> Vec<raw::RedisModuleCommandArg> {
    let argument = |name, kind, token, flags| raw::RedisModuleCommandArg {
        name,
        type_: kind,
        // The only key is described by the only key spec.
        key_spec_index: if kind == raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY { 0 } else { -1 },
        token,
        summary: ptr::null(),
        since: ptr::null(),
        flags,
        deprecated_since: ptr::null(),
        subargs: ptr::null_mut(),
        display_text: ptr::null(),
    };
    let mut described: Vec<_> = list
        .iter()
        .map(|arg| {
            let kind = match arg.kind {
                Kind::Key => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY,
                Kind::Text | Kind::Texts => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING,
                Kind::Integer => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_INTEGER,
                Kind::Time => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_UNIX_TIME,
                Kind::Flag => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PURE_TOKEN,
            };
            let mut flags =
                if arg.is_optional { raw::REDISMODULE_CMD_ARG_OPTIONAL } else { raw::REDISMODULE_CMD_ARG_NONE };
            if matches!(arg.kind, Kind::Texts) {
                flags |= raw::REDISMODULE_CMD_ARG_MULTIPLE;
            }
            argument(arg.name.as_ptr(), kind, arg.token.map_or(ptr::null(), CStr::as_ptr), flags as c_int)
        })
        .collect();
    described.push(argument(ptr::null(), 0, ptr::null(), 0));
    described
}
