//! COUPON.REQUEST key user [WITHRANK] and COUPON.MREQUEST key user [user …]

use crate::counters;
use crate::fault::Fault;
use crate::members::Members;
use crate::redis::{Access, Arg, AsRedis, Event, Reply, Server, SortedSet, Text};
use crate::sale::{Glance, Memory, Sale};
use crate::settings::REQUEST_MAX;
use coupon_core::coupon::{Arrival, Companion, Coupon, Cursor, Field, Moment, Now};
use coupon_core::message;
use coupon_core::refusal::Refusal;
use coupon_core::request::{Call, Decision, Line, check_order_left, check_users, decide};
use coupon_core::user::UserId;
use coupon_core::words::Outcome;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Decides one request. Who is known not to be in and cannot come in is answered from memory, others who are turned away
/// at a glance; the other keys are opened for who joins.
///
/// # Errors
/// Any refusal but those of the reconciler's side.
pub fn call(server: &Server, args: &[Arg]) -> Result<Reply, Refusal> {
    let [key, user, rest @ ..] = args else { return Err(Refusal::usage("wrong number of arguments")) };
    let Call { user: id, with_rank } = Call::parse(user.bytes(), rest.iter().map(Arg::bytes))?;
    let memory = match Memory::unless(server, key, |coupon, members| turned_at_once(server, coupon, members, user))? {
        ControlFlow::Continue(memory) => memory,
        ControlFlow::Break(outcome) => {
            debug_assert!(is_turned(server, key, user, outcome), "a change of the sorted set was not noticed");
            counters::add(outcome.into(), 1);
            return Ok(if with_rank { Reply::Ranked(outcome.word(), vec![0]) } else { Reply::Word(outcome.word()) });
        }
    };
    let mut glance = glance_at(memory)?;
    let requested = glance.issued.companion().len();
    let moment = server.moment(server.now());
    let decision = decide(&glance.coupon, &Turn { issued: &glance.issued, newest: None, user }, moment)?;

    let (outcome, issued) = match decision {
        Decision::Turned(outcome) => {
            if outcome != Outcome::Duplicate {
                glance.learn();
            }
            (outcome, Issued::Glanced(glance))
        }
        Decision::Queue(_) | Decision::Grant(_) => {
            let mut turns = Turns::begin(server, key, glance, moment)?;
            let outcome = turns.carry_out(decision, user, id)?;
            (outcome, Issued::Whole(turns.end()))
        }
    };
    counters::add(outcome.into(), 1);
    if !with_rank {
        return Ok(Reply::Word(outcome.word()));
    }
    let rank = match outcome {
        // Whoever joins is the last.
        Outcome::Queued | Outcome::Granted => requested.saturating_add(1),
        Outcome::Duplicate => issued.rank(user),
        Outcome::SoldOut | Outcome::NotOpen | Outcome::Closed => 0,
    };
    Ok(Reply::Ranked(outcome.word(), vec![rank]))
}

/// Decides the requests of several users, one after the other: as so many single calls would, with the keys opened,
/// and the effects written, once.
///
/// # Errors
/// As [`call`]; then nobody of the batch is let in.
pub fn call_many(server: &Server, args: &[Arg]) -> Result<Reply, Refusal> {
    let [key, users @ ..] = args else { return Err(Refusal::usage("wrong number of arguments")) };
    check_users(users.len(), REQUEST_MAX.load(Ordering::Relaxed).unsigned_abs())?;
    let ids = users.iter().map(|user| UserId::parse(user.bytes())).collect::<Result<Vec<_>, _>>()?;
    let all_turned = |coupon: &Coupon, members: &Members| {
        users.iter().map(|user| turned_at_once(server, coupon, members, user)).collect::<Option<Vec<_>>>()
    };
    let memory = match Memory::unless(server, key, all_turned)? {
        ControlFlow::Continue(memory) => memory,
        ControlFlow::Break(outcomes) => {
            for (user, outcome) in users.iter().zip(&outcomes) {
                debug_assert!(is_turned(server, key, user, *outcome), "a change of the sorted set was not noticed");
                counters::add((*outcome).into(), 1);
            }
            return Ok(Reply::Words(outcomes.into_iter().map(Outcome::word).collect()));
        }
    };
    let glance = glance_at(memory)?;
    let moment = server.moment(server.now());
    check_order_left(glance.issued.newest(), moment.now, users.len())?;
    let mut turns = Turns::begin(server, key, glance, moment)?;
    let mut outcomes = Vec::with_capacity(users.len());
    let mut refusal = None;
    for (user, id) in users.iter().zip(ids) {
        match turns.take(user, id) {
            Ok(outcome) => {
                counters::add(outcome.into(), 1);
                outcomes.push(outcome.word());
            }
            Err(error) => {
                refusal = Some(error);
                break;
            }
        }
    }
    let is_anybody_turned = turns.is_anybody_turned;
    let mut sale = turns.end();
    if is_anybody_turned {
        sale.learn();
    }
    refusal.map_or(Ok(Reply::Words(outcomes)), Err)
}

