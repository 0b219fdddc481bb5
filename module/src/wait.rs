//! COUPON.WAIT key user timeout-ms

use crate::redis::{Access, Arg, AsRedis, Reply, Server};
use crate::sale::Sale;
use crate::waiters;
use coupon_core::coupon::number;
use coupon_core::limit::WAIT_MS_MAX;
use coupon_core::refusal::{Refusal, quote};
use coupon_core::standing::{is_final, state};
use coupon_core::user::UserId;

/// Answers as STATUS once the user's outcome is final, or the time is over. At once where nobody may block (MULTI,
/// scripts), and on a replica, which no ACK reaches.
///
/// # Errors
/// ERR, WRONGTYPE, NOCOUPON, TRYAGAIN, CROSSSLOT.
pub fn call(server: &Server, args: &[Arg]) -> Result<Reply, Refusal> {
    let Standing { key, id, timeout_ms, score, reply } = stand(server, args)?;
    let (Some(score), true) = (score, server.may_block()) else { return Ok(reply) };
    let Some(client) = server.block(timeout_ms) else { return Ok(reply) };
    waiters::add((server.database(), key.bytes().to_vec()), score, id, client);
    Ok(Reply::Later)
}

/// The answer to a client that was woken, or whose time is over.
///
/// # Errors
/// As [`call`].
pub fn answer(server: &Server, args: &[Arg]) -> Result<Reply, Refusal> {
    stand(server, args).map(|standing| standing.reply)
}

struct Standing<'a> {
    key: &'a Arg,
    id: UserId<'a>,
    timeout_ms: u64,
    /// Where the user stands in line, if there is something to wait for.
    score: Option<f64>,
    reply: Reply,
}

fn stand<'a>(server: &Server, args: &'a [Arg]) -> Result<Standing<'a>, Refusal> {
    let [key, user, timeout] = args else { return Err(Refusal::usage("wrong number of arguments")) };
    let id = UserId::parse(user.bytes())?;
    let timeout_ms = number(timeout.bytes()).filter(|ms| *ms <= WAIT_MS_MAX).ok_or_else(|| {
        let given = quote(timeout.bytes());
        Refusal::usage(format!(
            "timeout is a whole number of milliseconds from 0 (no limit) to {WAIT_MS_MAX}, not {given}"
        ))
    })?;
    let sale = Sale::open(server, key, Access::Read)?;
    let coupon = sale.coupon()?;
    let score = sale.issued.score(user);
    let state = state(&coupon, id, score);
    let score = score.filter(|_| !is_final(&coupon, state));
    Ok(Standing { key, id, timeout_ms, score, reply: Reply::Word(state.word()) })
}
