//! Registering a module's parts with the server.

use super::api::api;
use super::command::{Argument, Command, Kind};
use super::module::{self, Door, Module};
use super::server::{IS_CLUSTER, Server};
use redis_module::raw;
use std::ffi::{CStr, c_char, c_int, c_longlong, c_uint, c_void};
use std::ops::Deref;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// A numeric config.
pub struct Config {
    /// Its name behind the module's.
    pub name: &'static CStr,
    /// Its lowest, default and highest value.
    pub range: [i64; 3],
    /// Where it lives.
    pub value: &'static AtomicI64,
}

unsafe extern "C" fn get_config(_: *const c_char, value: *mut c_void) -> c_longlong {
    // SAFETY: the pointer is the static that `register_configs` was given.
    unsafe { &*value.cast::<AtomicI64>() }.load(Ordering::Relaxed)
}

unsafe extern "C" fn set_config(
    _: *const c_char,
    new: c_longlong,
    value: *mut c_void,
    _: *mut *mut raw::RedisModuleString,
) -> c_int {
    // SAFETY: as in `get_config`; the server has checked the range.
    unsafe { &*value.cast::<AtomicI64>() }.store(new, Ordering::Relaxed);
    raw::REDISMODULE_OK as c_int
}

/// What the server tells a module of, if asked to.
#[derive(Debug, Clone, Copy)]
pub enum ServerEvent {
    /// [`super::Change::History`]: the role has changed.
    Role,
    /// [`super::Change::History`]: data is loaded, or was.
    Loading,
    /// [`super::Change::History`]: data is loaded beside what is served meanwhile, or has taken its place.
    AsyncLoading,
    /// [`super::Change::Keys`]: databases are flushed.
    Flush,
    /// [`super::Change::Keys`]: two databases have changed places.
    SwapDb,
    /// [`Module::on_key`]: a key is deleted, overwritten, expired or evicted, however it came to that. From Redis 7.2 on.
    KeyGone,
    /// [`Module::on_beat`]: the server's own housekeeping, some ten times a second.
    Beat,
    /// [`super::Change`]: slots move between nodes of a cluster in one step. Valkey 9.0 and later.
    Slots,
}

/// Kinds of events of keys.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub enum KeyEvent {
    /// Of strings.
    String = raw::REDISMODULE_NOTIFY_STRING,
    /// Of lists.
    List = raw::REDISMODULE_NOTIFY_LIST,
    /// Of sets.
    Set = raw::REDISMODULE_NOTIFY_SET,
    /// Of hashes.
    Hash = raw::REDISMODULE_NOTIFY_HASH,
    /// Of sorted sets.
    SortedSet = raw::REDISMODULE_NOTIFY_ZSET,
    /// Of streams.
    Stream = raw::REDISMODULE_NOTIFY_STREAM,
    /// Of keys as such: deleted, renamed, restored, copied, moved, given a TTL …
    Generic = raw::REDISMODULE_NOTIFY_GENERIC,
    /// Of keys that did not exist, whatever their type.
    New = raw::REDISMODULE_NOTIFY_NEW,
    /// Of keys that have expired, and on Valkey of fields.
    Expired = raw::REDISMODULE_NOTIFY_EXPIRED,
    /// Of keys that were evicted.
    Evicted = raw::REDISMODULE_NOTIFY_EVICTED,
}

/// Valkey's event of slots, which the library does not know.
const SLOTS: u64 = 19;

const fn ok(status: c_int) -> bool {
    status == raw::REDISMODULE_OK as c_int
}

impl Server {
    /// Says what the module takes care of itself: it signals modified keys, it can be asked for answers while another data
    /// set is loaded, and on Valkey its keys may move with their slots in one step.
    pub fn declare(&self, is_valkey: bool) {
        const HANDLES_ATOMIC_SLOT_MIGRATION: u32 = 1 << 5;
        let mut options =
            raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED | raw::REDISMODULE_OPTIONS_HANDLE_REPL_ASYNC_LOAD;
        if is_valkey {
            options |= HANDLES_ATOMIC_SLOT_MIGRATION;
        }
        let is_cluster = self.flags() & raw::REDISMODULE_CTX_FLAGS_CLUSTER != 0;
        IS_CLUSTER.store(is_cluster, Ordering::Relaxed);
        // SAFETY: see the top of redis.rs.
        unsafe { api!(RedisModule_SetModuleOptions)(self.ctx, options as c_int) };
    }

