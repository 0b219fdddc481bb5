//! `check`: whether the daemon could work here, one line per finding.

use crate::error::Error;
use crate::exit::Exit;
use crate::ledger::Ledger;
use crate::redis::{MODULE_NAME, Redis, wording};
use coupon_core::key::KeyPattern;

/// What was found.
enum Finding {
    Ok(String),
    /// It works, and could be safer.
    Warn(String),
    /// It does not work.
    Fail(String),
}

use Finding::{Fail, Ok as Fine, Warn};

/// Looks at everything and prints what it finds.
pub async fn check(redis: &Redis, ledger: &Ledger, keys: &KeyPattern) -> Exit {
    let mut failed = false;
    for (name, findings) in [("redis", check_redis(redis, keys).await), ("postgresql", check_postgresql(ledger).await)]
    {
        for finding in findings {
            let (word, text) = match finding {
                Fine(text) => ("ok  ", text),
                Warn(text) => ("warn", text),
                Fail(text) => {
                    failed = true;
                    ("FAIL", text)
                }
            };
            println!("{word}  {name}: {text}");
        }
    }
    if failed { Exit::Failed } else { Exit::Ok }
}

async fn check_redis(redis: &Redis, keys: &KeyPattern) -> Vec<Finding> {
    let mut findings = Vec::new();
    let version = match redis.server_info("server", "redis_version").await {
        Ok(version) => version.unwrap_or_else(|| "unknown".to_owned()),
        Err(error) => return vec![Fail(format!("cannot be reached: {}", wording(&error)))],
    };
    findings.push(Fine(format!("reachable, version {version}")));
    findings.push(Fine(format!("connected to {}", redis.describe())));
    findings.push(match redis.is_primary().await {
        Ok(true) => Fine("takes writes".into()),
        Ok(false) if redis.finds_primary() => Fail("has just become a replica; try again".into()),
        Ok(false) => Fail("is a replica; point --redis-url at the primary".into()),
        Err(error) => Fail(format!("ROLE is refused: {}; allow it for the reconciler's user", wording(&error))),
    });
    findings.push(match redis.module_version().await {
        Ok(Some(version)) => judge_version(version, own_version()),
        Ok(None) => Fail("the coupon module is not loaded; start Redis with --loadmodule libcoupon.so".into()),
        Err(error) => {
            Warn(format!("MODULE LIST is refused, so the module's version is not known: {}", wording(&error)))
        }
    });
    findings.push(check_permissions(redis, keys).await);
    findings.extend(check_settings(redis).await);
    findings
}

/// Every command that the daemon sends, in a call that changes nothing.
async fn check_permissions(redis: &Redis, keys: &KeyPattern) -> Finding {
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
        Fine("permissions are complete".into())
    } else {
        Fail(format!("commands are refused: {}", refused.join("; ")))
    }
}

async fn check_settings(redis: &Redis) -> Vec<Finding> {
    let mut findings = Vec::new();
    match redis.config("maxmemory-policy").await {
        Ok(Some(policy)) if policy == "noeviction" => findings.push(Fine("maxmemory-policy noeviction".into())),
        Ok(Some(policy)) => findings.push(Fail(format!(
            "maxmemory-policy {policy} may evict a coupon's keys, so no coupon can be opened; set noeviction"
        ))),
        Ok(None) | Err(_) => findings.push(Warn("CONFIG GET is refused, so its settings are not known".into())),
    }
    if let Ok(Some(appendonly)) = redis.config("appendonly").await {
        let fsync = redis.config("appendfsync").await.ok().flatten().unwrap_or_default();
        findings.push(match (appendonly.as_str(), fsync.as_str()) {
            ("yes", "always") => Fine("appendonly yes, appendfsync always: nothing acknowledged is lost".into()),
            ("yes", "everysec") => Fine(
                "appendonly yes, appendfsync everysec: a power cut loses up to a second of requests that are no rows yet"
                    .into(),
            ),
            ("yes", other) => Warn(format!(
                "appendfsync {other}: a power cut loses what the system had not written; set everysec or always"
            )),
            _ => Warn("appendonly no: a restart loses all since the last RDB file; set appendonly yes".into()),
        });
    }
    findings
}

/// The version of this binary as the module counts its own.
fn own_version() -> u64 {
    let mut parts = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let mut part = || parts.next().unwrap_or(0);
    part() * 10_000 + part() * 100 + part()
}

/// A difference in the last part is no difference in the protocol.
fn judge_version(module: u64, own: u64) -> Finding {
    let show = |version: u64| format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100);
    if module / 100 == own / 100 {
        Fine(format!("module {MODULE_NAME} {}", show(module)))
    } else {
        Fail(format!("module {MODULE_NAME} is {}, this is {}; take both from one release", show(module), show(own)))
    }
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

async fn check_postgresql(ledger: &Ledger) -> Vec<Finding> {
    if let Err(error) = ledger.ping().await {
        return vec![Fail(format!("cannot be reached: {}", Error::Ledger(error).cause()))];
    }
    match postgresql_findings(ledger).await {
        Ok(findings) => findings,
        Err(error) => vec![Fail(format!("cannot be examined: {error}"))],
    }
}

async fn postgresql_findings(ledger: &Ledger) -> Result<Vec<Finding>, Error> {
    let mut findings = vec![Fine(format!("reachable, version {}", ledger.setting("server_version").await?))];
    findings.push(Fine(format!("connected {}", ledger.describe_tls().await?)));
    if ledger.setting("transaction_read_only").await? == "on" {
        findings.push(Fail("takes no writes; is it a standby? Point --database-url at the primary".into()));
    }
    if ledger.setting("fsync").await? == "off" {
        findings.push(Warn("fsync is off: a crash loses rows that Redis takes for persisted; set it on".into()));
    }
    let schema = ledger.schema().await?;
    match schema.advice() {
        Some(advice) => {
            findings.push(Fail(advice));
            return Ok(findings);
        }
        None => findings.push(Fine("schema is current".into())),
    }
    let mut missing = Vec::new();
    for (table, privilege) in PRIVILEGES {
        if !ledger.has_privilege(table, privilege).await? {
            missing.push(format!("grant {} on {table} to this role", privilege.to_lowercase()));
        }
    }
    findings.push(if missing.is_empty() {
        Fine("privileges are complete".into())
    } else {
        Fail(format!("privileges are missing: {}", missing.join("; ")))
    });
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_fits_up_to_its_last_number() {
        for (module, own, fits) in [(100, 100, true), (103, 100, true), (200, 100, false), (10_100, 100, false)] {
            assert_eq!(matches!(judge_version(module, own), Fine(_)), fits, "{module} {own}");
        }
        assert!(own_version() >= 100);
    }
}
