//! Measures what a crash takes of what was answered.

use clap::Parser;
use coupon_tests::loss::{CRASHES, HEAD, play, row};

/// Crashes real servers under load, mode by mode, and counts the answered requests of which nothing is left. Prints a table.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Crashes of each kind
    #[arg(long, default_value_t = 20)]
    rounds: usize,

    /// What decides when each one comes
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() {
    let cli = Cli::parse();
    println!("{HEAD}");
    for crash in &CRASHES {
        let mut random = fastrand::Rng::with_seed(cli.seed);
        let losses: Vec<_> = (0..cli.rounds).map(|_| play(crash, &mut random)).collect();
        println!("{}", row(crash.name, &losses));
    }
}
