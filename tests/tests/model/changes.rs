//! What others do to a coupon's keys with the server's own commands, and what is done to it with the module's.
//!
//! In a line `$` is the coupon's key, `@` the name where it is put away, `#` the end of one of the keys' names, `%` a
//! user, and `|` separates calls.

use proptest::prelude::*;
use proptest::sample::select;

/// Users of a coupon; so few that they meet.
pub const USERS: [&str; 6] = ["u0", "u1", "u2", "u3", "u4", "u5"];

/// Of any key of the coupon.
const OF_ANY_KEY: [&str; 30] = [
    "DEL $#",
    "UNLINK $#",
    "SET $# x",
    "MSET $# x",
    "SET $# x EX 1000",
    "PEXPIREAT $# 1",
    "EXPIRE $# -1",
    "EXPIRE $# 1000",
    "PERSIST $#",
    "RENAME $# @#",
    "RENAME @# $#",
    "RENAMENX $# @#",
    "RENAMENX @# $#",
    "COPY $# @# REPLACE",
    "COPY @# $# REPLACE",
    "COPY @# $#",
    "MOVE $# 5",
    "SELECT 5|MOVE $# 0|SELECT 0",
    "COPY $# $# DB 5 REPLACE",
    "SELECT 5|COPY $# $# DB 0 REPLACE|SELECT 0",
    "ZUNIONSTORE $# 1 users:sorted",
    "ZINTERSTORE $# 1 users:sorted",
    "ZRANGESTORE $# users:sorted 0 -1",
    "ZDIFFSTORE $# 2 users:sorted users:none",
    "ZDIFFSTORE $# 2 users:sorted users:sorted",
    "SUNIONSTORE $# users:set",
    "SDIFFSTORE $# users:set users:set",
    "SORT users:set ALPHA STORE $#",
    "SORT users:none STORE $#",
    "BITOP NOT $# users:text",
];

const OF_THE_HASH: [&str; 43] = [
    "HSET $ quantity 9",
    "HSET $ quantity 1",
    "HINCRBY $ quantity 1",
    "HSET $ waitlist 0",
    "HSET $ waitlist 9",
    "HSET $ waitlist many",
    "HSET $ status AVAILABLE",
    "HSET $ status ISSUED",
    "HSET $ status EXPIRED",
    "HSET $ status STANDARD",
    "HSETNX $ status AVAILABLE",
    "HSET $ mode QUEUE",
    "HSET $ mode INSTANT",
    "HSET $ expires_at 631152000000",
    "HSET $ expires_at 0",
    "HSET $ opens_at 253402300799999",
    "HSET $ opens_at 0",
    "HSET $ seq 0",
    "HSET $ persisted 0",
    "HSET $ granted_to 1",
    "HSET $ status AVAILABLE quantity 5 waitlist 1",
    "HDEL $ status",
    "HDEL $ quantity",
    "HDEL $ waitlist",
    "HDEL $ first_at",
    "HDEL $ granted_to",
    "HDEL $ persisted_to",
    "HDEL $ refused",
    "HSET $ refused 1",
    "HSET $ refused 2",
    "HDEL $ format",
    "HSET $ format 1",
    "HSET $ format 2",
    "HSET $ revision 9",
    "HPEXPIRE $ 1000000 FIELDS 1 waitlist",
    "HPEXPIRE $ 1000000 FIELDS 1 status",
    "HPERSIST $ FIELDS 1 waitlist",
    "HPEXPIRE $ 0 FIELDS 1 waitlist",
    "HPEXPIRE $ 0 FIELDS 1 status",
    "HEXPIREAT $ 1 FIELDS 1 waitlist",
    "HGETDEL $ FIELDS 1 waitlist",
    "HGETEX $ PX 1000000 FIELDS 1 waitlist",
    "HSETEX $ PX 1000000 FIELDS 1 waitlist 5",
];

const OF_THE_SET: [&str; 11] = [
    "ZADD $:issued 1 %",
    "ZADD $:issued 4000000000000000 %",
    "ZADD $:issued XX 5 %",
    "ZADD $:issued NX 1 stranger",
    "ZREM $:issued %",
    "ZREM $:issued %",
    "ZPOPMIN $:issued",
    "ZPOPMAX $:issued",
    "ZREMRANGEBYRANK $:issued 0 -1",
    "ZINCRBY $:issued 1 %",
    "ZMPOP 1 $:issued MIN",
];

const OF_THE_STREAM: [&str; 8] = [
    "XADD $:grants * user stranger",
    "XADD $:grants 1-9 user stranger",
    "XTRIM $:grants MAXLEN 0",
    "XTRIM $:grants MAXLEN 1",
    "XDEL $:grants 1-1",
    "XDEL $:grants 1-2",
    "XDEL $:grants 0-1",
    "XSETID $:grants 3-1",
];

const OF_THE_REFUSED: [&str; 4] =
    ["ZADD $:refused 0 %", "ZREM $:refused %", "ZREM $:refused %", "ZREMRANGEBYRANK $:refused 0 -1"];

const OF_THE_SERVER: [&str; 5] = ["FLUSHDB", "FLUSHALL", "FLUSHALL ASYNC", "SWAPDB 0 5", "SWAPDB 0 5"];

