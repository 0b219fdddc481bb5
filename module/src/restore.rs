//! COUPON.RESTORE key EPOCH e [AFTER k CHAIN c GRANTS n user requested_at granted_at [user requested_at granted_at …]]

use crate::counters::{self, Counter};
use crate::fault::Fault;
use crate::redis::{Access, Arg, AsRedis, Reply, Server, Text};
use crate::sale::Sale;
use crate::settings::STREAM_KEEP;
use coupon_core::coupon::{Arrival, Coupon, Cursor, Field};
use coupon_core::refusal::{Refusal, quote};
use coupon_core::restore::{History, Restore, SHUT, UNSHUT, finish};
use coupon_core::user::UserId;
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Shuts the gate; with a history, which needs it shut before, drops what Redis granted beyond the common part, and takes
/// over the ledger's grants.
///
/// # Errors
/// Any.
pub fn call(server: &Server, args: &[Arg]) -> Result<Reply, Refusal> {
    let [key, rest @ ..] = args else { return Err(Refusal::usage("wrong number of arguments")) };
    let restore = Restore::parse(rest.iter().map(Arg::bytes))?;
    let mut sale = Sale::open(server, key, Access::Write)?;
    let before = sale.coupon_if_any()?.ok_or(Refusal::NoCoupon)?;
    let shut = match restore.shut(&before) {
        Err(Refusal::TryAgain(UNSHUT)) if Fault::RestoreUnshut.is_on() => {
            Coupon { epoch: restore.epoch, fence: Some(SHUT), ..(*before).clone() }
        }
        shut => shut?,
    };
    let Some(history) = restore.history else {
        if shut != *before {
            sale.set(&[(Field::Epoch, Text::count(shut.epoch.0)), (Field::Fence, fence(&shut))]);
        }
        return Ok(Reply::Done);
    };
    let cut = history.cut(shut, |seq| {
        let grant = sale.grants.find(seq)?;
        let score = sale.issued.score(&Text::new(grant.user.as_bytes()))?;
        Some((grant.chain, Cursor { arrival: Arrival::from_score(score)?, user: Some(grant.user) }))
    })?;
    let placed = place_all(&mut sale, &cut, &history)?;

    // Everything is checked; from here on all is written.
    // Before the first grant nothing of a stream is common, also where a new hash does not know of it.
    if cut.position != before.position || cut.position.seq.0 == 0 {
        // What is left of the stream are rows of the ledger, or grants that never were; the last of the batch below
        // is appended anew, which is all that has to stay.
        sale.drop_grants();
    }
    let mut coupon = cut;
    let keep = usize::try_from(STREAM_KEEP.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
    let first_kept = history.grants.len().saturating_sub(keep.saturating_add(1));
    let mut joined = Vec::with_capacity(placed.len());
    for (index, (granted, arrival)) in history.grants.iter().zip(&placed).enumerate() {
        let Some(user) = rest.get(granted.argument) else { break };
        if index < first_kept {
            coupon.grant(granted.user, granted.requested_at);
        } else if !sale.append(
            &mut coupon,
            user,
            granted.user,
            granted.requested_at,
            &Text::count(granted.granted_at_ms),
        ) {
            // Only an epoch in the stream above the ledger's could stand in the way: somebody else's entries.
            sale.drop_grants();
            if !sale.append(&mut coupon, user, granted.user, granted.requested_at, &Text::count(granted.granted_at_ms))
            {
                break;
            }
        }
        joined.push((*arrival, user));
    }
    sale.join_all(&joined);
    sale.trim(u64::try_from(keep).unwrap_or(u64::MAX).saturating_add(1));
    let after = finish(coupon, placed.iter().max().copied());
    let mut fields = fields(&after);
    if Fault::RemainingNotRestored.is_on() {
        fields.retain(|(field, _)| !matches!(field, Field::Remaining | Field::Seq));
    }
    sale.set(&fields);
    counters::add(Counter::Restored, history.grants.len() as u64);
    // Places in line may have changed: each client is told how things stand, and may wait again.
    sale.wake_all();
    Ok(Reply::Done)
}

/// Finds the place of each grant in the sorted set.
fn place_all(sale: &mut Sale<'_>, cut: &Coupon, history: &History<'_>) -> Result<Vec<Arrival>, Refusal> {
    if sale.requested() < cut.position.seq.0 {
        return Err(Refusal::TryAgain(
            "the :issued key lacks users who are granted before the common part; restore from the start, AFTER 0 CHAIN 0",
        ));
    }
    let batch: HashSet<&[u8]> = history.grants.iter().map(|granted| granted.user.as_bytes()).collect();
    let covers =
        |score: f64, user: UserId<'_>| cut.granted_to.as_ref().is_some_and(|cursor| cursor.covers(score, user));
    for granted in &history.grants {
        let score = sale.issued.score(&Text::new(granted.user.as_bytes()));
        if score.is_some_and(|score| covers(score, granted.user)) {
            return Err(Refusal::usage(format!(
                "user {} is granted already before this batch",
                quote(granted.user.as_bytes())
            )));
        }
    }
    let start = cut.granted_to.as_ref().map_or(f64::NEG_INFINITY, |cursor| cursor.arrival.score());
    let first_waiting = sale.issued.since(start).find(|member| {
        let bytes = member.user.bytes();
        !batch.contains(bytes) && !UserId::parse(bytes).is_ok_and(|user| covers(member.score, user))
    });
    history.places(first_waiting.map(|member| member.score))
}

fn fields(coupon: &Coupon) -> Vec<(Field, Text)> {
    let mut fields = vec![
        (Field::Status, Text::new(coupon.status.word().as_bytes())),
        (Field::Remaining, Text::count(coupon.remaining())),
        (Field::Epoch, Text::count(coupon.epoch.0)),
        (Field::Seq, Text::count(coupon.position.seq.0)),
        (Field::Chain, Text::number(coupon.position.chain.0)),
        (Field::Persisted, Text::count(coupon.persisted.0)),
        (Field::Fence, fence(coupon)),
    ];
    if let Some(first_at) = coupon.first_at {
        fields.push((Field::FirstAt, Text::count(first_at.0)));
    }
    if let Some(cursor) = &coupon.granted_to {
        let text = cursor.encode();
        fields.push((Field::GrantedTo, Text::new(text.as_bytes())));
        fields.push((Field::PersistedTo, Text::new(text.as_bytes())));
    }
    fields
}

fn fence(coupon: &Coupon) -> Text {
    Text::count(coupon.fence.unwrap_or_default().0)
}
