//! COUPON.REQUEST key user [WITHRANK]

use crate::fault::Fault;
use crate::redis::{Access, Arg, AsRedis, Reply, Server, Text};
use crate::sale::Sale;
use coupon_core::coupon::{Arrival, Cursor, Field};
use coupon_core::message;
use coupon_core::refusal::Refusal;
use coupon_core::request::{Call, Decision, Line, decide};
use coupon_core::words::Outcome;

/// Decides one request.
///
/// # Errors
/// Any refusal but those of the reconciler's side.
pub fn call(server: &Server, args: &[Arg]) -> Result<Reply, Refusal> {
    let [key, user, rest @ ..] = args else { return Err(Refusal::usage("wrong number of arguments")) };
    let Call { user: id, with_rank } = Call::parse(user.bytes(), rest.iter().map(Arg::bytes))?;
    let mut sale = Sale::open(server, key, Access::Write)?;
    let mut coupon = sale.coupon()?;

    let now = server.now();
    let requested = sale.requested();
    let mut line = Line { requested, newest: sale.issued.newest(), is_held: sale.issued.score(user).is_some() };
    if Fault::DuplicateLetIn.is_on() {
        line.is_held = false;
    }
    if Fault::ArrivalByClockAlone.is_on() {
        line.newest = None;
    }
    if Fault::StockIgnored.is_on() {
        coupon.definition.quantity = coupon.definition.quantity.saturating_add(1);
    }
    let decision = decide(&coupon, line, server.moment(now))?;

    match decision {
        Decision::Turned(_) => {}
        Decision::Queue(arrival) => {
            sale.join(arrival, user);
            set_first_at(&mut sale, coupon.first_at, arrival);
            if coupon.waiting(requested) == 0 {
                server.publish(message::WAITING, key);
            }
        }
        Decision::Grant(arrival) => {
            let mut after = coupon.clone();
            // The entry comes first: it is the only write that can still be refused.
            if !sale.append(&mut after, user, id, arrival, &Text::count(now.ms())) {
                return Err(foreign_entry());
            }
            sale.join(arrival, user);
            sale.set_granted(&coupon, &after, Cursor { arrival, user: None });
        }
    }

    let outcome = decision.outcome();
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

/// The stream holds an ID at or above the one that comes next, so somebody else has written to it.
pub fn foreign_entry() -> Refusal {
    Refusal::TryAgain(
        "the :grants key holds an entry that this coupon did not write; let the reconciler restore it, or DEL the key if nothing was granted",
    )
}

/// From the first request on, the sorted set must exist.
fn set_first_at(sale: &mut Sale<'_>, first_at: Option<Arrival>, arrival: Arrival) {
    if first_at.is_none() && !Fault::TripwireCut.is_on() {
        sale.set(&[(Field::FirstAt, Text::count(arrival.0))]);
    }
}
