//! COUPON.LEAVE key user

use crate::counters::{self, Counter};
use crate::event::{self, Event};
use crate::fence;
use crate::redis::{Reply, Server, Str, Write};
use crate::sale::Sale;
use coupon_core::leave::{after, decide};
use coupon_core::refusal::Refusal;
use coupon_core::standing::state;
use coupon_core::user::UserId;
use coupon_core::words::Leaving;

/// Takes a user who waits out of the line; everybody behind moves up.
///
/// # Errors
/// ERR, WRONGTYPE, NOCOUPON, TRYAGAIN, CROSSSLOT.
pub fn call(server: &Server, key: &Str, args: &[Str]) -> Result<Reply, Refusal> {
    let [user] = args else { return Err(Refusal::arity()) };
    let id = UserId::parse(user.bytes())?;
    let mut sale = Sale::<Write>::of(server, key)?;
    let before = sale.coupon()?;
    let score = sale.score(user)?;
    let leaving = decide(&before, state(&before, id, score, false), fence::token())?;
    if let (Leaving::Left, Some(score)) = (leaving, score) {
        sale.open()?;
        sale.leave(user, score)?;
        let after = after(&before, sale.requested()?);
        sale.turn_into(Some(&before), after)?;
        // The hash seldom changes, but who asks for ranks and counts hears something else.
        sale.answers_changed();
        event::note(Event::Left);
        counters::add(Counter::Left, 1);
    }
    Ok(Reply::Word(leaving.word()))
}
