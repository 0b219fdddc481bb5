//! `health`: whether the daemon that runs here is ready, for a container's health check: an image without a shell has no
//! other program to ask with.

use super::print;
use crate::cli;
use crate::error::{Exit, Failure};
use crate::show::fetch;

/// The daemon's own words, and its verdict as the exit code.
pub async fn health(args: &cli::Health) -> Result<Exit, Failure> {
    let answer = fetch::get(args.listen, "/readyz").await.map_err(|nobody| Failure { exit: Exit::Failed, ..nobody })?;
    print(|out| out.write_all(answer.body()))?;
    Ok(if answer.status().is_success() { Exit::Ok } else { Exit::Failed })
}
