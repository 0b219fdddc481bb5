//! `check`: whether the daemon could work here, one line per finding.

use crate::coupon::Tools;
use crate::error::{Error, Exit, wording};
use crate::ledger::{Ledger, Requirement};
use crate::redis::{Redis, TOKEN_ID};
use coupon_core::key::{GRANTS, ISSUED, KeyPattern};
use redis::RedisResult;
use std::fmt::Display;

/// What was found of one side is told at once, a line each.
struct Report {
    of: &'static str,
    has_failed: bool,
}

impl Report {
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

    /// What is missing has to be nothing.
    fn complete(&mut self, what: &str, missing: &[String]) {
        if missing.is_empty() {
            self.fine(format_args!("{what} are complete"));
        } else {
            self.fail(format_args!("{what} are missing: {}", missing.join("; ")));
        }
    }
}

/// Looks at everything and says what it finds.
pub async fn check(tools: &Tools) -> Exit {
    let mut report = Report { of: "redis", has_failed: false };
    if let Err(error) = check_redis(&tools.redis, &tools.keys, &mut report).await {
        report.fail(format_args!("cannot be reached: {}", wording(&error)));
    }
    report.of = "postgresql";
    if let Err(error) = check_postgresql(&tools.ledger, &mut report).await {
        report.fail(format_args!("cannot be examined: {}", error.cause()));
    }
    if report.has_failed { Exit::Failed } else { Exit::Ok }
}

/// Every command that the daemon sends to Redis, in a call that changes nothing; `K` is a coupon's key, and `TOKEN` where it says which Redis this is. Outside MULTI, EXEC is
/// refused for that.
const CALLS: &str = "
    COUPON.INFO K; COUPON.CLOSE K; COUPON.OPEN K QUANTITY 0; COUPON.ISSUE K COUNT 0; COUPON.RESUME K EPOCH 0 SEQ 0 CHAIN 0;
    COUPON.ACK K EPOCH 0 SEQ 0; COUPON.RESTORE K EPOCH 0; HGET K epoch; HMGET K epoch; GET TOKEN; SET TOKEN 0 XX NX;
    XREAD COUNT 1 STREAMS K:grants 0-0; XRANGE K:grants - + COUNT 1; XREVRANGE K:grants + - COUNT 1;
    ZRANGE K:issued 0 0; ZRANK K:issued nobody; ZMSCORE K:issued nobody; ZCOUNT K:issued 0 0; ZCARD K:issued;
    EXEC; SCAN 0 COUNT 1; TIME; ROLE";

async fn check_redis(redis: &Redis, keys: &KeyPattern, report: &mut Report) -> RedisResult<()> {
    let version = redis.server_version().await?;
    report.fine(format_args!("reachable, version {}", version.as_deref().unwrap_or("unknown")));
    report.fine(format_args!("connected to {}", redis.place()));
    match redis.is_primary().await {
        Ok(true) => report.fine("takes writes"),
        Ok(false) if redis.finds_primary() => report.fail("has just become a replica; try again"),
        Ok(false) => report.fail("is a replica; point --redis-url at the primary"),
        Err(error) => report.fail(format_args!("ROLE is refused, allow it: {}", wording(&error))),
    }
    let this = env!("CARGO_PKG_VERSION");
    match redis.module_version().await.map(|version| version.map(shown)) {
        Ok(Some(module)) if is_of_one_release(&module, this) => report.fine(format_args!("the module is {module}")),
        Ok(Some(module)) => {
            report.fail(format_args!("the module is {module}, this is {this}; take both from one release"))
        }
        Ok(None) => report.fail("the coupon module is not loaded; start Redis with --loadmodule libcoupon.so"),
        Err(error) => report.warn(format_args!("the module's version is not known: {}", wording(&error))),
    }
    let refused = refused_commands(redis, &keys.key("coupon-reconciler-check"), &keys.key(TOKEN_ID)).await;
    report.complete("permissions", &refused);
    check_settings(redis, report).await;
    Ok(())
}

/// The commands that are refused, with the reason.
async fn refused_commands(redis: &Redis, key: &str, token: &str) -> Vec<String> {
    let (grants, issued) = (format!("{key}{GRANTS}"), format!("{key}{ISSUED}"));
    let word = |word| match word {
        "K" => key,
        "TOKEN" => token,
        "K:grants" => &grants,
        "K:issued" => &issued,
        word => word,
    };
    let mut refused = Vec::new();
    for call in CALLS.split(';') {
        let call: Vec<&str> = call.split_whitespace().map(word).collect();
        refused.extend(redis.may(&call).await.err().map(|error| format!("{}: {}", call[0], wording(&error))));
    }
    refused.extend(redis.subscribe().await.err().map(|error| format!("SUBSCRIBE: {}", wording(&error))));
    refused
}

async fn check_settings(redis: &Redis, report: &mut Report) {
    match redis.config("maxmemory-policy").await.ok().flatten().as_deref() {
        Some("noeviction") => report.fine("maxmemory-policy noeviction"),
        Some(policy) => report.fail(format_args!("maxmemory-policy {policy} may evict coupons; set noeviction")),
        None => return report.warn("CONFIG GET is refused, so its settings are not known"),
    }
    let setting = async |name| redis.config(name).await.ok().flatten().unwrap_or_default();
    match (&*setting("appendonly").await, &*setting("appendfsync").await) {
        ("yes", "always") => report.fine("appendfsync always: nothing acknowledged is lost"),
        ("yes", "everysec") => report.fine("appendfsync everysec: a power cut loses a second of what is no row yet"),
        ("yes", other) => {
            report.warn(format_args!("appendfsync {other}: a power cut loses more; set everysec or always"))
        }
        _ => report.warn("appendonly no: a restart loses all since the last RDB file; set appendonly yes"),
    }
}

fn shown(version: u64) -> String {
    format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
}

/// A difference in the last part is no difference in the protocol.
fn is_of_one_release(one: &str, other: &str) -> bool {
    let release = |version: &str| version.rsplit_once('.').map(|(release, _)| release.to_owned());
    release(one) == release(other)
}

async fn check_postgresql(ledger: &Ledger, report: &mut Report) -> Result<(), Error> {
    ledger.ping().await?;
    for requirement in Requirement::ALL {
        match ledger.require(requirement).await {
            Ok(()) => report.fine(format_args!("{} are as required", format!("{requirement:?}").to_lowercase())),
            Err(Error::Held(advice)) => {
                report.fail(advice);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if requirement == Requirement::Sessions {
            check_server(ledger, report).await?;
        }
    }
    Ok(())
}

async fn check_server(ledger: &Ledger, report: &mut Report) -> Result<(), Error> {
    report.fine(format_args!("reachable, version {}", ledger.setting("server_version").await?));
    let tls = ledger.tls_version().await?;
    report.fine(tls.map_or("connected without TLS".to_owned(), |version| format!("connected by {version}")));
    if ledger.setting("transaction_read_only").await? == "on" {
        report.fail("takes no writes; is it a standby? Point --database-url at the primary");
    }
    if ledger.setting("fsync").await? == "off" {
        report.warn("fsync is off: a crash loses rows that Redis takes for persisted; set it on");
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
            assert_eq!(is_of_one_release(&shown(module), env!("CARGO_PKG_VERSION")), fits, "{module} {own}");
        }
        assert!(own >= 100 && shown(own) == env!("CARGO_PKG_VERSION"));
    }
}
