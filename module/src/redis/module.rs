//! Where the server calls the module. No panic gets through, as it would end the server.

use super::api::api;
use super::command::Command;
use super::reply::{Answer, Report};
use super::server::{Blocked, Level, RUNNING_OUT, Server};
use super::string::Str;
use redis_module::raw;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// What a module is to the server.
pub trait Module: 'static {
    /// What carries a command out.
    type Call: 'static;

    /// Its commands.
    const COMMANDS: &'static [Command<Self::Call>];

    /// Runs a command. Its key comes first among the arguments.
    fn run(call: &Self::Call, server: &Server, args: &[Str]) -> Answer;

    /// The answer to a client that was handed back. The arguments are those of the command that blocked it.
    fn answer(server: &Server, client: Blocked, args: &[Str]) -> Answer;

    /// As [`Module::answer`], to a client that the server lets go (CLIENT UNBLOCK).
    fn let_go(server: &Server, client: Blocked, args: &[Str]) -> Answer;

    /// A blocked client went away.
    fn on_disconnect(server: &Server, client: Blocked);

    /// A timer has run out.
    fn on_timer(server: &Server, number: usize);

    /// A key was changed, or is gone: by somebody else, as what a module writes makes no event.
    fn on_key(server: &Server, key: &Str, what: KeyChange);

    /// More has changed than single keys.
    fn on_change(server: &Server, change: Change);

    /// Time goes by.
    fn on_beat(server: &Server);

    /// Tells about itself. While the server crashes nothing may be waited for.
    fn report(report: &mut Report, is_crashing: bool);
}

/// Where calls about blocked clients and timers go, which come from the midst of a command and not from its registration.
pub(super) struct Handlers {
    answer: fn(&Server, Blocked, &[Str]) -> Answer,
    let_go: fn(&Server, Blocked, &[Str]) -> Answer,
    on_disconnect: fn(&Server, Blocked),
    on_timer: fn(&Server, usize),
}

static HANDLERS: OnceLock<Handlers> = OnceLock::new();

/// Makes this module the one that those calls go to.
pub(super) fn register<M: Module>() {
    HANDLERS.get_or_init(|| Handlers {
        answer: M::answer,
        let_go: M::let_go,
        on_disconnect: M::on_disconnect,
        on_timer: M::on_timer,
    });
}

/// What has happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyChange {
    /// It was changed where it is, or is gone.
    Here,
    /// It came from elsewhere: from a dump, or another node.
    Arrived,
}

/// What has changed beside single keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Keys came and went: databases were flushed, or have changed places.
    Keys,
    /// The history may be another one: data was loaded, slots were taken over, the role has changed.
    History,
}

pub(super) type Door = unsafe extern "C" fn(*mut raw::RedisModuleCtx, *mut *mut raw::RedisModuleString, c_int) -> c_int;

/// One door per command, as the server does not tell a door which command it was called for.
pub(super) const fn doors<M: Module>() -> [Door; 16] {
    [
        door::<M, 0>,
        door::<M, 1>,
        door::<M, 2>,
        door::<M, 3>,
        door::<M, 4>,
        door::<M, 5>,
        door::<M, 6>,
        door::<M, 7>,
        door::<M, 8>,
        door::<M, 9>,
        door::<M, 10>,
        door::<M, 11>,
        door::<M, 12>,
        door::<M, 13>,
        door::<M, 14>,
        door::<M, 15>,
    ]
}

unsafe extern "C" fn door<M: Module, const ROW: usize>(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: these are the server's arguments of the command.
    unsafe {
        enter(ctx, argv, argc, |server, args| match M::COMMANDS.get(ROW) {
            Some(command) => M::run(&command.call, server, args),
            None => Err("ERR no such command".into()),
        })
    }
}

pub(super) unsafe extern "C" fn unblocked(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: these are the server's arguments of the command that blocked the client.
    unsafe { about_client(ctx, argv, argc, |handlers| handlers.answer) }
}

pub(super) unsafe extern "C" fn timed_out(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: as in `unblocked`.
    unsafe { about_client(ctx, argv, argc, |handlers| handlers.let_go) }
}

/// # Safety
/// `argv` are `argc` strings that live as long as the call, the first of them the command's own name.
unsafe fn enter(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
    call: impl FnOnce(&Server, &[Str]) -> Answer,
) -> c_int {
    guard(|| {
        let server = Server::new(ctx);
        // SAFETY: as the caller says; `Str` is one such pointer.
        let args = unsafe { std::slice::from_raw_parts(argv.cast::<Str>(), usize::try_from(argc).unwrap_or(0)) };
        let answer = catch_unwind(AssertUnwindSafe(|| call(&server, args.get(1..).unwrap_or_default())));
        server.reply(answer.unwrap_or_else(|_| {
            server.log(Level::Warning, "a command panicked; this is a bug in the module, please report it");
            Err("ERR internal error of the module; the server's log says more".into())
        }));
    });
    raw::REDISMODULE_OK as c_int
}