    /// Gives back the context for threads that the library makes at every load, keeps for itself and never frees: 17 kB.
    pub fn free_library_context(&self) {
        // Where the library stays mapped it is not made anew.
        static IS_FREE: AtomicBool = AtomicBool::new(false);
        unsafe extern "C" fn do_nothing(_: *mut raw::RedisModuleCtx) {}
        const DO_NOTHING: Option<unsafe extern "C" fn(*mut raw::RedisModuleCtx)> = Some(do_nothing);
        if IS_FREE.swap(true, Ordering::Relaxed) {
            return;
        }
        // SAFETY: nobody but this thread looks at these pointers, and they are put back. The server's lock is held
        // already, so to ask for it would wait for ever; the context is used by nobody when the module goes.
        unsafe {
            let functions = (raw::RedisModule_ThreadSafeContextLock, raw::RedisModule_ThreadSafeContextUnlock);
            (raw::RedisModule_ThreadSafeContextLock, raw::RedisModule_ThreadSafeContextUnlock) =
                (DO_NOTHING, DO_NOTHING);
            let context = Deref::deref(&redis_module::MODULE_CONTEXT.lock()).ctx;
            (raw::RedisModule_ThreadSafeContextLock, raw::RedisModule_ThreadSafeContextUnlock) = functions;
            api!(RedisModule_FreeThreadSafeContext)(context);
        }
    }

    /// Asks to be told of an event. False where the server has none of it.
    #[must_use]
    pub fn listen<M: Module>(&self, event: ServerEvent) -> bool {
        let (id, callback): (u64, unsafe extern "C" fn(_, _, _, _)) = match event {
            ServerEvent::Role => (raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, module::on_history::<M>),
            ServerEvent::Loading => (raw::REDISMODULE_EVENT_LOADING, module::on_history::<M>),
            ServerEvent::AsyncLoading => (raw::REDISMODULE_EVENT_REPL_ASYNC_LOAD, module::on_history::<M>),
            ServerEvent::Flush => (raw::REDISMODULE_EVENT_FLUSHDB, module::on_keys::<M>),
            ServerEvent::SwapDb => (raw::REDISMODULE_EVENT_SWAPDB, module::on_keys::<M>),
            ServerEvent::KeyGone => (raw::REDISMODULE_EVENT_KEY, module::on_key_gone::<M>),
            ServerEvent::Beat => (raw::REDISMODULE_EVENT_CRON_LOOP, module::on_beat::<M>),
            ServerEvent::Slots => (SLOTS, module::on_slots::<M>),
        };
        let event = raw::RedisModuleEvent { id, dataver: 1 };
        // SAFETY: the callback lives as long as the library.
        ok(unsafe { api!(RedisModule_SubscribeToServerEvent)(self.ctx, event, Some(callback)) })
    }

    /// Asks to be told by [`Module::on_key`] of what others do to keys: events of these kinds.
    #[must_use]
    pub fn listen_to_keys<M: Module>(&self, kinds: &[KeyEvent]) -> bool {
        let kinds = kinds.iter().fold(0, |kinds, kind| kinds | *kind as c_int);
        // SAFETY: as in `listen`.
        ok(unsafe { api!(RedisModule_SubscribeToKeyspaceEvents)(self.ctx, kinds, Some(module::on_key::<M>)) })
    }

    /// Registers the section of INFO.
    #[must_use]
    pub fn register_info<M: Module>(&self) -> bool {
        // SAFETY: as in `listen`.
        ok(unsafe { api!(RedisModule_RegisterInfoFunc)(self.ctx, Some(module::write_info::<M>)) })
    }

