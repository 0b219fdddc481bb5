//! Playing rounds until the time is over.

use super::{SCENARIOS, Scenario, Survived, count};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// What to play.
pub struct Plan {
    /// Until when.
    pub time: Duration,
    /// What decides all chances.
    pub seed: u64,
    /// Only this scenario.
    pub only: Option<String>,
    /// Whether to tell of each round.
    pub is_verbose: bool,
}

/// What came of it.
pub struct Report {
    /// Rounds played to their end.
    pub rounds: u64,
    /// Faults survived.
    pub survived: Survived,
    /// The broken promise that ended it, with how to play its round again.
    pub broken: Option<String>,
}

/// Plays rounds, the scenarios in turn, at least one of each.
///
/// # Panics
/// If there is no scenario of that name.
#[must_use]
pub fn run(plan: &Plan) -> Report {
    let is_chosen = |scenario: &&Scenario| match plan.only.as_deref() {
        Some(name) => name == scenario.name,
        None => plan.time >= scenario.time_min,
    };
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(is_chosen).collect();
    assert!(!chosen.is_empty(), "no such scenario; there are: {}", names().join(", "));
    let end = Instant::now() + plan.time;
    let mut report = Report { rounds: 0, survived: Survived::new(), broken: None };
    for (turn, scenario) in (0_u64..).zip(chosen.iter().cycle()) {
        if Instant::now() >= end && report.rounds >= chosen.len() as u64 {
            break;
        }
        // A round can be played alone by its own seed.
        let seed = plan.seed.wrapping_add(turn / chosen.len() as u64);
        match catch_unwind(AssertUnwindSafe(|| (scenario.round)(&mut fastrand::Rng::with_seed(seed)))) {
            Ok(survived) => {
                report.rounds += 1;
                for (kind, faults) in survived {
                    count(&mut report.survived, kind, faults);
                }
                if plan.is_verbose {
                    let left = end.saturating_duration_since(Instant::now()).as_secs();
                    eprint!("\r\x1b[K{} rounds, {} faults survived, {left} s left   ", report.rounds, report.faults());
                    let _ = std::io::stderr().flush();
                }
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                let name = scenario.name;
                report.broken = Some(format!(
                    "{name}: {}\n  again: torture --scenario {name} --seed {seed} --minutes 0",
                    text.unwrap_or_else(|| "a panic without text".into())
                ));
                break;
            }
        }
    }
    if plan.is_verbose {
        eprintln!();
    }
    report
}

/// The names of all scenarios.
#[must_use]
pub fn names() -> Vec<&'static str> {
    SCENARIOS.iter().map(|scenario| scenario.name).collect()
}

impl Report {
    /// All faults survived.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.survived.values().sum()
    }
}
