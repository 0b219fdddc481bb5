//! COUPON.REQUEST key user [WITHRANK] and COUPON.MREQUEST key user [user …]

use crate::fault::Fault;
use crate::redis::{Access, Arg, AsRedis, Reply, Server, SortedSet, Text};
use crate::sale::Sale;
use crate::settings::REQUEST_MAX;
use coupon_core::coupon::{Arrival, Coupon, Cursor, Field, Moment};
use coupon_core::message;
use coupon_core::refusal::Refusal;
use coupon_core::request::{Call, Decision, Line, check_order_left, check_users, decide};
use coupon_core::user::UserId;
use coupon_core::words::Outcome;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Decides one request.
///
/// # Errors
/// Any refusal but those of the reconciler's side.
pub fn call(server: &Server, args: &[Arg]) -> Result<Reply, Refusal> {
    let [key, user, rest @ ..] = args else { return Err(Refusal::usage("wrong number of arguments")) };
    let Call { user: id, with_rank } = Call::parse(user.bytes(), rest.iter().map(Arg::bytes))?;
    let mut sale = Sale::open(server, key, Access::Write)?;
    let requested = sale.requested();
    let mut turns = Turns::begin(server, key, &mut sale)?;
    let outcome = turns.take(user, id);
    turns.end();
    let outcome = outcome?;
    if !with_rank {
        return Ok(Reply::Word(outcome.word()));
    }
    let rank = match outcome {
        // Whoever joins is the last.
        Outcome::Queued | Outcome::Granted => requested.saturating_add(1),
        Outcome::Duplicate => sale.rank(user),
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
    let mut sale = Sale::open(server, key, Access::Write)?;
    let mut turns = Turns::begin(server, key, &mut sale)?;
    check_order_left(turns.newest(), turns.moment.now, users.len())?;
    let outcomes: Result<Vec<_>, _> =
        users.iter().zip(ids).map(|(user, id)| turns.take(user, id).map(Outcome::word)).collect();
    turns.end();
    outcomes.map(Reply::Words)
}

/// Users who request in one command, in turn.
struct Turns<'a, 's> {
    server: &'a Server,
    key: &'a Arg,
    sale: &'a mut Sale<'s>,
    moment: Moment,
    before: Arc<Coupon>,
    /// The coupon as it is after the grants of this command, and the last of these.
    granted: Option<(Coupon, Arrival)>,
    joined: Vec<(Arrival, &'a Arg)>,
    /// Whether the first of those who wait is among them.
    has_first_waiting: bool,
}

/// One user's turn, as the rules see it.
struct Turn<'a, 's> {
    issued: &'a SortedSet<'s>,
    joined: &'a [(Arrival, &'a Arg)],
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
        match self.joined.last() {
            Some((newest, _)) => Some(newest.score()),
            None => self.issued.newest(),
        }
    }

    fn is_held(&self) -> bool {
        !Fault::DuplicateLetIn.is_on() && self.issued.score(self.user).is_some()
    }
}

impl<'a, 's> Turns<'a, 's> {
    fn begin(server: &'a Server, key: &'a Arg, sale: &'a mut Sale<'s>) -> Result<Self, Refusal> {
        let mut before = sale.coupon()?;
        if Fault::StockIgnored.is_on() {
            let definition = &mut Arc::make_mut(&mut before).definition;
            definition.quantity = definition.quantity.saturating_add(1);
        }
        let moment = server.moment(server.now());
        Ok(Self { server, key, sale, moment, before, granted: None, joined: Vec::new(), has_first_waiting: false })
    }

    fn newest(&self) -> Option<f64> {
        self.sale.issued.newest()
    }

    /// Decides one user's request. What it has written, [`Turns::end`] replicates.
    fn take(&mut self, user: &'a Arg, id: UserId<'_>) -> Result<Outcome, Refusal> {
        let coupon = self.granted.as_ref().map_or(&*self.before, |(coupon, _)| coupon);
        let turn = Turn { issued: &self.sale.issued, joined: &self.joined, user };
        let requested = turn.requested();
        let decision = decide(coupon, &turn, self.moment)?;
        match decision {
            Decision::Turned(_) => {}
            Decision::Queue(arrival) => {
                if coupon.waiting(requested) == 0 {
                    self.has_first_waiting = true;
                }
                if !self.sale.issued.add(arrival, user) {
                    return Ok(Outcome::Duplicate);
                }
                self.joined.push((arrival, user));
            }
            Decision::Grant(arrival) => {
                let mut after = Coupon::clone(coupon);
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
    fn end(self) {
        let Some((first, _)) = self.joined.first() else { return };
        self.sale.joined(&self.joined);
        match self.granted {
            Some((after, arrival)) => self.sale.set_granted(&self.before, after, Cursor { arrival, user: None }),
            None => set_first_at(self.sale, &self.before, *first),
        }
        if self.has_first_waiting {
            self.server.publish(message::WAITING, self.key);
        }
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
