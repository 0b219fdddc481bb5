//! What a sale tells the person at the terminal.

use crate::load::Shape;
use crate::outcome::Answers;
use crate::verify::{Check, Expected};
use coupon_core::words::Mode;
use hdrhistogram::Histogram;
use std::time::Duration;

/// What is about to happen.
pub fn offer(key: &str, users: u32, expected: &Expected, quantity: u32, mode: Mode) {
    println!("coupon      {key}, {quantity} units, mode {mode}");
    println!("users       {users}, making {} requests", expected.calls);
}

/// Outcomes, rate, latency, rows.
pub fn figures(
    answers: &Answers,
    elapsed: Duration,
    latency: &Histogram<u64>,
    shape: Shape,
    granted: u64,
    last_row: Option<Duration>,
) {
    println!("\noutcomes");
    for (outcome, count) in answers.counts().iter().filter(|(_, count)| *count > 0) {
        println!("  {:<10}{count:>10}", outcome.word());
    }
    if let Some(first) = &answers.first_error {
        println!("  {:<10}{:>10}   {first}", "errors", answers.errors);
    }
    println!(
        "\nrequests    {:.0} per second ({:.2} s)",
        latency.len() as f64 / elapsed.as_secs_f64(),
        elapsed.as_secs_f64()
    );
    let Shape { connections, pipeline } = shape;
    let ms = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "latency     p50 {:.2} ms  p90 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms  max {:.2} ms",
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(0.999),
        ms(1.0)
    );
    println!(
        "            from sending a request to its reply; {connections} connections, {pipeline} in flight on each"
    );
    match last_row {
        Some(time) => println!(
            "rows        the last of {granted} is in PostgreSQL {:.2} s after the first request, {:.0} per second",
            time.as_secs_f64(),
            granted as f64 / time.as_secs_f64()
        ),
        None => println!("rows        fewer than {granted} came, then no more"),
    }
}

/// Each check with its verdict; true if all passed.
pub fn checks(checks: &[Check]) -> bool {
    println!("\nverification");
    for Check { name, fault } in checks {
        match fault {
            None => println!("  ok      {name}"),
            Some(fault) => println!("  FAILED  {name}: {fault}"),
        }
    }
    let failed = checks.iter().filter(|check| check.fault.is_some()).count();
    println!("\n{} checks passed, {failed} failed", checks.len() - failed);
    failed == 0
}
