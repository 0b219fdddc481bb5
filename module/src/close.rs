//! COUPON.CLOSE key [EPOCH e REVISION r]

use crate::redis::{Reply, Server, Str, Write};
use crate::sale::Sale;
use coupon_core::close::{Call, decide};
use coupon_core::message;
use coupon_core::refusal::Refusal;

/// Ends a coupon.
///
/// # Errors
/// ERR, WRONGTYPE, NOCOUPON, TRYAGAIN, CROSSSLOT, STALEEPOCH.
pub fn call(server: &Server, key: &Str, args: &[Str]) -> Result<Reply, Refusal> {
    let call = Call::parse(args.iter().map(Str::bytes))?;
    let mut sale = Sale::<Write>::of(server, key)?;
    let before = sale.coupon()?;
    let after = decide(&before, call)?;
    if *before != after {
        sale.turn_into(Some(&before), after)?;
        if call.is_by_hand() {
            server.publish(message::OPENED, key);
        }
    }
    Ok(Reply::Done)
}
