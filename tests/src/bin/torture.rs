//! Breaks real servers in a loop and checks the promises after each fault.

use clap::Parser;
use coupon_tests::torture::run::{Plan, names, run};
use std::process::ExitCode;
use std::time::Duration;

/// Breaks real servers in a loop, under load, and checks after each fault what must hold: never more grants than
/// units, one per user, in order of arrival without a gap, nothing acknowledged and durable lost, PERSISTED only with
/// its row. Prints how many faults of which kind were survived. Exit code 1 at the first broken promise, with the
/// command that plays its round again.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// How long, in minutes; each scenario is played at least once.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,

    /// What decides all chances; by default another one each time.
    #[arg(long)]
    seed: Option<u64>,

    /// Only this scenario.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(names()))]
    scenario: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let seed = cli.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    println!("seed {seed}");
    // The broken promise is in the report; the place in the code helps only with a backtrace.
    let time = Duration::from_secs_f64(cli.minutes * 60.0);
    let report = run(&Plan { time, seed, only: cli.scenario, is_verbose: true });
    println!("{} rounds", report.rounds);
    for (kind, faults) in &report.survived {
        println!("{faults:>8}  {kind}");
    }
    println!("{:>8}  faults survived in all", report.faults());
    match report.broken {
        None => ExitCode::SUCCESS,
        Some(broken) => {
            println!("BROKEN {broken}");
            ExitCode::FAILURE
        }
    }
}
