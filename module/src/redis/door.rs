//! Doors: where Redis calls us. No panic gets through one, as it would end the server.

use super::api::api;
use super::reply::Reply;
use super::server::{Blocked, Level, Server};
use super::string::Arg;
use crate::commands::TABLE;
use crate::counters::{self, Counter};
use crate::{wait, waiters};
use coupon_core::refusal::Refusal;
use redis_module::raw;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

pub(super) type Door = unsafe extern "C" fn(*mut raw::RedisModuleCtx, *mut *mut raw::RedisModuleString, c_int) -> c_int;

/// One door per row of the command table, as Redis does not tell a door which command it was called for.
pub(super) const DOORS: [Door; TABLE.len()] = [
    door::<0>, door::<1>, door::<2>, door::<3>, door::<4>, door::<5>, door::<6>, door::<7>, door::<8>, door::<9>,
    door::<10>,
];

unsafe extern "C" fn door<const ROW: usize>(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    enter(ctx, argv, argc, |server, args| match TABLE.get(ROW) {
        Some(command) if command.takes(args.len()) => (command.call)(server, args.get(1..).unwrap_or_default()),
        _ => Err(Refusal::usage("wrong number of arguments")),
    })
}

/// A client that was blocked is answered: it was woken, or its time is over.
pub(super) unsafe extern "C" fn unblocked(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    enter(ctx, argv, argc, |server, args| {
        // SAFETY: Redis calls this for a client that `Server::block` has blocked.
        let client = Blocked(unsafe { api!(RedisModule_GetBlockedClientHandle)(server.ctx) } as usize);
        waiters::remove(client);
        wait::answer(server, args.get(1..).unwrap_or_default())
    })
}

/// A client went away while it was blocked.
pub(super) unsafe extern "C" fn disconnected(_: *mut raw::RedisModuleCtx, client: *mut raw::RedisModuleBlockedClient) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // Only whoever takes a client out of the line may unblock it, so that it is done once.
        if waiters::remove(Blocked(client as usize)) {
            unblock(Blocked(client as usize));
        }
    }));
}

fn enter(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
    call: impl FnOnce(&Server, &[Arg]) -> Result<Reply, Refusal>,
) -> c_int {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let server = Server::new(ctx);
        // SAFETY: Redis hands over `argc` strings that live as long as the call; `Arg` is one such pointer. The first
        // is the command's own name.
        let args = unsafe { std::slice::from_raw_parts(argv.cast::<Arg>(), usize::try_from(argc).unwrap_or(0)) };
        let reply = catch_unwind(AssertUnwindSafe(|| call(&server, args)));
        let reply = reply.unwrap_or_else(|_| {
            server.log(Level::Warning, "a command panicked; this is a bug in the coupon module, please report it");
            Err(Refusal::usage("internal error of the coupon module; the server's log says more"))
        });
        match &reply {
            Ok(_) => {}
            Err(Refusal::TryAgain(_)) => counters::add(Counter::TryAgain, 1),
            Err(_) => counters::add(Counter::Refused, 1),
        }
        server.reply(reply);
        server.tell_events(args);
    }));
    raw::REDISMODULE_OK as c_int
}

/// Lets a blocked client be answered, as soon as the running command is over.
pub(super) fn unblock(client: Blocked) {
    // SAFETY: a client leaves the line of `waiters` once, and is unblocked only then, so the handle is alive.
    unsafe { api!(RedisModule_UnblockClient)(client.0 as *mut raw::RedisModuleBlockedClient, ptr::null_mut()) };
}
