//! COUPON.CLOSE key

use crate::redis::{Reply, Server, Str, Write};
use crate::sale::Sale;
use coupon_core::coupon::Coupon;
use coupon_core::message;
use coupon_core::refusal::Refusal;
use coupon_core::words::Status;

/// Ends a coupon. It needs no open gate: to end is always safe.
///
/// # Errors
/// ERR, WRONGTYPE, NOCOUPON, TRYAGAIN, CROSSSLOT.
pub fn call(server: &Server, key: &Str, _: &[Str]) -> Result<Reply, Refusal> {
    let mut sale = Sale::<Write>::of(server, key)?;
    let coupon = sale.coupon()?;
    if coupon.status != Status::Expired {
        sale.turn_into(Some(&coupon), Coupon { status: Status::Expired, ..Coupon::clone(&coupon) })?;
        server.publish(message::OPENED, key);
    }
    Ok(Reply::Done)
}
