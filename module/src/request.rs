//! COUPON.REQUEST key user [WITHRANK] and COUPON.MREQUEST key user [user …]

use crate::cache::Members;
use crate::counters;
use crate::event::{self, Event};
use crate::fence;
use crate::redis::{Access, Read, Reply, Server, SortedSet, Str, Text, Write};
use crate::sale::Sale;
use crate::settings::REQUEST_MAX;
use coupon_core::coupon::{Companion, Coupon, Cursor, Moment};
use coupon_core::message;
use coupon_core::number::{Arrival, Now};
use coupon_core::refusal::Refusal;
use coupon_core::request::{Call, Decision, Line, check_order_left, check_users, decide};
use coupon_core::user::UserId;
use coupon_core::words::Outcome;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Decides one request. Who is known not to be in and cannot come in is answered from memory; of others the set is looked
/// into, and the other keys are opened where something is written to them.
///
/// # Errors
/// Any refusal but those of the reconciler's side.
pub fn call(server: &Server, key: &Str, args: &[Str]) -> Result<Reply, Refusal> {
    let [user, rest @ ..] = args else { return Err(Refusal::arity()) };
    let Call { user: id, with_rank } = Call::parse(user.bytes(), rest.iter().map(Str::bytes))?;
    let sale = match Sale::unless(server, key, |coupon, members| turned_at_once(server, coupon, members, user))? {
        ControlFlow::Continue(sale) => sale,
        ControlFlow::Break(outcome) => {
            debug_assert!(is_turned(server, key, user, outcome), "a change of the sorted set was not noticed");
            counters::add(outcome.into(), 1);
            return Ok(if with_rank { Reply::Ranked(outcome.word(), vec![0]) } else { Reply::Word(outcome.word()) });
        }
    };
    let mut round = Round::begin(server, key, sale)?;
    let outcome = round.take(user, id)?;
    counters::add(outcome.into(), 1);
    let requested = round.requested;
    let sale = round.end()?;
    let rank = match outcome {
        Outcome::SoldOut | Outcome::NotOpen | Outcome::Closed => {
            sale.learn();
            0
        }
        // Whoever joins is the last.
        Outcome::Queued | Outcome::Granted => requested,
        Outcome::Duplicate if with_rank => sale.rank(user),
        Outcome::Duplicate => 0,
    };
    Ok(if with_rank { Reply::Ranked(outcome.word(), vec![rank]) } else { Reply::Word(outcome.word()) })
}

/// Decides the requests of several users, one after the other: as so many single calls would, with the keys opened,
/// and the effects written, once.
///
/// # Errors
/// As [`call`]; then nobody of the batch is let in.
pub fn call_many(server: &Server, key: &Str, users: &[Str]) -> Result<Reply, Refusal> {
    check_users(users.len(), REQUEST_MAX.load(Ordering::Relaxed).unsigned_abs())?;
    let ids = users.iter().map(|user| UserId::parse(user.bytes())).collect::<Result<Vec<_>, _>>()?;
    let all_turned = |coupon: &Coupon, members: &Members| {
        users.iter().map(|user| turned_at_once(server, coupon, members, user)).collect::<Option<Vec<_>>>()
    };
    let sale = match Sale::unless(server, key, all_turned)? {
        ControlFlow::Continue(sale) => sale,
        ControlFlow::Break(outcomes) => {
            for (user, outcome) in users.iter().zip(&outcomes) {
                debug_assert!(is_turned(server, key, user, *outcome), "a change of the sorted set was not noticed");
                counters::add((*outcome).into(), 1);
            }
            return Ok(Reply::Words(outcomes.into_iter().map(Outcome::word).collect()));
        }
    };
    let mut round = Round::begin(server, key, sale)?;
    let newest = match round.sale.newest()? {
        Some(newest) => Some(newest.score()),
        None => round.sale.issued()?.highest(),
    };
    check_order_left(&round.before, newest, round.moment.now, users.len())?;
    let mut outcomes = Vec::with_capacity(users.len());
    let mut refusal = None;
    for (user, id) in users.iter().zip(ids) {
        match round.take(user, id) {
            Ok(outcome) => {
                counters::add(outcome.into(), 1);
                outcomes.push(outcome);
            }
            Err(error) => {
                refusal = Some(error);
                break;
            }
        }
    }
    let sale = round.end()?;
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    if outcomes.iter().copied().any(is_turned_away) {
        sale.learn();
    }
    Ok(Reply::Words(outcomes.into_iter().map(Outcome::word).collect()))
}

const fn is_turned_away(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::SoldOut | Outcome::NotOpen | Outcome::Closed)
}

/// The answer for a user who is known not to be in, where nobody comes in: given without opening a key.
fn turned_at_once(server: &Server, coupon: &Coupon, members: &Members, user: &Str) -> Option<Outcome> {
    let requested = members.requested;
    if !members.lack(user.bytes()) || coupon.check_issued(Companion::Holds(requested)).is_err() {
        return None;
    }
    // To read the clock is a twentieth of such an answer.
    let now = if coupon.has_window() { fence::now(server) } else { Now { us: 0 } };
    match decide(coupon, &Turn::<Read> { requested, newest: None, set: None }, fence::moment(now)) {
        Ok(Decision::Turned(outcome)) => Some(outcome),
        // Refusals have their own order and words.
        Ok(Decision::Queue(_) | Decision::Grant(_)) | Err(_) => None,
    }
}

