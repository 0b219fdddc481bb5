//! COUPON.OPEN key QUANTITY n [MODE QUEUE|INSTANT] [WAITLIST n] [OPENS unix-ms] [EXPIRES unix-ms] [EPOCH e]

use crate::redis::{Access, Arg, AsRedis, Reply, Server, Text};
use crate::sale::Sale;
use coupon_core::message;
use coupon_core::open::{Call, changes, decide};
use coupon_core::refusal::Refusal;

/// Defines a coupon.
///
/// # Errors
/// ERR, WRONGTYPE, TRYAGAIN, CROSSSLOT, STALEEPOCH.
pub fn call(server: &Server, args: &[Arg]) -> Result<Reply, Refusal> {
    let [key, rest @ ..] = args else { return Err(Refusal::usage("wrong number of arguments")) };
    let call = Call::parse(rest.iter().map(Arg::bytes))?;
    if may_evict_coupons(&server.eviction_policy()) {
        return Err(Refusal::usage(
            "maxmemory-policy may evict a coupon's keys, and then its units would be granted twice; CONFIG SET maxmemory-policy noeviction",
        ));
    }
    let mut sale = Sale::open(server, key, Access::Write)?;
    let existing = sale.coupon_if_any()?;
    if let Some(coupon) = &existing {
        coupon.check_companions(sale.issued.companion(), sale.grants())?;
    }
    let after = decide(existing.as_deref(), call, sale.grants(), server.now())?;
    let changes = changes(existing.as_deref(), &after);
    if !changes.is_empty() {
        let fields: Vec<_> = changes.into_iter().map(|(field, text)| (field, Text::new(text.as_bytes()))).collect();
        sale.set(&fields);
        if existing.as_ref().is_none_or(|before| before.status != after.status) {
            sale.note_status(after.status);
        }
        if call.is_by_hand() {
            server.publish(message::OPENED, key);
        }
        sale.wake(&after);
    }
    Ok(Reply::Done)
}

/// Whether a policy evicts keys without a TTL, which a coupon's are.
pub fn may_evict_coupons(policy: &[u8]) -> bool {
    policy.starts_with(b"allkeys")
}
