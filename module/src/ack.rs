//! COUPON.ACK key EPOCH e SEQ n

use crate::counters::{self, Counter};
use crate::fence;
use crate::redis::{Reply, Server, Str, Write};
use crate::sale::Sale;
use crate::settings::STREAM_KEEP;
use coupon_core::coupon::{Coupon, Cursor};
use coupon_core::ledger::Ack;
use coupon_core::message;
use coupon_core::number::Seq;
use coupon_core::refusal::Refusal;
use std::sync::atomic::Ordering;

/// Records what is persisted, and trims the entries before it.
///
/// # Errors
/// Any but DIVERGED.
pub fn call(server: &Server, key: &Str, args: &[Str]) -> Result<Reply, Refusal> {
    let ack = Ack::parse(args.iter().map(Str::bytes))?;
    let mut sale = Sale::<Write>::of(server, key)?;
    let coupon = sale.coupon()?;
    if !ack.decide(&coupon, fence::token())? {
        return Ok(Reply::Done);
    }
    sale.open()?;
    let Some(entry) = sale.find(ack.seq, coupon.epoch)? else {
        return Err(Refusal::TryAgain(
            "the :grants key has lost the entry to acknowledge; let the reconciler restore it",
        ));
    };
    let keep = STREAM_KEEP.load(Ordering::Relaxed).unsigned_abs();
    // By its ID and not by a length: others can write to a stream, and what they have put behind must push nothing out.
    let first_kept = match keep {
        0 => Some(entry.id),
        keep => sale.find(Seq(ack.seq.0.saturating_sub(keep).max(1)), coupon.epoch)?.map(|grant| grant.id),
    };
    let persisted_to = if ack.seq == coupon.position.seq {
        coupon.granted_to.clone()
    } else {
        // The user is named in case the next grant has the same score.
        Some(Cursor { arrival: entry.requested_at, user: Some(entry.user) })
    };
    let after = Coupon { persisted: ack.seq, persisted_to, ..Coupon::clone(&coupon) };
    sale.turn_into(Some(&coupon), after.clone())?;
    if let Some(id) = first_kept {
        sale.trim_before(id)?;
    }
    counters::add(Counter::Acknowledged, 1);
    let moment = fence::moment(fence::now(server));
    if coupon.grantable(moment) == 0 && after.grantable(moment) > 0 && after.waiting(sale.requested()?) > 0 {
        // ISSUE had to wait for the ledger, and whoever calls it has been told that there is nothing to do.
        server.publish(message::WAITING, key);
    }
    Ok(Reply::Done)
}