/// # Safety
/// As [`enter`], for a client that [`Server::block`] has blocked.
unsafe fn about_client(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
    choose: impl FnOnce(&Handlers) -> fn(&Server, Blocked, &[Str]) -> Answer,
) -> c_int {
    let call = |server: &Server, args: &[Str]| match HANDLERS.get() {
        Some(handlers) => choose(handlers)(server, server.blocked(), args),
        None => Err("ERR the module is not loaded".into()),
    };
    // SAFETY: as the caller says.
    unsafe { enter(ctx, argv, argc, call) }
}

fn guard(work: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(work));
}

pub(super) unsafe extern "C" fn disconnected(
    ctx: *mut raw::RedisModuleCtx,
    client: *mut raw::RedisModuleBlockedClient,
) {
    guard(|| {
        if let Some(handlers) = HANDLERS.get() {
            (handlers.on_disconnect)(&Server::new(ctx), Blocked(client as usize));
        }
    });
}

pub(super) unsafe extern "C" fn on_timer(ctx: *mut raw::RedisModuleCtx, number: *mut c_void) {
    RUNNING_OUT.store(number as usize, Ordering::Relaxed);
    guard(|| {
        if let Some(handlers) = HANDLERS.get() {
            (handlers.on_timer)(&Server::new(ctx), number as usize);
        }
    });
    RUNNING_OUT.store(usize::MAX, Ordering::Relaxed);
}

pub(super) unsafe extern "C" fn on_key<M: Module>(
    ctx: *mut raw::RedisModuleCtx,
    kind: c_int,
    event: *const c_char,
    key: *mut raw::RedisModuleString,
) -> c_int {
    guard(|| {
        // SAFETY: the names of key and event live as long as the call; `Str` is such a pointer.
        let (key, event) = unsafe { (&*(&raw const key).cast::<Str>(), CStr::from_ptr(event)) };
        let has_arrived = kind == raw::REDISMODULE_NOTIFY_GENERIC && event == c"restore";
        M::on_key(&Server::new(ctx), key, if has_arrived { KeyChange::Arrived } else { KeyChange::Here });
    });
    raw::REDISMODULE_OK as c_int
}

/// A key is about to be deleted or overwritten, has expired or was evicted.
pub(super) unsafe extern "C" fn on_key_gone<M: Module>(
    ctx: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    _: u64,
    info: *mut c_void,
) {
    guard(|| {
        // SAFETY: with this event comes this structure; its key, and the key's name, live as long as the call.
        unsafe {
            let key = (*info.cast::<raw::RedisModuleKeyInfo>()).key;
            let server = Server::new(ctx);
            server.select(api!(RedisModule_GetDbIdFromModuleKey)(key));
            let name = api!(RedisModule_GetKeyNameFromModuleKey)(key);
            M::on_key(&server, &*(&raw const name).cast::<Str>(), KeyChange::Here);
        }
    });
}

pub(super) unsafe extern "C" fn on_keys<M: Module>(
    ctx: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    _: u64,
    _: *mut c_void,
) {
    guard(|| M::on_change(&Server::new(ctx), Change::Keys));
}

pub(super) unsafe extern "C" fn on_history<M: Module>(
    ctx: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    _: u64,
    _: *mut c_void,
) {
    guard(|| M::on_change(&Server::new(ctx), Change::History));
}

pub(super) unsafe extern "C" fn on_beat<M: Module>(
    ctx: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    _: u64,
    _: *mut c_void,
) {
    guard(|| M::on_beat(&Server::new(ctx)));
}

/// Slots are about to be taken over or handed over, or were.
pub(super) unsafe extern "C" fn on_slots<M: Module>(
    ctx: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    what: u64,
    _: *mut c_void,
) {
    const IMPORTED: u64 = 4;
    guard(|| M::on_change(&Server::new(ctx), if what == IMPORTED { Change::History } else { Change::Keys }));
}

pub(super) unsafe extern "C" fn write_info<M: Module>(info: *mut raw::RedisModuleInfoCtx, is_crashing: c_int) {
    guard(|| {
        if let Some(mut report) = Report::begin(info) {
            M::report(&mut report, is_crashing != 0);
        }
    });
}
