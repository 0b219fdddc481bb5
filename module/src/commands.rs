//! The map of the module: every command, with its syntax, flags, arity, description and handler.

use crate::redis::{Argument, Command, Effect, Kind, Reply, Server, Str};
use crate::{ack, close, info, issue, leave, open, request, restore, resume, status, wait};
use coupon_core::refusal::Refusal;
use std::ffi::CStr;

/// Carries a command out: the coupon's key, and the arguments behind it.
pub type Call = fn(&Server, &Str, &[Str]) -> Result<Reply, Refusal>;

const fn needed(name: &'static CStr, kind: Kind) -> Argument {
    Argument { name, kind, token: None, is_optional: false }
}

const fn optional(name: &'static CStr, kind: Kind) -> Argument {
    Argument { name, kind, token: None, is_optional: true }
}

const fn option(token: &'static CStr, name: &'static CStr, kind: Kind) -> Argument {
    Argument { name, kind, token: Some(token), is_optional: true }
}

const fn needed_option(token: &'static CStr, name: &'static CStr, kind: Kind) -> Argument {
    Argument { name, kind, token: Some(token), is_optional: false }
}

const KEY: Argument = needed(c"key", Kind::Key);
const USER: Argument = needed(c"user", Kind::Text);
const WITHRANK: Argument = option(c"WITHRANK", c"withrank", Kind::Flag);
const EPOCH: Argument = needed_option(c"EPOCH", c"epoch", Kind::Integer);
const SEQ: Argument = needed_option(c"SEQ", c"seq", Kind::Integer);
const CHAIN: Argument = needed_option(c"CHAIN", c"chain", Kind::Integer);

const O1: &CStr = c"O(1)";
const LOG: &CStr = c"O(log(N)) with N being the number of accepted users";

