//! `check`: whether the daemon could work here, one line per finding.

use crate::error::{Error, Exit, wording};
use crate::ledger::Ledger;
use crate::redis::{MODULE_NAME, Redis};
use coupon_core::key::KeyPattern;
use redis::RedisResult;
use std::fmt::Display;

/// What was found of one side is told at once, a line each.
struct Report {
    of: &'static str,
    has_failed: bool,
}

impl Report {
    fn new(of: &'static str) -> Self {
        Self { of, has_failed: false }
    }

    fn fine(&self, text: impl Display) {
        println!("ok    {}: {text}", self.of);
    }

    /// It works, and could be safer.
    fn warn(&self, text: impl Display) {
        println!("warn  {}: {text}", self.of);
    }

    /// It does not work.
    fn fail(&mut self, text: impl Display) {
        println!("FAIL  {}: {text}", self.of);
        self.has_failed = true;
    }
}

/// Looks at everything and says what it finds.
pub async fn check(redis: &Redis, ledger: &Ledger, keys: &KeyPattern) -> Exit {
    let mut of_redis = Report::new("redis");
    if let Err(error) = check_redis(redis, keys, &mut of_redis).await {
        of_redis.fail(format_args!("cannot be reached: {}", wording(&error)));
    }
    let mut of_postgresql = Report::new("postgresql");
    if let Err(error) = check_postgresql(ledger, &mut of_postgresql).await {
        of_postgresql.fail(format_args!("cannot be examined: {error}"));
    }
    if of_redis.has_failed || of_postgresql.has_failed { Exit::Failed } else { Exit::Ok }
}

async fn check_redis(redis: &Redis, keys: &KeyPattern, report: &mut Report) -> RedisResult<()> {
    let version = redis.server_info("server", "redis_version").await?;
    report.fine(format_args!("reachable, version {}", version.as_deref().unwrap_or("unknown")));
    report.fine(format_args!("connected to {}", redis.place()));
    match redis.is_primary().await {
        Ok(true) => report.fine("takes writes"),
        Ok(false) if redis.finds_primary() => report.fail("has just become a replica; try again"),
        Ok(false) => report.fail("is a replica; point --redis-url at the primary"),
        Err(error) => {
            report.fail(format_args!("ROLE is refused: {}; allow it for the reconciler's user", wording(&error)));
        }
    }
    match redis.module_version().await {
        Ok(Some(version)) if is_of_this_release(version) => {
            report.fine(format_args!("module {MODULE_NAME} {}", shown(version)));
        }
        Ok(Some(version)) => report.fail(format_args!(
            "module {MODULE_NAME} is {}, this is {}; take both from one release",
            shown(version),
            env!("CARGO_PKG_VERSION")
        )),
        Ok(None) => report.fail("the coupon module is not loaded; start Redis with --loadmodule libcoupon.so"),
        Err(error) => report
            .warn(format_args!("MODULE LIST is refused, so the module's version is not known: {}", wording(&error))),
    }
    check_permissions(redis, keys, report).await;
    check_settings(redis, report).await;
    Ok(())
}

/// Every command that the daemon sends, in a call that changes nothing.
async fn check_permissions(redis: &Redis, keys: &KeyPattern, report: &mut Report) {
    let key = keys.key("coupon-reconciler-check");
    let grants = format!("{key}{}", coupon_core::key::GRANTS);
    let issued = format!("{key}{}", coupon_core::key::ISSUED);
    let calls: &[&[&str]] = &[
        &["COUPON.INFO", &key],
        &["COUPON.CLOSE", &key],
        &["COUPON.OPEN", &key, "QUANTITY", "0"],
        &["COUPON.ISSUE", &key, "COUNT", "0"],
        &["COUPON.RESUME", &key, "EPOCH", "0", "SEQ", "0", "CHAIN", "0"],
        &["COUPON.ACK", &key, "EPOCH", "0", "SEQ", "0"],
        &["COUPON.RESTORE", &key, "EPOCH", "0"],
        &["XRANGE", &grants, "-", "+", "COUNT", "1"],
        &["XREVRANGE", &grants, "+", "-", "COUNT", "1"],
        &["ZRANGE", &issued, "0", "0"],
        &["ZRANK", &issued, "nobody"],
        &["ZMSCORE", &issued, "nobody"],
        &["ZCOUNT", &issued, "0", "0"],
        &["ZCARD", &issued],
        &["HGET", &key, "epoch"],
        &["HMGET", &key, "epoch"],
        // Outside MULTI it is refused for that.
        &["EXEC"],
        &["XREAD", "COUNT", "1", "STREAMS", &grants, "0-0"],
        &["SCAN", "0", "COUNT", "1"],
        &["TIME"],
        &["ROLE"],
    ];
    let mut refused = Vec::new();
    for call in calls {
        if let Err(error) = redis.may(call).await {
            refused.push(format!("{}: {}", call[0], wording(&error)));
        }
    }
    if let Err(error) = redis.subscribe().await {
        refused.push(format!("SUBSCRIBE: {}", wording(&error)));
    }
    if refused.is_empty() {
        report.fine("permissions are complete");
    } else {
        report.fail(format_args!("commands are refused: {}", refused.join("; ")));
    }
}

