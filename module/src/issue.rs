//! COUPON.ISSUE key [COUNT n]

use crate::counters::{self, Counter};
use crate::redis::{Access, Arg, AsRedis, Member, Reply, Server, Text};
use crate::request::foreign_entry;
use crate::sale::Sale;
use crate::settings::ISSUE_MAX;
use coupon_core::coupon::{Arrival, Coupon, Cursor};
use coupon_core::issue::{decide, parse, status_after};
use coupon_core::refusal::{Refusal, quote};
use coupon_core::user::UserId;
use std::sync::atomic::Ordering;

/// Grants units to the next waiting users.
///
/// # Errors
/// Any refusal but those of the reconciler's side.
pub fn call(server: &Server, args: &[Arg]) -> Result<Reply, Refusal> {
    let [key, rest @ ..] = args else { return Err(Refusal::usage("wrong number of arguments")) };
    let count = parse(rest.iter().map(Arg::bytes))?;
    let mut sale = Sale::open(server, key, Access::Write)?;
    let before = sale.coupon()?;

    let now = server.now();
    let requested = sale.requested();
    let issue_max = ISSUE_MAX.load(Ordering::Relaxed).unsigned_abs();
    let wanted = decide(&before, requested, count, issue_max, server.moment(now))?;

    let next = next_in_line(&mut sale, before.granted_to.as_ref(), wanted)?;
    let mut after = Coupon::clone(&before);
    let now_ms = Text::count(now.ms());
    for (member, arrival) in &next.members {
        // Valid: it was read before, in `next_in_line`.
        let Ok(user) = UserId::parse(member.user.bytes()) else { break };
        if !sale.append(&mut after, &member.user, user, *arrival, &now_ms) {
            break;
        }
    }
    let granted = after.position.seq.0.saturating_sub(before.position.seq.0);
    if wanted > 0 && granted == 0 {
        return Err(foreign_entry());
    }

    after.status = status_after(&after, requested, now);
    match next.members.get(usize::try_from(granted).unwrap_or(usize::MAX).wrapping_sub(1)) {
        Some((member, arrival)) => {
            // Only where the next in line shares the score does the cursor have to name a user.
            let user = next.ends_in_tie.then(|| String::from_utf8_lossy(member.user.bytes()).into_owned());
            let first = next.members.first().map_or(*arrival, |(_, first)| *first);
            sale.set_granted(&before, after, first, Cursor { arrival: *arrival, user });
        }
        None if after.status != before.status => {
            sale.set_status(after.status);
            sale.wake(&after);
        }
        None => {}
    }
    counters::add(Counter::Issued, granted);
    Ok(Reply::Count(granted))
}

/// The users to grant, in order.
struct Next {
    members: Vec<(Member, Arrival)>,
    ends_in_tie: bool,
}

/// Reads the next waiting users, and whether another one with the last one's score follows.
fn next_in_line(sale: &mut Sale<'_>, granted_to: Option<&Cursor>, wanted: u64) -> Result<Next, Refusal> {
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    // `wanted` is bounded by the users who wait and by coupon.issue-max, both checked before.
    let mut next = Next { members: Vec::with_capacity(wanted), ends_in_tie: false };
    if wanted == 0 {
        return Ok(next);
    }
    let start = granted_to.map_or(f64::NEG_INFINITY, |cursor| cursor.arrival.score());
    for member in sale.issued.since(start) {
        let user = match UserId::parse(member.user.bytes()) {
            Ok(user) if granted_to.is_some_and(|cursor| cursor.covers(member.score, user)) => continue,
            Ok(user) => Some(user),
            Err(_) => None,
        };
        if next.members.len() == wanted {
            next.ends_in_tie = next.members.last().is_some_and(|(last, _)| last.score == member.score);
            break;
        }
        match (user, Arrival::from_score(member.score)) {
            (Some(_), Some(arrival)) => next.members.push((member, arrival)),
            // Those before it are served first; then the error says why the line has stopped.
            _ if !next.members.is_empty() => break,
            _ => {
                return Err(Refusal::usage(format!(
                    "the next in line in the :issued key, {} with score {}, is no user id of 1 to 128 bytes of UTF-8 with an arrival time in µs; ZREM it",
                    quote(member.user.bytes()),
                    member.score
                )));
            }
        }
    }
    if next.members.is_empty() {
        return Err(Refusal::usage(
            "users wait in the :issued key with scores below those already granted, so they were added by hand; ZREM them and let them request",
        ));
    }
    Ok(next)
}