/// All commands.
pub const TABLE: &[Command<Call>] = &[
    // COUPON.OPEN key QUANTITY n [STATUS STANDARD|AVAILABLE] [MODE QUEUE|INSTANT] [WAITLIST n] [OPENS unix-ms]
    //     [EXPIRES unix-ms] [EPOCH e [REVISION r]]
    Command {
        name: c"coupon.open",
        arity: -4,
        flags: c"write deny-oom fast",
        effect: Effect::Updates,
        summary: c"Defines a coupon and puts it on offer, or changes its definition.",
        complexity: O1,
        args: &[
            KEY,
            needed_option(c"QUANTITY", c"quantity", Kind::Integer),
            option(c"STATUS", c"standard|available", Kind::Text),
            option(c"MODE", c"queue|instant", Kind::Text),
            option(c"WAITLIST", c"places", Kind::Integer),
            option(c"OPENS", c"unix-time-milliseconds", Kind::Time),
            option(c"EXPIRES", c"unix-time-milliseconds", Kind::Time),
            option(c"EPOCH", c"epoch", Kind::Integer),
            option(c"REVISION", c"revision", Kind::Integer),
        ],
        call: open::call,
    },
    // COUPON.REQUEST key user [WITHRANK]
    Command {
        name: c"coupon.request",
        arity: -3,
        flags: c"write deny-oom fast",
        effect: Effect::ReadsAndUpdates,
        summary: c"Asks for a unit: checks for a duplicate, takes a place in line and, in INSTANT mode, the unit.",
        complexity: LOG,
        args: &[KEY, USER, WITHRANK],
        call: request::call,
    },
    // COUPON.MREQUEST key user [user …]
    Command {
        name: c"coupon.mrequest",
        arity: -3,
        flags: c"write deny-oom",
        effect: Effect::ReadsAndUpdates,
        summary: c"Asks for a unit for each of several users in one atomic step, in the order given.",
        complexity: c"O(M*log(N)) with M being the number of users given and N that of accepted users",
        args: &[KEY, needed(c"user", Kind::Texts)],
        call: request::call_many,
    },
    // COUPON.ISSUE key [COUNT n]
    Command {
        name: c"coupon.issue",
        arity: -2,
        flags: c"write deny-oom",
        effect: Effect::ReadsAndUpdates,
        summary: c"Grants units to the next waiting users, in the order of their arrival.",
        complexity: c"O(log(N)+M) with M being the number of units granted, at most coupon.issue-max",
        args: &[KEY, option(c"COUNT", c"count", Kind::Integer)],
        call: issue::call,
    },
    // COUPON.STATUS key user [WITHRANK]
    Command {
        name: c"coupon.status",
        arity: -3,
        flags: c"readonly fast",
        effect: Effect::Reads,
        summary: c"Tells where a user stands.",
        complexity: c"O(1), with WITHRANK O(log(N))",
        args: &[KEY, USER, WITHRANK],
        call: status::call,
    },
    // COUPON.WAIT key user timeout-ms
    Command {
        name: c"coupon.wait",
        arity: 4,
        flags: c"readonly blocking",
        effect: Effect::Reads,
        summary: c"Blocks until a user's outcome is final or the time is over, and answers as COUPON.STATUS.",
        complexity: O1,
        args: &[KEY, USER, needed(c"timeout-milliseconds", Kind::Integer)],
        call: wait::call,
    },
    // COUPON.INFO key
    Command {
        name: c"coupon.info",
        arity: 2,
        flags: c"readonly fast",
        effect: Effect::Reads,
        summary: c"Tells a coupon's definition and counts.",
        complexity: O1,
        args: &[KEY],
        call: info::call,
    },
    // COUPON.LEAVE key user
    Command {
        name: c"coupon.leave",
        arity: 3,
        flags: c"write fast",
        effect: Effect::ReadsAndUpdates,
        summary: c"Gives up a waiting user's place: everybody behind moves up.",
        complexity: LOG,
        args: &[KEY, USER],
        call: leave::call,
    },
    // COUPON.CLOSE key [EPOCH e REVISION r]
    Command {
        name: c"coupon.close",
        arity: -2,
        flags: c"write fast",
        effect: Effect::Updates,
        summary: c"Ends a coupon: no further requests or grants.",
        complexity: O1,
        args: &[KEY, option(c"EPOCH", c"epoch", Kind::Integer), option(c"REVISION", c"revision", Kind::Integer)],
        call: close::call,
    },
    // COUPON.RESUME key EPOCH e SEQ n CHAIN c
    Command {
        name: c"coupon.resume",
        arity: 8,
        flags: c"write",
        effect: Effect::ReadsAndUpdates,
        summary:
            c"Opens the gate under an epoch of the ledger, if Redis holds the ledger's history. For the reconciler.",
        complexity: c"O(E*log(N)) with E being the number of epochs in the stream",
        args: &[KEY, EPOCH, SEQ, CHAIN],
        call: resume::call,
    },
    // COUPON.ACK key EPOCH e SEQ n [REFUSED count user …] [PERSISTED count user …]
    Command {
        name: c"coupon.ack",
        arity: -6,
        flags: c"write",
        effect: Effect::ReadsAndUpdates,
        summary: c"Records which grants are committed in the ledger, and whose rows it refused, and trims their entries. For the reconciler.",
        complexity: c"O(M) with M being the number of entries trimmed and of users named",
        args: &[
            KEY,
            EPOCH,
            SEQ,
            option(c"REFUSED", c"count", Kind::Integer),
            optional(c"refused-user", Kind::Texts),
            option(c"PERSISTED", c"count", Kind::Integer),
            optional(c"persisted-user", Kind::Texts),
        ],
        call: ack::call,
    },
    // COUPON.RESTORE key EPOCH e [AFTER k CHAIN c [REFUSED m user …] GRANTS n user requested_at granted_at […]]
    Command {
        name: c"coupon.restore",
        arity: -4,
        flags: c"write deny-oom",
        effect: Effect::ReadsAndUpdates,
        summary: c"Shuts the gate; once it is shut, puts the ledger's grants, where given, in the place of Redis's own, from their common part on. For the reconciler.",
        complexity: c"O(M*log(N)) with M being the number of grants, at most 1000",
        args: &[
            KEY,
            EPOCH,
            option(c"AFTER", c"seq", Kind::Integer),
            option(c"CHAIN", c"chain", Kind::Integer),
            option(c"REFUSED", c"refused-count", Kind::Integer),
            optional(c"refused-user", Kind::Texts),
            option(c"GRANTS", c"count", Kind::Integer),
            optional(c"user requested-at-microseconds granted-at-milliseconds", Kind::Texts),
        ],
        call: restore::call,
    },
];