/// The answer for a user who is known not to be in, where nobody comes in: given without opening a key.
fn turned_at_once(server: &Server, coupon: &Coupon, members: &Members, user: &Arg) -> Option<Outcome> {
    let requested = members.requested;
    if !members.lack(user.bytes()) || coupon.check_issued(Companion::Holds(requested)).is_err() {
        return None;
    }
    // To read the clock is a twentieth of such an answer.
    let now = if coupon.has_window() { server.now() } else { Now { us: 0 } };
    match decide(coupon, &Outside { requested }, server.moment(now)) {
        Ok(Decision::Turned(outcome)) => Some(outcome),
        // Refusals have their own order and words.
        Ok(Decision::Queue(_) | Decision::Grant(_)) | Err(_) => None,
    }
}

/// Whether the keys say so too. Builds for the tests ask in every call.
fn is_turned(server: &Server, key: &Arg, user: &Arg, outcome: Outcome) -> bool {
    match Glance::at(server, key, Access::Read) {
        Ok(glance) => {
            let turn = Turn { issued: &glance.issued, newest: None, user };
            // A moment later a window may have ended.
            decide(&glance.coupon, &turn, server.moment(server.now()))
                .is_ok_and(|decision| decision.outcome() == outcome || glance.coupon.has_window() && !turn.is_held())
        }
        // Overwritten, of which nobody is told.
        Err(refusal) => matches!(refusal, Refusal::WrongType(_)),
    }
}

/// The turn of a user who is not in.
struct Outside {
    requested: u64,
}

impl Line for Outside {
    fn requested(&self) -> u64 {
        self.requested
    }

    fn newest(&self) -> Option<f64> {
        None
    }

    fn is_held(&self) -> bool {
        false
    }
}

