//! Configs: `coupon.*` in redis.conf and CONFIG SET, or by their short names as arguments of `loadmodule`.

use crate::redis::Config;
use coupon_core::coupon::number;
use coupon_core::limit::{ISSUE_MAX_DEFAULT, ISSUE_MAX_LIMIT, NUMBER_MAX, REQUEST_MAX_DEFAULT, REQUEST_MAX_LIMIT};
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
pub fn from_arguments(arguments: &[&[u8]]) -> Result<[Config; 4], String> {
    let mut configs = [
        Config { name: c"issue-max", range: [1, ISSUE_MAX_DEFAULT as i64, ISSUE_MAX_LIMIT as i64], value: &ISSUE_MAX },
        Config {
            name: c"request-max",
            range: [1, REQUEST_MAX_DEFAULT as i64, REQUEST_MAX_LIMIT as i64],
            value: &REQUEST_MAX,
        },
        Config { name: c"stream-keep", range: [0, 0, NUMBER_MAX as i64], value: &STREAM_KEEP },
        Config { name: c"unpersisted-max", range: [0, 0, NUMBER_MAX as i64], value: &UNPERSISTED_MAX },
    ];
    for pair in arguments.chunks(2) {
        let (name, value) = match pair {
            [name, value] => (*name, Some(*value)),
            [name] => (*name, None),
            _ => continue,
        };
        let short = name.strip_prefix(b"coupon.").unwrap_or(name);
        let Some(config) = configs.iter_mut().find(|config| short.eq_ignore_ascii_case(config.name.to_bytes())) else {
            return Err(format!(
                "unknown argument {} of loadmodule; valid are: issue-max, request-max, stream-keep, unpersisted-max",
                quote(name)
            ));
        };
        let [min, default, max] = &mut config.range;
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
