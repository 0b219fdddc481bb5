//! COUPON.ISSUE key [COUNT n]

use crate::counters::{self, Counter};
use crate::fence;
use crate::redis::{Reply, Server, Str, Text, Write};
use crate::request::foreign_entry;
use crate::sale::Sale;
use crate::settings::ISSUE_MAX;
use coupon_core::coupon::{Coupon, Cursor};
use coupon_core::issue::{decide, parse, status_after};
use coupon_core::number::Arrival;
use coupon_core::refusal::{Refusal, quote};
use coupon_core::user::UserId;
use std::sync::atomic::Ordering;

/// Grants units to the next waiting users.
///
/// # Errors
/// Any refusal but those of the reconciler's side.
pub fn call(server: &Server, key: &Str, args: &[Str]) -> Result<Reply, Refusal> {
    let count = parse(args.iter().map(Str::bytes))?;
    let mut sale = Sale::<Write>::of(server, key)?;
    let before = sale.coupon()?;

    let now = fence::now(server);
    let requested = sale.requested()?;
    let issue_max = ISSUE_MAX.load(Ordering::Relaxed).unsigned_abs();
    let wanted = decide(&before, requested, count, issue_max, fence::moment(now))?;

    let next = next_in_line(&mut sale, before.granted_to.as_ref(), wanted)?;
    sale.open()?;
    let mut after = Coupon::clone(&before);
    let now_ms = Text::count(now.ms());
    for (user, arrival) in &next.users {
        // Valid: it was read before, in `next_in_line`.
        let Ok(id) = UserId::parse(user.bytes()) else { break };
        if !sale.append(&mut after, user, id, *arrival, &now_ms)? {
            break;
        }
    }
    let granted = after.position.seq.0.saturating_sub(before.position.seq.0);
    if wanted > 0 && granted == 0 {
        return Err(foreign_entry());
    }
    after.status = status_after(&after, requested, now);
    let last = usize::try_from(granted).unwrap_or(usize::MAX).wrapping_sub(1);
    if let Some((user, arrival)) = next.users.get(last) {
        sale.appended();
        // Only where the next in line shares the score does the cursor have to name a user.
        let user = next.ends_in_tie.then(|| String::from_utf8_lossy(user.bytes()).into_owned());
        after.granted_to = Some(Cursor { arrival: *arrival, user });
        // A set that was filled by hand: from now on it must be there.
        after.first_at = before.first_at.or_else(|| next.users.first().map(|(_, first)| *first));
    }
    sale.turn_into(Some(&before), after)?;
    counters::add(Counter::Issued, granted);
    Ok(Reply::Count(granted))
}

/// The users to grant, in order.
struct Next {
    users: Vec<(Text, Arrival)>,
    ends_in_tie: bool,
}

/// Reads the next waiting users, and whether another one with the last one's score follows.
fn next_in_line(sale: &mut Sale<'_, Write>, granted_to: Option<&Cursor>, wanted: u64) -> Result<Next, Refusal> {
    let mut next = Next { users: Vec::new(), ends_in_tie: false };
    if wanted == 0 {
        return Ok(next);
    }
    // `wanted` is bounded by the users who wait and by coupon.issue-max, both checked before.
    let is_enough = |users: &Vec<_>| users.len() as u64 == wanted;
    next.users.reserve_exact(usize::try_from(wanted).unwrap_or(0));
    for (user, score) in sale.behind(granted_to, wanted.saturating_add(1))? {
        if is_enough(&next.users) {
            next.ends_in_tie = next.users.last().is_some_and(|(_, last)| last.score() == score);
            break;
        }
        match (UserId::parse(user.bytes()), Arrival::from_score(score)) {
            (Ok(_), Some(arrival)) => next.users.push((user, arrival)),
            // Those before it are served first; then the error says why the line has stopped.
            _ if !next.users.is_empty() => break,
            _ => {
                return Err(Refusal::usage(format!(
                    "the next in line in the :issued key, {} with score {score}, is no user id of 1 to 128 bytes of UTF-8 with an arrival time in µs; ZREM it",
                    quote(user.bytes())
                )));
            }
        }
    }
    if next.users.is_empty() {
        return Err(Refusal::usage(
            "users wait in the :issued key with scores below those already granted, so they were added by hand; ZREM them and let them request",
        ));
    }
    Ok(next)
}