    /// Registers configs, and sets them as redis.conf says.
    ///
    /// # Errors
    /// A sentence for the log.
    pub fn register_configs(&self, configs: &[Config]) -> Result<(), String> {
        for config in configs {
            let [min, default, max] = config.range;
            // SAFETY: the name is copied; the callbacks and the value live as long as the library.
            let status = unsafe {
                api!(RedisModule_RegisterNumericConfig)(
                    self.ctx,
                    config.name.as_ptr(),
                    default,
                    raw::REDISMODULE_CONFIG_DEFAULT as c_uint,
                    min,
                    max,
                    Some(get_config),
                    Some(set_config),
                    None,
                    ptr::from_ref(config.value).cast_mut().cast(),
                )
            };
            if !ok(status) {
                return Err(format!("cannot register the config {:?}", config.name));
            }
        }
        // SAFETY: see the top of redis.rs.
        if ok(unsafe { api!(RedisModule_LoadConfigs)(self.ctx) }) {
            Ok(())
        } else {
            Err("a config is out of range".into())
        }
    }

    /// Registers all commands, in an ACL category of this name where the server has any for modules (Redis 7.4, Valkey 8).
    ///
    /// # Errors
    /// A sentence for the log.
    pub fn register_commands<M: Module>(&self, category: &CStr, since: &CStr) -> Result<(), String> {
        module::register::<M>();
        let doors = module::doors::<M>();
        const { assert!(M::COMMANDS.len() <= 16, "a door is missing") };
        // One that is there already is ours, of before an unload: servers keep them.
        // SAFETY: a read of a pointer that was set before this call; the name is copied.
        unsafe {
            if let Some(add) = (&raw const raw::RedisModule_AddACLCategory).read() {
                add(self.ctx, category.as_ptr());
            }
        }
        M::COMMANDS.iter().zip(doors).try_for_each(|(command, door)| self.register(command, door, category, since))
    }

    fn register<C>(&self, command: &Command<C>, door: Door, category: &CStr, since: &CStr) -> Result<(), String> {
        let version = raw::RedisModuleCommandInfoVersion {
            version: 1,
            sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
            sizeof_keyspec: size_of::<raw::RedisModuleCommandKeySpec>(),
            sizeof_arg: size_of::<raw::RedisModuleCommandArg>(),
        };
        let mut args = describe(command.args);
        // SAFETY: all zero is a valid value of this struct of numbers, pointers and unions of such, and marks its end.
        let end: raw::RedisModuleCommandKeySpec = unsafe { std::mem::zeroed() };
        let mut spec = end;
        spec.flags = u64::from(command.effect.flags());
        spec.begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX;
        spec.bs.index.pos = 1;
        spec.find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE;
        spec.fk.range = raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_1 { lastkey: 0, keystep: 1, limit: 0 };
        let mut key_specs = [spec, end];
        let info = raw::RedisModuleCommandInfo {
            version: &raw const version,
            summary: command.summary.as_ptr(),
            complexity: command.complexity.as_ptr(),
            since: since.as_ptr(),
            history: ptr::null_mut(),
            tips: ptr::null(),
            arity: command.arity,
            key_specs: key_specs.as_mut_ptr(),
            args: args.as_mut_ptr(),
        };
        let name = command.name.as_ptr();
        // SAFETY: the server copies all of the info; it lives to the end of this block.
        unsafe {
            let created = api!(RedisModule_CreateCommand)(self.ctx, name, Some(door), command.flags.as_ptr(), 1, 1, 1);
            if !ok(created) {
                return Err(format!("cannot register {:?}: another module has a command of that name", command.name));
            }
            let handle = api!(RedisModule_GetCommand)(self.ctx, name);
            if !ok(api!(RedisModule_SetCommandInfo)(handle, &raw const info)) {
                return Err(format!("cannot describe {:?}", command.name));
            }
            // Redis 7.2 knows how to put a command into a category, and has none of a module's own: that fails, and
            // rights go by the commands' names there, as on 7.0.
            if let Some(set) = (&raw const raw::RedisModule_SetCommandACLCategories).read() {
                set(handle, category.as_ptr());
            }
        }
        Ok(())
    }
}

/// The description of the arguments, ended by an empty one.
fn describe(list: &[Argument]) -> Vec<raw::RedisModuleCommandArg> {
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
