//! The short form of `make torture`: every scenario, some minutes long.

use coupon_tests::loss::{CRASHES, play};
use coupon_tests::torture::run::{Plan, run};
use std::time::Duration;

/// How long, unless `COUPON_TORTURE_SECONDS` says otherwise.
const SECONDS: u64 = 300;

#[test]
fn what_is_said_to_lose_nothing_loses_nothing() {
    let mut random = fastrand::Rng::new();
    for crash in CRASHES {
        let loss = play(&crash, &mut random);
        assert!(loss.acknowledged > 0, "{}: nobody was answered", crash.name);
        if crash.is_lossless() {
            assert_eq!(loss.lost, 0, "{}", crash.name);
        } else {
            assert!(loss.lost > 0, "{}: a cut that takes nothing was none", crash.name);
        }
    }
}

#[test]
fn no_fault_breaks_a_promise() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let time = Duration::from_secs(setting("COUPON_TORTURE_SECONDS").unwrap_or(SECONDS));
    let seed = setting("COUPON_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    let report = run(&Plan { time, seed, only: None, is_verbose: false });
    println!("seed {seed}, {} rounds, {:?}", report.rounds, report.survived);
    assert_eq!(report.broken, None, "seed {seed}");
}
