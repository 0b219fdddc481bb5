//! COUPON.WAIT key user timeout-ms

use crate::redis::{Cluster, Read, Reply, Server, Str, Text};
use crate::sale::Sale;
use crate::settings::WAITERS_MAX;
use crate::waiters::{self, Coordinates, Due, Place};
use coupon_core::limit::WAIT_MS_MAX;
use coupon_core::number::number;
use coupon_core::refusal::{Refusal, quote};
use coupon_core::standing::{is_final, state};
use coupon_core::user::UserId;
use coupon_core::words::State;
use std::cell::OnceCell;
use std::sync::Arc;
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
    waiters::add(server, coordinates, place, client, limit_ms, server.is_cluster());
    Ok(Reply::Later)
}

/// The answer to a client that was blocked: as things are now.
///
/// # Errors
/// As [`call`].
pub fn answer(server: &Server, args: &[Str]) -> Result<Reply, Refusal> {
    let [key, user, ..] = args else { return Err(Refusal::arity()) };
    stand(server, key, user).map(|Standing { state, .. }| Reply::Word(state.word()))
}

/// A timer has run out.
pub fn on_timer(server: &Server, number: usize) {
    act(server, waiters::due(server, number));
}

/// Time goes by.
pub fn on_beat(server: &Server) {
    waiters::overdue(server).into_iter().for_each(|due| act(server, due));
}

fn act(server: &Server, due: Due) {
    let cluster = OnceCell::new();
    match due {
        Due::Round(coupons) => {
            coupons.iter().for_each(|coupon| look(server, &cluster, coupon, true));
            waiters::end_round(server);
        }
        Due::Watch(coupons) => coupons.iter().for_each(|coupon| look(server, &cluster, coupon, false)),
        Due::Limit(client) => waiters::end_wait(server, client),
        Due::Nothing => {}
    }
}

/// Looks at a coupon's keys, and at the place of each who waits, or of nobody: whoever has nothing left to wait for here is
/// answered. In a cluster clients are sent on as the server sends on its own.
fn look(server: &Server, cluster: &OnceCell<Cluster>, coordinates: &Coordinates, is_everybody_looked_at: bool) {
    let (database, key) = coordinates;
    server.select(*database);
    let key = Text::new(key);
    let coupon = Sale::<Read>::of(server, &key).and_then(|mut sale| sale.coupon());
    let is_missing = coupon == Err(Refusal::NoCoupon);
    let elsewhere = server
        .is_cluster()
        .then(|| redirection(cluster.get_or_init(|| server.cluster()), server.slot(&key)?, is_missing))
        .flatten();
    if elsewhere.is_some() || coupon.is_err() || server.is_replica() {
        waiters::wake_all(server, coordinates, elsewhere.map(Arc::from).as_ref());
    } else if is_everybody_looked_at {
        for place in waiters::places(coordinates) {
            let score = stand(server, &key, &Text::new(&place.user)).ok().and_then(|standing| standing.score);
            waiters::move_to(server, coordinates, &place, score);
        }
    }
}

fn redirection(cluster: &Cluster, slot: u16, is_missing: bool) -> Option<String> {
    if cluster.is_down {
        return Some("CLUSTERDOWN The cluster is down".into());
    }
    coupon_core::cluster::redirection(&cluster.nodes, slot, is_missing)
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
    let state = state(&coupon, id, score, sale.is_refused(&coupon, user)?);
    Ok(Standing { state, score: score.filter(|_| !is_final(&coupon, state)) })
}