/// Whether the keys say so too. Checking builds ask in every call.
fn is_turned(server: &Server, key: &Str, user: &Str, outcome: Outcome) -> bool {
    let decision = Sale::<Read>::of(server, key).and_then(|mut sale| {
        let coupon = sale.coupon()?;
        let turn = Turn { requested: sale.requested()?, newest: None, set: Some((sale.issued()?, user)) };
        let decision = decide(&coupon, &turn, fence::moment(fence::now(server)))?;
        // A moment later a window may have ended.
        Ok(decision.outcome() == outcome || coupon.has_window() && !turn.is_held())
    });
    decision == Ok(true)
}

/// One user's turn, as the rules see it.
struct Turn<'a, 's, A> {
    requested: u64,
    newest: Option<Arrival>,
    /// The set, and the user to look for in it; none if the user is not in.
    set: Option<(&'a SortedSet<'s, A>, &'a Str)>,
}

impl<A: Access> Line for Turn<'_, '_, A> {
    fn requested(&self) -> u64 {
        self.requested
    }

    fn newest(&self) -> Option<f64> {
        self.newest.map(Arrival::score).or_else(|| self.set.and_then(|(set, _)| set.highest()))
    }

    fn is_held(&self) -> bool {
        self.set.is_some_and(|(set, user)| set.score(user).is_some())
    }
}

/// Users who request in one command, in turn.
struct Round<'a> {
    server: &'a Server,
    key: &'a Str,
    sale: Sale<'a, Write>,
    moment: Moment,
    before: Arc<Coupon>,
    /// The coupon as it is after the grants of this command, if there are any.
    granted: Option<Coupon>,
    requested: u64,
    joined: Vec<(Arrival, &'a Str)>,
    /// Whether the first of those who wait is among them.
    has_first_waiting: bool,
}

impl<'a> Round<'a> {
    fn begin(server: &'a Server, key: &'a Str, mut sale: Sale<'a, Write>) -> Result<Self, Refusal> {
        let before = sale.coupon()?;
        let requested = sale.requested()?;
        let moment = fence::moment(fence::now(server));
        let (granted, joined) = (None, Vec::new());
        Ok(Self { server, key, sale, moment, before, granted, requested, joined, has_first_waiting: false })
    }

    /// Decides one user's request, and writes what was decided; [`Round::end`] replicates it.
    fn take(&mut self, user: &'a Str, id: UserId<'_>) -> Result<Outcome, Refusal> {
        let newest = match self.joined.last() {
            Some((newest, _)) => Some(*newest),
            None => self.sale.newest()?,
        };
        let coupon = self.granted.as_ref().unwrap_or(&self.before);
        let turn = Turn { requested: self.requested, newest, set: Some((self.sale.issued()?, user)) };
        let decision = decide(coupon, &turn, self.moment)?;
        let arrival = match decision {
            Decision::Turned(outcome) => return Ok(outcome),
            Decision::Queue(arrival) => {
                let is_first_waiting = coupon.waiting(self.requested) == 0;
                if self.before.first_at.is_none() {
                    self.sale.open()?;
                }
                if !self.sale.issued()?.add(arrival.score(), user) {
                    return Ok(Outcome::Duplicate);
                }
                self.has_first_waiting |= is_first_waiting;
                event::note(Event::Queued);
                arrival
            }
            Decision::Grant(arrival) => {
                let mut after = coupon.clone();
                self.sale.open()?;
                // The entry comes first: it is the only write that can still be refused, and only that of the first
                // grant of a command, before which nobody has joined.
                if !self.sale.append(&mut after, user, id, arrival, &Text::count(self.moment.now.ms()))? {
                    return Err(foreign_entry());
                }
                self.sale.issued()?.put(arrival.score(), user);
                after.granted_to = Some(Cursor { arrival, user: None });
                self.granted = Some(after);
                arrival
            }
        };
        self.joined.push((arrival, user));
        self.requested = self.requested.saturating_add(1);
        Ok(decision.outcome())
    }

    /// Writes and replicates what follows from all turns.
    fn end(self) -> Result<Sale<'a, Write>, Refusal> {
        let Self { server, key, mut sale, before, granted, joined, has_first_waiting, .. } = self;
        let Some(&(first, _)) = joined.first() else { return Ok(sale) };
        sale.join(&joined);
        if granted.is_some() {
            sale.appended();
        }
        if granted.is_some() || before.first_at.is_none() {
            // From the first request on, the sorted set must exist.
            let first_at = before.first_at.or(Some(first));
            sale.turn_into(Some(&before), Coupon { first_at, ..granted.unwrap_or_else(|| Coupon::clone(&before)) })?;
        } else {
            sale.answers_changed();
        }
        if has_first_waiting {
            server.publish(message::WAITING, key);
        }
        Ok(sale)
    }
}

/// The stream holds an ID at or above the one that comes next, so somebody else has written to it.
pub fn foreign_entry() -> Refusal {
    Refusal::TryAgain(
        "the :grants key holds an entry that this coupon did not write; let the reconciler restore it, or DEL the key if nothing was granted",
    )
}