fn glance_at(memory: Memory<'_>) -> Result<Glance<'_>, Refusal> {
    let mut glance = memory.glance(Access::Write)?;
    if Fault::StockIgnored.is_on() {
        let definition = &mut Arc::make_mut(&mut glance.coupon).definition;
        definition.quantity = definition.quantity.saturating_add(1);
    }
    Ok(glance)
}

enum Issued<'s> {
    Glanced(Glance<'s>),
    Whole(Sale<'s>),
}

impl Issued<'_> {
    fn rank(self, user: &Arg) -> u64 {
        match self {
            Self::Glanced(glance) => glance.rank(user),
            Self::Whole(sale) => sale.rank(user),
        }
    }
}

/// One user's turn, as the rules see it.
struct Turn<'a, 's> {
    issued: &'a SortedSet<'s>,
    /// The newest arrival, where this command has just made it.
    newest: Option<Arrival>,
    user: &'a Arg,
}

impl Line for Turn<'_, '_> {
    fn requested(&self) -> u64 {
        self.issued.companion().len()
    }

    fn newest(&self) -> Option<f64> {
        if Fault::ArrivalByClockAlone.is_on() {
            return None;
        }
        self.newest.map(Arrival::score).or_else(|| self.issued.newest())
    }

    fn is_held(&self) -> bool {
        !Fault::DuplicateLetIn.is_on() && self.issued.score(self.user).is_some()
    }
}

/// Users who request in one command, in turn.
struct Turns<'a> {
    server: &'a Server,
    key: &'a Arg,
    sale: Sale<'a>,
    moment: Moment,
    before: Arc<Coupon>,
    /// The coupon as it is after the grants of this command, and the last of these.
    granted: Option<(Coupon, Arrival)>,
    joined: Vec<(Arrival, &'a Arg)>,
    /// Whether the first of those who wait is among them.
    has_first_waiting: bool,
    is_anybody_turned: bool,
}

impl<'a> Turns<'a> {
    fn begin(server: &'a Server, key: &'a Arg, glance: Glance<'a>, moment: Moment) -> Result<Self, Refusal> {
        let (sale, before) = glance.whole()?;
        Ok(Self {
            server,
            key,
            sale,
            moment,
            before,
            granted: None,
            joined: Vec::new(),
            has_first_waiting: false,
            is_anybody_turned: false,
        })
    }

    fn coupon(&self) -> &Coupon {
        self.granted.as_ref().map_or(&*self.before, |(coupon, _)| coupon)
    }

    /// Decides one user's request, and carries the decision out.
    fn take(&mut self, user: &'a Arg, id: UserId<'_>) -> Result<Outcome, Refusal> {
        let newest = self.joined.last().map(|(arrival, _)| *arrival);
        let decision = decide(self.coupon(), &Turn { issued: &self.sale.issued, newest, user }, self.moment)?;
        self.carry_out(decision, user, id)
    }

    /// Writes what was decided; [`Turns::end`] replicates it.
    fn carry_out(&mut self, decision: Decision, user: &'a Arg, id: UserId<'_>) -> Result<Outcome, Refusal> {
        match decision {
            Decision::Turned(outcome) => self.is_anybody_turned |= outcome != Outcome::Duplicate,
            Decision::Queue(arrival) => {
                let is_first_waiting = self.coupon().waiting(self.sale.requested()) == 0;
                if !self.sale.issued.add(arrival, user) {
                    return Ok(Outcome::Duplicate);
                }
                self.has_first_waiting |= is_first_waiting;
                self.server.note(Event::Queued);
                self.joined.push((arrival, user));
            }
            Decision::Grant(arrival) => {
                let mut after = self.coupon().clone();
                // The entry comes first: it is the only write that can still be refused, and only that of the first
                // grant of a command, before which nobody has joined.
                if !self.sale.append(&mut after, user, id, arrival, &Text::count(self.moment.now.ms())) {
                    return Err(foreign_entry());
                }
                self.sale.issued.put(arrival, user);
                self.granted = Some((after, arrival));
                self.joined.push((arrival, user));
            }
        }
        Ok(decision.outcome())
    }

    /// Writes and replicates what follows from all turns.
    fn end(self) -> Sale<'a> {
        let Self { server, key, mut sale, before, granted, joined, has_first_waiting, .. } = self;
        let Some(&(first, _)) = joined.first() else { return sale };
        sale.joined(&joined);
        match granted {
            Some((after, arrival)) => sale.set_granted(&before, after, first, Cursor { arrival, user: None }),
            None => set_first_at(&mut sale, &before, first),
        }
        if has_first_waiting {
            server.publish(message::WAITING, key);
        }
        sale
    }
}

/// The stream holds an ID at or above the one that comes next, so somebody else has written to it.
pub fn foreign_entry() -> Refusal {
    Refusal::TryAgain(
        "the :grants key holds an entry that this coupon did not write; let the reconciler restore it, or DEL the key if nothing was granted",
    )
}

/// From the first request on, the sorted set must exist.
fn set_first_at(sale: &mut Sale<'_>, coupon: &Coupon, arrival: Arrival) {
    if coupon.first_at.is_none() && !Fault::TripwireCut.is_on() {
        sale.set(&[(Field::FirstAt, Text::count(arrival.0))]);
        sale.remember(Coupon { first_at: Some(arrival), ..coupon.clone() });
    }
}
