//! Load generator: a verified sale (`drop`), ours beside what one would use without it (`compare`), and the number of
//! instructions that each command takes (`budget`).

mod budget;
mod callgrind;
mod chart;
mod compare;
mod connection;
mod coupon;
mod findings;
mod ledger;
mod line;
mod load;
mod outcome;
mod page;
#[path = "../peers/mod.rs"]
mod peers;
mod ping;
mod progress;
mod report;
mod sale;
mod server;
mod slices;
mod spread;
mod table;
mod template;
mod verify;

use clap::Parser;
use std::process::ExitCode;

/// Load generator of redis-coupon. Exit code 0: done, every check passed; 1: a check failed, or it could not be run;
/// 2: wrong usage.
#[derive(Parser)]
#[command(version)]
enum Cli {
    /// Hold a sale on a running stack and verify it
    ///
    /// Opens a new coupon by inserting a row into PostgreSQL, lets every user request it over many connections
    /// (and every tenth once more), waits for the last row, then proves from what is stored that the sale was fair.
    Drop(sale::Settings),
    /// Measure ours beside bare Redis commands, Lua scripts, the pattern it grew out of and PostgreSQL alone
    Compare(compare::Settings),
    /// Count the instructions of each command under valgrind, and compare with what is written down
    Budget(budget::Settings),
}

// One thread: the server needs the other cores, and a client that waits for replies has nothing to gain from them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = match Cli::parse() {
        Cli::Drop(settings) => sale::hold(&settings).await,
        Cli::Compare(settings) => compare::run(&settings).await.map(|()| true),
        Cli::Budget(settings) => budget::run(&settings).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
