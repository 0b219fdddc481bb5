//! `restore`: what the daemon does by itself where that is safe, for one coupon and on an operator's word.

use super::signal;
use crate::cli;
use crate::coupon::Tools;
use crate::error::{Error, Exit, Failure, Remedy};

/// Restores one coupon.
pub async fn restore(mut tools: Tools, args: &cli::Restore) -> Result<Exit, Failure> {
    tools.redis.now_ms().await?;
    tools.ledger.ping().await?;
    tools.stop = signal::listen()?;
    let id = &*args.coupon;
    let key = tools.keys.key(id);
    if !args.yes && tools.redis.has_lost_its_line(&key).await.map_err(|error| failed(id, &error.into()))? {
        let why = format!(
            "{key}{} is gone, and with it the line of those who waited; how many there were is not known. Users with a \
             row come back, the others have to ask again. If no copy of that key can be brought back, add --yes",
            coupon_core::key::ISSUED
        );
        return Err(Failure::new(Exit::Usage, why));
    }
    let done = tools.coupon(id).restore(args.from_start).await.map_err(|error| failed(id, &error))?;
    let place = done.row.map_or_else(String::new, |row| format!("epoch {}, {}", row.epoch, row.position));
    let (restored, orphans) = (tools.counters.restored.get(), tools.counters.orphans.get());
    if restored + orphans == 0 {
        println!("nothing was to be restored: Redis holds what the ledger holds ({place}); --from-start restores all");
    } else {
        println!("restored: {restored} grants sent, {orphans} in coupon_orphan; coupon {id} is open ({place})");
    }
    Ok(Exit::Ok)
}

fn failed(id: &str, error: &Error) -> Failure {
    let failure = |why: &str| Failure::new(Exit::Failed, format!("coupon {id}: {why}"));
    let next = match error.remedy() {
        _ if matches!(error, Error::Stopping) => {
            "the coupon stays shut until this is run again, or a reconciler goes on"
        }
        Remedy::Compare => "a reconciler works on it too; run this again if `coupon-reconciler status` shows it shut",
        remedy @ (Remedy::Stop(_) | Remedy::Doubt(_)) => return failure(&remedy.worded(error)),
        _ => "`coupon-reconciler check` says what is missing",
    };
    failure(&format!("{error}; {next}"))
}
