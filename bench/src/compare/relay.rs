//! Grants that wait for the reconciler, turned into rows; and what it needs of memory for a million of them.

use super::daemon::{Daemon, await_rows, granted};
use super::place::{GATEWAY, Place};
use crate::findings::Findings;
use crate::line::{Line, Reach, Unit, per_second};
use crate::slices::Side;
use crate::spread::Spread;
use crate::template::{Repeat, Template};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

const ROWS: u32 = 200_000;
const BACKLOG: u32 = 1_000_000;
const ROUNDS: usize = 5;
/// The reconciler's own `--batch-max`.
const BATCH_ROWS: usize = 5000;
/// Between two looks at the ledger; the first and the last look are what the rate stands on.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
const LOOK_PATIENCE: Duration = Duration::from_secs(60);
const INSERT: &str = include_str!("../../peers/insert_unnest.sql");

/// Rounds of relay and psql in turns, then the great backlog.
pub async fn measure(place: &mut Place) -> Result<Findings> {
    let mut found = Findings::default();
    let (mut ours, mut psql) = (Vec::new(), Vec::new());
    let rows = place.scaled(ROWS);
    for round in 0..place.rounds(ROUNDS) {
        let id = format!("bench-relay-{round}");
        let file = if round % 2 == 0 {
            ours.push(relay(place, &id, rows).await?.0);
            let file = write_statements(place, &id).await?;
            psql.push(insert(place, &file, rows).await?);
            file
        } else {
            // The rows have to be there before psql can be given the same ones; they are taken out again.
            let file = place.out.join("insert.sql");
            sqlx::raw_sql("truncate user_coupon").execute(&place.ledger).await?;
            psql.push(insert(place, &file, rows).await?);
            ours.push(relay(place, &id, rows).await?.0);
            file
        };
        if round + 1 == place.rounds(ROUNDS) {
            std::fs::remove_file(file)?;
        }
    }
    let ratio = Spread::of(ours.iter().zip(&psql).map(|(ours, psql)| ours / psql));
    found.lines.push(Line {
        what: "relay, rows into user_coupon".into(),
        ours: per_second(Spread::of(ours.iter().copied()).median),
        peer: "psql INSERT … SELECT unnest, same batches".into(),
        theirs: per_second(Spread::of(psql.iter().copied()).median),
        judged: ratio,
        unit: Unit::Times,
        reach: Some(Reach::AtLeast(0.9)),
        by_cpu: None,
        note: None,
    });
    found.keep("relay in rows per second: reconciler, psql", &(ours, psql))?;

    let backlog = place.scaled(BACKLOG);
    let (rate, peak_mib) = relay(place, "bench-backlog", backlog).await?;
    found.lines.push(Line {
        what: "reconciler memory with a backlog of 1,000,000 grants".into(),
        ours: format!("{peak_mib:.1} MiB"),
        peer: String::new(),
        theirs: String::new(),
        judged: Spread::single(peak_mib),
        unit: Unit::Mebibytes,
        reach: Some(Reach::AtMost(64.0)),
        by_cpu: None,
        note: Some(format!("the most it ever held (VmHWM); relayed at {}", per_second(rate))),
    });
    Ok(found)
}

/// Has the grants made while no reconciler runs, then lets one turn them into rows: rows per second between the first and
/// the last that were seen, and the most memory it held.
async fn relay(place: &mut Place, id: &str, rows: u32) -> Result<(f64, f64)> {
    place.clear().await?;
    let key = format!("coupon:{{{id}}}");
    place.server.run(&["COUPON.OPEN", &key, "QUANTITY", &rows.to_string(), "MODE", "INSTANT"]).await?;
    let template = Template::new(&["COUPON.REQUEST", &key, "{user}"]);
    let side = Side {
        name: "COUPON.REQUEST",
        caller: Repeat::expecting(template, "GRANTED"),
        shape: GATEWAY,
        units_per_call: 1,
    };
    let calls = place.shuffled(0, rows);
    place.send(&side, &calls).await?;

    let daemon = Daemon::start(place)?;
    let (mut first, started) = (None, Instant::now());
    let rate = loop {
        let (now, rows_now) = (Instant::now(), granted(place, id).await?);
        match first {
            None if rows_now > 0 => first = Some((now, rows_now)),
            Some((since, before)) if rows_now >= u64::from(rows) => {
                break (rows_now - before) as f64 / (now - since).as_secs_f64();
            }
            _ if started.elapsed() > LOOK_PATIENCE => bail!("only {rows_now} rows came; see reconciler.log"),
            _ => tokio::time::sleep(LOOK_INTERVAL).await,
        }
    };
    await_rows(place, id, u64::from(rows)).await?;
    let peak = daemon.usage.peak_mib()?;
    daemon.stop().await?;
    Ok((rate, peak))
}

/// The rows of a coupon as psql's input, in the relay's batches, between two looks at the clock.
async fn write_statements(place: &Place, id: &str) -> Result<std::path::PathBuf> {
    let rows: Vec<(String, i64, String, String, i64, i64)> = sqlx::query_as(
        "select user_id, seq, requested_at::text, granted_at::text, epoch, chain from user_coupon
         where coupon_id = $1 order by seq",
    )
    .bind(id)
    .fetch_all(&place.ledger)
    .await?;
    let mut text = String::from("select extract(epoch from clock_timestamp());\n");
    for batch in rows.chunks(BATCH_ROWS) {
        let mut columns: [String; 6] = Default::default();
        for (place, (user, seq, requested, granted, epoch, chain)) in batch.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let [users, seqs, requests, grants, epochs, chains] = &mut columns;
            write!(users, "{comma}{user}")?;
            write!(seqs, "{comma}{seq}")?;
            write!(requests, "{comma}\"{requested}\"")?;
            write!(grants, "{comma}\"{granted}\"")?;
            write!(epochs, "{comma}{epoch}")?;
            write!(chains, "{comma}{chain}")?;
        }
        let mut statement = INSERT.replace(":coupon", "'bench-psql'");
        for (name, column) in [":users", ":seqs", ":requested", ":granted", ":epochs", ":chains"].iter().zip(&columns) {
            statement = statement.replace(name, &format!("'{{{column}}}'"));
        }
        text.push_str(&statement);
    }
    text.push_str("select extract(epoch from clock_timestamp());\n");
    let file = place.out.join("insert.sql");
    std::fs::write(&file, text)?;
    Ok(file)
}

/// Lets psql insert them; rows per second between its two looks at the clock.
async fn insert(place: &Place, file: &Path, rows: u32) -> Result<f64> {
    sqlx::query(
        "insert into coupon (id, name, quantity, status) values ('bench-psql', 'bench', 1000000000, 'STANDARD')
         on conflict do nothing",
    )
    .execute(&place.ledger)
    .await?;
    let output = place
        .program(place.postgres_bin.join("psql"))
        .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--file"])
        .arg(file)
        .arg(&place.database_url)
        .output()
        .await
        .context("psql does not start")?;
    if !output.status.success() {
        bail!("psql: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let times: Vec<f64> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let [start, end] = times.as_slice() else { bail!("psql said: {text}") };
    let held: i64 = sqlx::query_scalar("select count(*) from user_coupon where coupon_id = 'bench-psql'")
        .fetch_one(&place.ledger)
        .await?;
    if held != i64::from(rows) {
        bail!("psql has inserted {held} rows instead of {rows}");
    }
    Ok(f64::from(rows) / (end - start))
}