/// What takes a coupon from one state into the next.
const ITS_COURSE: [&str; 8] = [
    "COUPON.OPEN $ QUANTITY 1",
    "COUPON.OPEN $ QUANTITY 2 WAITLIST 0",
    "COUPON.OPEN $ QUANTITY 3 WAITLIST 2 MODE QUEUE",
    "COUPON.OPEN $ QUANTITY 4 WAITLIST 1 MODE INSTANT",
    "COUPON.CLOSE $",
    "COUPON.ISSUE $",
    "COUPON.ACK $ EPOCH 1 SEQ 1",
    "COUPON.RESUME $ EPOCH 1 SEQ 0 CHAIN 0",
];

const OF_THE_MODULE: [&str; 26] = [
    "COUPON.ISSUE $ COUNT 1",
    "COUPON.ISSUE $ COUNT 2",
    "COUPON.ACK $ EPOCH 1 SEQ 2",
    "COUPON.ACK $ EPOCH 1 SEQ 3",
    "COUPON.ACK $ EPOCH 2 SEQ 1",
    "COUPON.ACK $ EPOCH 1 SEQ 1 REFUSED 1 u0",
    "COUPON.ACK $ EPOCH 1 SEQ 1 REFUSED 3 u1 u2 u3",
    "COUPON.ACK $ EPOCH 1 SEQ 2 REFUSED 2 u4 u5 PERSISTED 2 u0 u1",
    "COUPON.ACK $ EPOCH 1 SEQ 0 PERSISTED 6 u0 u1 u2 u3 u4 u5",
    "COUPON.ACK $ EPOCH 1 SEQ 0 REFUSED 1 u0 PERSISTED 5 u1 u2 u3 u4 u5",
    "COUPON.RESUME $ EPOCH 2 SEQ 0 CHAIN 0",
    "COUPON.OPEN $ QUANTITY 5 EPOCH 1",
    "COUPON.OPEN $ QUANTITY 4 EPOCH 1 REVISION 2",
    "COUPON.OPEN $ QUANTITY 5 EPOCH 2 REVISION 3",
    "COUPON.CLOSE $ EPOCH 1 REVISION 2",
    "COUPON.OPEN @ QUANTITY 3 MODE INSTANT",
    "COUPON.OPEN $ QUANTITY 3 STATUS STANDARD",
    "COUPON.OPEN $ QUANTITY 3 STATUS AVAILABLE",
    "COUPON.OPEN $ QUANTITY 3 OPENS 253402300799999 EXPIRES 0",
    "COUPON.OPEN $ QUANTITY 3 OPENS 0 EXPIRES 631152000000",
    "COUPON.OPEN $ QUANTITY 3 OPENS 0 EXPIRES 0",
    "COUPON.RESTORE $ EPOCH 1",
    "COUPON.RESTORE $ EPOCH 1 AFTER 0 CHAIN 0 GRANTS 2 u0 1600000000000000 7 u5 1600000000000001 7",
    "COUPON.RESTORE $ EPOCH 1|COUPON.RESTORE $ EPOCH 1 AFTER 0 CHAIN 0 GRANTS 2 u0 1600000000000000 7 u5 1600000000000001 7",
    "COUPON.RESTORE $ EPOCH 1|COUPON.RESTORE $ EPOCH 1 AFTER 0 CHAIN 0 REFUSED 1 u5 GRANTS 2 u0 1600000000000000 7 u5 1600000000000001 7",
    "COUPON.MREQUEST $ u0 u1 u5",
];

/// One of the coupon's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Hash,
    Issued,
    Grants,
    Refused,
}

impl Part {
    pub const ALL: [Self; 4] = [Self::Hash, Self::Issued, Self::Grants, Self::Refused];

    /// The end of its name.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Hash => "",
            Self::Issued => ":issued",
            Self::Grants => ":grants",
            Self::Refused => ":refused",
        }
    }
}

pub fn part() -> impl Strategy<Value = Part> {
    select(&Part::ALL[..])
}

pub fn user() -> impl Strategy<Value = &'static str> {
    select(&USERS[..])
}

/// A call of the module that may change the coupon.
pub fn call() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => user().prop_map(|user| format!("COUPON.REQUEST $ {user}")),
        1 => user().prop_map(|user| format!("COUPON.LEAVE $ {user}")),
        2 => select(&ITS_COURSE[..]).prop_map(str::to_owned),
        2 => select(&OF_THE_MODULE[..]).prop_map(str::to_owned),
    ]
}

/// A change by somebody else.
pub fn change() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (select(&OF_ANY_KEY[..]), part()).prop_map(|(line, part)| line.replace('#', part.suffix())),
        4 => select(&OF_THE_HASH[..]).prop_map(str::to_owned),
        3 => (select(&OF_THE_SET[..]), user()).prop_map(|(line, user)| line.replace('%', user)),
        1 => select(&OF_THE_STREAM[..]).prop_map(str::to_owned),
        1 => (select(&OF_THE_REFUSED[..]), user()).prop_map(|(line, user)| line.replace('%', user)),
        1 => select(&OF_THE_SERVER[..]).prop_map(str::to_owned),
    ]
}

/// What the lines that store the outcome of a command take it from.
pub const SOURCES: [&str; 3] =
    ["ZADD users:sorted 5 u0 6 u5 7 stranger", "SADD users:set u0 stranger", "SET users:text x"];
