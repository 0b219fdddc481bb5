//! COUPON.STATUS key user [WITHRANK]

use crate::fault::Fault;
use crate::redis::{Access, Arg, AsRedis, Reply, Server};
use crate::sale::Glance;
use coupon_core::refusal::Refusal;
use coupon_core::request::Call;
use coupon_core::standing::{ahead, state};
use coupon_core::words::State;
use std::sync::Arc;

/// Tells where a user stands.
///
/// # Errors
/// ERR, WRONGTYPE, NOCOUPON, TRYAGAIN, CROSSSLOT.
pub fn call(server: &Server, args: &[Arg]) -> Result<Reply, Refusal> {
    let [key, user, rest @ ..] = args else { return Err(Refusal::usage("wrong number of arguments")) };
    let Call { user: id, with_rank } = Call::parse(user.bytes(), rest.iter().map(Arg::bytes))?;
    let mut glance = Glance::at(server, key, Access::Read)?;
    if Fault::PersistedEarly.is_on() {
        let coupon = Arc::make_mut(&mut glance.coupon);
        coupon.persisted_to.clone_from(&coupon.granted_to);
    }
    let coupon = Arc::clone(&glance.coupon);
    let state = state(&coupon, id, glance.issued.score(user));
    if !with_rank {
        return Ok(Reply::Word(state.word()));
    }
    let rank = if state == State::None { 0 } else { glance.rank(user) };
    Ok(Reply::Ranked(state.word(), vec![rank, ahead(&coupon, state, rank)]))
}