async fn check_settings(redis: &Redis, report: &mut Report) {
    match redis.config("maxmemory-policy").await {
        Ok(Some(policy)) if policy == "noeviction" => report.fine("maxmemory-policy noeviction"),
        Ok(Some(policy)) => report.fail(format_args!(
            "maxmemory-policy {policy} may evict a coupon's keys, so no coupon can be opened; set noeviction"
        )),
        Ok(None) | Err(_) => report.warn("CONFIG GET is refused, so its settings are not known"),
    }
    let Ok(Some(appendonly)) = redis.config("appendonly").await else { return };
    let fsync = redis.config("appendfsync").await.ok().flatten().unwrap_or_default();
    match (&*appendonly, &*fsync) {
        ("yes", "always") => report.fine("appendonly yes, appendfsync always: nothing acknowledged is lost"),
        ("yes", "everysec") => report.fine(
            "appendonly yes, appendfsync everysec: a power cut loses up to a second of requests that are no rows yet",
        ),
        ("yes", other) => report.warn(format_args!(
            "appendfsync {other}: a power cut loses what the system had not written; set everysec or always"
        )),
        _ => report.warn("appendonly no: a restart loses all since the last RDB file; set appendonly yes"),
    }
}

fn shown(version: u64) -> String {
    format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
}

/// A difference in the last part is no difference in the protocol.
fn is_of_this_release(version: u64) -> bool {
    let of = |part: &str| part.parse().unwrap_or(0);
    version / 100 == of(env!("CARGO_PKG_VERSION_MAJOR")) * 100 + of(env!("CARGO_PKG_VERSION_MINOR"))
}

/// What the daemon does with each table.
const PRIVILEGES: &[(&str, &str)] = &[
    ("coupon", "SELECT"),
    ("coupon", "INSERT"),
    ("coupon", "UPDATE"),
    ("coupon_position", "SELECT"),
    ("coupon_position", "INSERT"),
    ("coupon_position", "UPDATE"),
    ("user_coupon", "SELECT"),
    ("user_coupon", "INSERT"),
    ("coupon_dead_letter", "SELECT"),
    ("coupon_dead_letter", "INSERT"),
    ("coupon_orphan", "SELECT"),
    ("coupon_orphan", "INSERT"),
    ("coupon_instance", "SELECT"),
    ("coupon_instance", "INSERT"),
    ("coupon_instance", "UPDATE"),
    ("coupon_instance", "DELETE"),
    ("coupon_lease", "SELECT"),
    ("coupon_lease", "UPDATE"),
    ("coupon_migration", "SELECT"),
];

async fn check_postgresql(ledger: &Ledger, report: &mut Report) -> Result<(), Error> {
    if let Err(error) = ledger.ping().await {
        report.fail(format_args!("cannot be reached: {error}"));
        return Ok(());
    }
    report.fine(format_args!("reachable, version {}", ledger.setting("server_version").await?));
    report.fine(match ledger.tls_version().await? {
        Some(version) => format!("connected by {version}"),
        None => "connected without TLS".to_owned(),
    });
    if ledger.setting("transaction_read_only").await? == "on" {
        report.fail("takes no writes; is it a standby? Point --database-url at the primary");
    }
    if ledger.setting("fsync").await? == "off" {
        report.warn("fsync is off: a crash loses rows that Redis takes for persisted; set it on");
    }
    match ledger.check_schema().await {
        Ok(()) => report.fine("schema is current"),
        Err(Error::Held(advice)) => {
            report.fail(advice);
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    let mut missing = Vec::new();
    for (table, privilege) in PRIVILEGES {
        if !ledger.has_privilege(table, privilege).await? {
            missing.push(format!("grant {} on {table} to this role", privilege.to_lowercase()));
        }
    }
    if missing.is_empty() {
        report.fine("privileges are complete");
    } else {
        report.fail(format_args!("privileges are missing: {}", missing.join("; ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_fits_up_to_its_last_number() {
        let this: Vec<u64> = env!("CARGO_PKG_VERSION").split('.').filter_map(|part| part.parse().ok()).collect();
        let own = this.iter().fold(0, |version, part| version * 100 + part);
        for (module, fits) in [(own, true), (own - own % 100 + 7, true), (own + 100, false), (own + 10_000, false)] {
            assert_eq!(is_of_this_release(module), fits, "{module} {own}");
        }
        assert!(own >= 100 && shown(own) == env!("CARGO_PKG_VERSION"));
    }
}
