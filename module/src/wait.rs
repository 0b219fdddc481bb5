//! COUPON.WAIT key user timeout-ms

use crate::cache;
use crate::redis::{Answer, Read, Reply, Server, Str, Text};
use crate::sale::Sale;
use crate::settings::WAITERS_MAX;
use crate::waiters::{self, Coordinates, Due, Place};
use coupon_core::cluster::redirection;
use coupon_core::limit::WAIT_MS_MAX;
use coupon_core::number::number;
use coupon_core::refusal::{Refusal, quote};
use coupon_core::standing::{is_final, state};
use coupon_core::user::UserId;
use coupon_core::words::State;
use std::sync::atomic::Ordering;

/// Answers as STATUS once the user's outcome is final, or the time is over. At once where nobody may block (MULTI,
/// scripts), and on a replica, which no ACK reaches.
///
/// # Errors
/// ERR, WRONGTYPE, NOCOUPON, TRYAGAIN, CROSSSLOT.
pub fn call(server: &Server, key: &Str, args: &[Str]) -> Result<Reply, Refusal> {
    let [user, timeout, ..] = args else { return Err(Refusal::arity()) };
    let limit_ms = number(timeout.bytes()).filter(|ms| *ms <= WAIT_MS_MAX).ok_or_else(|| {
        let given = quote(timeout.bytes());
        Refusal::usage(format!(
            "timeout is a whole number of milliseconds from 0 (no limit) to {WAIT_MS_MAX}, not {given}"
        ))
    })?;
    let Standing { state, score } = stand(server, key, user)?;
    let reply = Reply::Word(state.word());
    let (Some(score), true) = (score, server.may_block()) else { return Ok(reply) };
    let (waiting, max) = (waiters::count(), WAITERS_MAX.load(Ordering::Relaxed).unsigned_abs());
    if waiting >= max {
        return Err(Refusal::usage(format!(
            "{waiting} clients wait already, which is coupon.waiters-max; ask by COUPON.STATUS, or raise it if there is memory for more"
        )));
    }
    let Some(client) = server.block() else { return Ok(reply) };
    let coordinates = (server.database(), key.bytes().into());
    let place = Place::new(score, user.bytes());
    waiters::add(server, coordinates, place, client, limit_ms, cache::loses_keys_in_silence());
    Ok(Reply::Later)
}

/// The answer to a client that was blocked: as things are now. Where its coupon has gone to another node of a cluster,
/// the client is sent after it.
pub fn answer(server: &Server, args: &[Str]) -> Answer {
    let [key, user, ..] = args else { return Err(Refusal::arity().to_string()) };
    match stand(server, key, user) {
        Ok(Standing { state, .. }) => Ok(Reply::Word(state.word())),
        Err(refusal) => {
            let is_missing = refusal == Refusal::NoCoupon;
            let elsewhere = (server.is_cluster() && (is_missing || matches!(refusal, Refusal::TryAgain(_))))
                .then(|| server.cluster(key).and_then(|(slot, nodes)| redirection(&nodes, slot, is_missing)))
                .flatten();
            Err(elsewhere.unwrap_or_else(|| refusal.to_string()))
        }
    }
}

/// A timer has run out.
pub fn on_timer(server: &Server, number: usize) {
    match waiters::due(server, number) {
        Due::Round(coupons) => {
            coupons.iter().for_each(|coupon| look(server, coupon));
            waiters::end_round(server);
        }
        Due::Limit(client) => waiters::end_wait(server, client),
        Due::Nothing => {}
    }
}

/// Looks at a coupon's keys for each who waits: whoever has nothing left to wait for is answered.
fn look(server: &Server, coordinates: &Coordinates) {
    let (database, key) = coordinates;
    server.select(*database);
    let key = Text::new(key);
    for place in waiters::places(coordinates) {
        let score = stand(server, &key, &Text::new(&place.user)).ok().and_then(|standing| standing.score);
        waiters::move_to(server, coordinates, &place, score);
    }
}

struct Standing {
    state: State,
    /// Where the user stands in line, if there is something to wait for.
    score: Option<f64>,
}

fn stand(server: &Server, key: &Str, user: &Str) -> Result<Standing, Refusal> {
    let id = UserId::parse(user.bytes())?;
    let mut sale = Sale::<Read>::of(server, key)?;
    let coupon = sale.coupon()?;
    let score = sale.score(user)?;
    let state = state(&coupon, id, score);
    Ok(Standing { state, score: score.filter(|_| !is_final(&coupon, state)) })
}
