//! COUPON.ACK key EPOCH e SEQ n [REFUSED count user …] [PERSISTED count user …]

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

/// Records what is persisted, and trims the entries before it; and of whom the ledger says that there is a row, or none.
///
/// # Errors
/// Any but DIVERGED.
pub fn call(server: &Server, key: &Str, args: &[Str]) -> Result<Reply, Refusal> {
    let ack = Ack::parse(args.iter().map(Str::bytes))?;
    let mut sale = Sale::<Write>::of(server, key)?;
    let coupon = sale.coupon()?;
    let moves = ack.decide(&coupon, fence::token())?;
    if !moves && !ack.names_users() {
        return Ok(Reply::Done);
    }
    sale.open()?;
    if ack.names_users() {
        sale.refused()?;
    }
    if !moves {
        let refused = sale.note_refused(&coupon, &ack.refused, &ack.persisted)?;
        sale.turn_into(Some(&coupon), Coupon { refused, ..Coupon::clone(&coupon) })?;
        return Ok(Reply::Done);
    }
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
    let mut after = Coupon { persisted: ack.seq, persisted_to, ..Coupon::clone(&coupon) };
    if ack.names_users() {
        // First, as whoever waits is told with the persisted ones.
        after.refused = sale.note_refused(&coupon, &ack.refused, &ack.persisted)?;
    }
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
