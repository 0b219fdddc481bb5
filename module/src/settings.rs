//! Configs: `coupon.*` in redis.conf and CONFIG SET, or by their short names as arguments of `loadmodule`.

use crate::redis::Config;
use coupon_core::limit::{
    ISSUE_MAX_DEFAULT, ISSUE_MAX_LIMIT, NUMBER_MAX, REQUEST_MAX_DEFAULT, REQUEST_MAX_LIMIT, WAITERS_MAX_DEFAULT,
    WAITERS_MAX_LIMIT,
};
use coupon_core::number::number;
use coupon_core::refusal::quote;
use std::sync::atomic::{AtomicI64, Ordering};

/// Units that one ISSUE call grants at most.
pub static ISSUE_MAX: AtomicI64 = AtomicI64::new(ISSUE_MAX_DEFAULT as i64);

/// Users that one MREQUEST call takes at most.
pub static REQUEST_MAX: AtomicI64 = AtomicI64::new(REQUEST_MAX_DEFAULT as i64);

/// Persisted entries that stay in the stream beyond the newest one.
pub static STREAM_KEEP: AtomicI64 = AtomicI64::new(0);

/// Grants that may be missing in the ledger before no more are made; 0 for no limit.
pub static UNPERSISTED_MAX: AtomicI64 = AtomicI64::new(0);

/// Clients that may be blocked in WAIT at once.
pub static WAITERS_MAX: AtomicI64 = AtomicI64::new(WAITERS_MAX_DEFAULT as i64);

/// The limit of [`UNPERSISTED_MAX`] as the rules take it.
pub fn unpersisted_max() -> u64 {
    match UNPERSISTED_MAX.load(Ordering::Relaxed) {
        0 => u64::MAX,
        limit => limit.unsigned_abs(),
    }
}

/// All configs, with the arguments of `loadmodule` as defaults.
///
/// # Errors
/// A sentence that names what is wrong, and what is allowed.
pub fn from_arguments(arguments: &[&[u8]]) -> Result<[Config; 5], String> {
    let config = |name, value, range: [u64; 3]| Config { name, value, range: range.map(|number| number as i64) };
    let mut configs = [
        config(c"issue-max", &ISSUE_MAX, [1, ISSUE_MAX_DEFAULT, ISSUE_MAX_LIMIT]),
        config(c"request-max", &REQUEST_MAX, [1, REQUEST_MAX_DEFAULT, REQUEST_MAX_LIMIT]),
        config(c"stream-keep", &STREAM_KEEP, [0, 0, NUMBER_MAX]),
        config(c"unpersisted-max", &UNPERSISTED_MAX, [0, 0, NUMBER_MAX]),
        config(c"waiters-max", &WAITERS_MAX, [0, WAITERS_MAX_DEFAULT, WAITERS_MAX_LIMIT]),
    ];
    for pair in arguments.chunks(2) {
        let (name, value) = match pair {
            [name, value] => (*name, Some(*value)),
            [name] => (*name, None),
            _ => continue,
        };
        let short = name.strip_prefix(b"coupon.").unwrap_or(name);
        let Some(place) = configs.iter().position(|config| short.eq_ignore_ascii_case(config.name.to_bytes())) else {
            let valid: Vec<_> = configs.iter().map(|config| config.name.to_string_lossy()).collect();
            return Err(format!("unknown argument {} of loadmodule; valid are: {}", quote(name), valid.join(", ")));
        };
        let Some(Config { range: [min, default, max], .. }) = configs.get_mut(place) else { continue };
        *default = value
            .and_then(number)
            .and_then(|value| i64::try_from(value).ok())
            .filter(|value| (*min..=*max).contains(value))
            .ok_or_else(|| {
                format!("argument {} of loadmodule needs a whole number from {min} to {max}", quote(name))
            })?;
    }
    Ok(configs)
}
