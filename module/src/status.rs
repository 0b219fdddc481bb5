//! COUPON.STATUS key user [WITHRANK]

use crate::redis::{Read, Reply, Server, Str};
use crate::sale::Sale;
use coupon_core::refusal::Refusal;
use coupon_core::request::Call;
use coupon_core::standing::{ahead, state};
use coupon_core::words::State;

/// Tells where a user stands.
///
/// # Errors
/// ERR, WRONGTYPE, NOCOUPON, TRYAGAIN, CROSSSLOT.
pub fn call(server: &Server, key: &Str, args: &[Str]) -> Result<Reply, Refusal> {
    let [user, rest @ ..] = args else { return Err(Refusal::arity()) };
    let Call { user: id, with_rank } = Call::parse(user.bytes(), rest.iter().map(Str::bytes))?;
    let mut sale = Sale::<Read>::of(server, key)?;
    let coupon = sale.coupon()?;
    let state = state(&coupon, id, sale.score(user)?, sale.is_refused(&coupon, user)?);
    if !with_rank {
        return Ok(Reply::Word(state.word()));
    }
    let rank = if state == State::None { 0 } else { sale.rank(user) };
    Ok(Reply::Ranked(state.word(), vec![rank, ahead(&coupon, state, rank)]))
}
