//! Every limit of the contract, named, with its unit last.

/// Longest user id, in bytes of UTF-8.
pub const USER_ID_BYTES_MAX: usize = 128;

/// Longest key of a coupon, in bytes: its companions' names are built from it, and a name should not cost megabytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// Most units one coupon can have, and most places its waitlist can have. It keeps every sum far inside
/// 64 bits, and a sorted set of that many users no longer fits a machine anyway.
pub const QUANTITY_MAX: u64 = 1_000_000_000;

/// Earliest instant of a window, in milliseconds: 1990-01-01. No sale is older; a smaller number was meant as seconds.
pub const WINDOW_MS_MIN: u64 = 631_152_000_000;

/// Latest instant of a window, in milliseconds: 9999-12-31T23:59:59.999Z, which PostgreSQL can hold too.
pub const WINDOW_MS_MAX: u64 = 253_402_300_799_999;

/// Highest score that still counts microseconds one by one: beyond 2^53 a double skips integers, two
/// users could share a place, and order would be lost. Reached in the year 2255.
pub const ARRIVAL_US_MAX: u64 = 1 << 53;

/// Highest epoch and seq: PostgreSQL's bigint.
pub const NUMBER_MAX: u64 = i64::MAX as u64;

/// Highest revision of a definition: the last number before which a double skips none, so that every client can read it.
pub const REVISION_MAX: u64 = (1 << 53) - 1;

/// How much of a client's own bytes an error repeats.
pub const QUOTE_BYTES_MAX: usize = 64;

/// Units that one ISSUE call grants at most, unless `coupon.issue-max` says otherwise: with what is replicated, a call
/// then holds the server for about a millisecond.
pub const ISSUE_MAX_DEFAULT: u64 = 500;

/// Highest value of `coupon.issue-max`: at some 2 µs a grant, a call then holds the server for 200 ms.
pub const ISSUE_MAX_LIMIT: u64 = 100_000;

/// Users that one MREQUEST call takes at most, unless `coupon.request-max` says otherwise.
pub const REQUEST_MAX_DEFAULT: u64 = 1000;

/// Highest value of `coupon.request-max`: at some 10 µs a grant in INSTANT mode, a call then holds the server for
/// 100 ms.
pub const REQUEST_MAX_LIMIT: u64 = 10_000;

/// Grants that one RESTORE call takes at most, so that it holds the server for a few milliseconds.
pub const RESTORE_MAX: u64 = 1000;

/// Users that one ACK or RESTORE call names as refused, or as refused no more, at most: for the same reason.
pub const REFUSED_MAX: u64 = 1000;

/// Longest timeout of WAIT, in milliseconds: a day. 0 is for no limit.
pub const WAIT_MS_MAX: u64 = 86_400_000;

/// Clients that may be blocked in WAIT at once, unless `coupon.waiters-max` says otherwise: a server keeps some 35 kB for
/// each (docs/operations.md), so 350 MB for all of them.
pub const WAITERS_MAX_DEFAULT: u64 = 10_000;

/// Highest value of `coupon.waiters-max`.
pub const WAITERS_MAX_LIMIT: u64 = 1_000_000;
