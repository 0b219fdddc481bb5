//! COUPON.ACK key EPOCH e SEQ n

use crate::counters::{self, Counter};
use crate::fault::Fault;
use crate::redis::{Access, Arg, AsRedis, Reply, Server, Text};
use crate::sale::Sale;
use crate::settings::STREAM_KEEP;
use coupon_core::coupon::{Coupon, Cursor, Field};
use coupon_core::ledger::Ack;
use coupon_core::message;
use coupon_core::refusal::Refusal;
use std::sync::atomic::Ordering;

/// Records what is persisted, and trims the entries before it.
///
/// # Errors
/// Any but DIVERGED.
pub fn call(server: &Server, args: &[Arg]) -> Result<Reply, Refusal> {
    let [key, rest @ ..] = args else { return Err(Refusal::usage("wrong number of arguments")) };
    let ack = Ack::parse(rest.iter().map(Arg::bytes))?;
    let mut sale = Sale::open(server, key, Access::Write)?;
    let coupon = sale.coupon()?;
    if !Fault::AckBlind.is_on() && !ack.decide(&coupon, server.token())? {
        return Ok(Reply::Done);
    }
    let persisted_to = if ack.seq == coupon.position.seq {
        coupon.granted_to.clone()
    } else {
        // The user is named in case the next grant has the same score.
        sale.grants.find(ack.seq).map(|grant| Cursor { arrival: grant.requested_at, user: Some(grant.user) })
    };
    let Some(persisted_to) = persisted_to else {
        return Err(Refusal::TryAgain(
            "the :grants key has lost the entry to acknowledge; let the reconciler restore it",
        ));
    };
    sale.set(&[
        (Field::Persisted, Text::count(ack.seq.0)),
        (Field::PersistedTo, Text::new(persisted_to.encode().as_bytes())),
    ]);
    counters::add(Counter::Acknowledged, 1);
    // Entries have no gaps, so a length says exactly which stay: entry n, those after it, and those to keep.
    let keep = STREAM_KEEP.load(Ordering::Relaxed).unsigned_abs();
    let mut unpersisted = coupon.position.seq.0.saturating_sub(ack.seq.0);
    if Fault::TrimUnpersisted.is_on() {
        unpersisted = 0;
    }
    sale.trim(unpersisted.saturating_add(1).saturating_add(keep));
    let after = Coupon { persisted: ack.seq, persisted_to: Some(persisted_to), ..Coupon::clone(&coupon) };
    sale.wake(&after);
    let moment = server.moment(server.now());
    if coupon.grantable(moment) == 0 && after.grantable(moment) > 0 && after.waiting(sale.requested()) > 0 {
        // ISSUE had to wait for the ledger, and whoever calls it has been told that there is nothing to do.
        server.publish(message::WAITING, key);
    }
    sale.remember(after);
    Ok(Reply::Done)
}
