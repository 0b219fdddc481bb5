//! COUPON.RESTORE key EPOCH e [AFTER k CHAIN c [REFUSED m user …] GRANTS n user requested_at granted_at […]]

use crate::counters::{self, Counter};
use crate::redis::{Reply, Server, Str, Text, Write};
use crate::sale::Sale;
use crate::settings::STREAM_KEEP;
use coupon_core::coupon::{Coupon, Cursor};
use coupon_core::number::{Arrival, Seq};
use coupon_core::refusal::{Refusal, quote};
use coupon_core::restore::{Granted, History, Restore, finish};
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Shuts the gate; with a history, which needs it shut before, drops what Redis granted beyond the common part, and takes
/// over the ledger's grants.
///
/// # Errors
/// Any.
pub fn call(server: &Server, key: &Str, args: &[Str]) -> Result<Reply, Refusal> {
    let restore = Restore::parse(args.iter().map(Str::bytes))?;
    let mut sale = Sale::<Write>::of(server, key)?;
    sale.open()?;
    let before = sale.coupon_if_any()?.ok_or(Refusal::NoCoupon)?;
    let shut = restore.shut(&before)?;
    let Some(history) = restore.history else {
        sale.turn_into(Some(&before), shut)?;
        return Ok(Reply::Done);
    };
    let mut cut = history.cut(shut, |seq| {
        let grant = sale.find(seq, before.epoch).ok()??;
        let score = sale.score(&Text::new(grant.user.as_bytes())).ok()??;
        Some((grant.chain, Cursor { arrival: Arrival::from_score(score)?, user: Some(grant.user) }))
    })?;
    let placed = place_all(&mut sale, &cut, &history)?;
    sale.open()?;
    sale.refused()?;

    // Everything is checked; from here on all is written.
    // Before the first grant nothing of a stream is common, also where a new hash does not know of it.
    if cut.position != before.position || cut.position.seq.0 == 0 {
        // What is left of the stream are rows of the ledger, or grants that never were; the last of the batch below
        // is appended anew, which is all that has to stay.
        sale.drop_grants()?;
    }
    if history.is_from_the_start() {
        // Each comes again with its grant.
        sale.drop_refused()?;
        cut.refused = 0;
    }
    let mut after = cut;
    if !history.refused.is_empty() {
        after.refused = sale.note_refused(&after, &history.refused, &[])?;
    }
    let keep = usize::try_from(STREAM_KEEP.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
    let first_kept = history.grants.len().saturating_sub(keep.saturating_add(1));
    let mut joined = Vec::with_capacity(placed.len());
    for (index, (granted, arrival)) in history.grants.iter().zip(&placed).enumerate() {
        let Some(user) = args.get(granted.argument) else { break };
        if index < first_kept {
            after.grant(granted.user, granted.requested_at);
        } else if !append(&mut sale, &mut after, user, granted)? {
            // Only an epoch in the stream above the ledger's could stand in the way: somebody else's entries.
            sale.drop_grants()?;
            if !append(&mut sale, &mut after, user, granted)? {
                break;
            }
        }
        joined.push((*arrival, user));
    }
    sale.appended();
    sale.place(&joined)?;
    trim(&mut sale, &after, keep)?;
    sale.rewrite(&before, finish(after, placed.iter().max().copied()))?;
    counters::add(Counter::Restored, history.grants.len() as u64);
    Ok(Reply::Done)
}

fn append(sale: &mut Sale<'_, Write>, coupon: &mut Coupon, user: &Str, granted: &Granted<'_>) -> Result<bool, Refusal> {
    sale.append(coupon, user, granted.user, granted.requested_at, &Text::count(granted.granted_at_ms))
}

/// Trims all but the newest entry and so many before it.
fn trim(sale: &mut Sale<'_, Write>, coupon: &Coupon, keep: usize) -> Result<(), Refusal> {
    let keep = u64::try_from(keep).unwrap_or(u64::MAX);
    let first_kept = Seq(coupon.position.seq.0.saturating_sub(keep).max(1));
    match sale.find(first_kept, coupon.epoch)? {
        Some(grant) => sale.trim_before(grant.id),
        None => Ok(()),
    }
}

/// Finds the place of each grant in the sorted set.
fn place_all(sale: &mut Sale<'_, Write>, cut: &Coupon, history: &History<'_>) -> Result<Vec<Arrival>, Refusal> {
    if sale.requested()? < cut.position.seq.0 {
        return Err(Refusal::TryAgain(
            "the :issued key lacks users who are granted before the common part; restore from the start, AFTER 0 CHAIN 0",
        ));
    }
    let cursor = cut.granted_to.as_ref();
    for granted in &history.grants {
        let user = granted.user.as_bytes();
        let score = sale.score(&Text::new(user))?;
        if score.is_some_and(|score| cursor.is_some_and(|cursor| cursor.covers(score, user))) {
            return Err(Refusal::usage(format!("user {} is granted already before this batch", quote(user))));
        }
    }
    let batch: HashSet<&[u8]> = history.grants.iter().map(|granted| granted.user.as_bytes()).collect();
    // One more than could all be of the batch.
    let next = sale.behind(cursor, (batch.len() as u64).saturating_add(1))?;
    let first_waiting = next.iter().find(|(user, _)| !batch.contains(user.bytes()));
    history.places(first_waiting.map(|(_, score)| *score))
}
