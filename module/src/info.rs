//! COUPON.INFO key

use crate::fence;
use crate::redis::{Read, Reply, Server, Str, Value};
use crate::sale::Sale;
use coupon_core::refusal::Refusal;

/// Tells a coupon's definition and counts, in this order.
///
/// # Errors
/// ERR, WRONGTYPE, NOCOUPON, TRYAGAIN, CROSSSLOT.
pub fn call(server: &Server, key: &Str, _: &[Str]) -> Result<Reply, Refusal> {
    let mut sale = Sale::<Read>::of(server, key)?;
    let coupon = sale.coupon()?;
    let requested = sale.requested()?;
    let definition = coupon.definition;
    Ok(Reply::Map(vec![
        ("status", Value::Word(coupon.status.word())),
        ("mode", Value::Word(definition.mode.word())),
        ("quantity", Value::Count(definition.quantity)),
        ("remaining", Value::Count(coupon.remaining())),
        ("requested", Value::Count(requested)),
        ("waiting", Value::Count(coupon.waiting(requested))),
        ("granted", Value::Count(coupon.position.seq.0)),
        ("persisted", Value::Count(coupon.persisted.0)),
        ("waitlist", Value::Count(definition.waitlist)),
        ("opens_at", Value::Count(definition.opens_at)),
        ("expires_at", Value::Count(definition.expires_at)),
        ("epoch", Value::Count(coupon.epoch.0)),
        ("fenced", Value::Count(u64::from(coupon.is_fenced(fence::token())))),
        ("revision", Value::Count(coupon.revision.0)),
        ("refused", Value::Count(coupon.refused)),
    ]))
}
