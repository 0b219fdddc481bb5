//! COUPON.OPEN key QUANTITY n [STATUS STANDARD|AVAILABLE] [MODE QUEUE|INSTANT] [WAITLIST n] [OPENS unix-ms] [EXPIRES unix-ms]
//! [EPOCH e [REVISION r]]

use crate::fence;
use crate::redis::{Reply, Server, Str, Write};
use crate::sale::Sale;
use coupon_core::message;
use coupon_core::open::{Call, decide};
use coupon_core::refusal::Refusal;

/// Defines a coupon.
///
/// # Errors
/// ERR, WRONGTYPE, TRYAGAIN, CROSSSLOT, STALEEPOCH.
pub fn call(server: &Server, key: &Str, args: &[Str]) -> Result<Reply, Refusal> {
    let call = Call::parse(args.iter().map(Str::bytes))?;
    if may_evict_coupons(&server.eviction_policy()) {
        return Err(Refusal::usage(
            "maxmemory-policy may evict a coupon's keys, and then its units would be granted twice; CONFIG SET maxmemory-policy noeviction",
        ));
    }
    let mut sale = Sale::<Write>::of(server, key)?;
    let before = match sale.coupon() {
        // A hash without status and quantity is none, and belongs to somebody else.
        Err(Refusal::NoCoupon) => sale.coupon_if_any()?,
        coupon => Some(coupon?),
    };
    sale.open()?;
    let after = decide(before.as_deref(), call, sale.entries()?, fence::now(server))?;
    if before.as_deref() != Some(&after) {
        sale.turn_into(before.as_deref(), after)?;
        if call.is_by_hand() {
            server.publish(message::OPENED, key);
        }
    }
    Ok(Reply::Done)
}

/// Whether a policy evicts keys without a TTL, which a coupon's are.
pub fn may_evict_coupons(policy: &[u8]) -> bool {
    policy.starts_with(b"allkeys")
}
