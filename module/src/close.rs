//! COUPON.CLOSE key

use crate::redis::{Access, Arg, Reply, Server};
use crate::sale::Sale;
use coupon_core::coupon::Coupon;
use coupon_core::message;
use coupon_core::refusal::Refusal;
use coupon_core::words::Status;

/// Ends a coupon. It needs no open gate: to end is always safe.
///
/// # Errors
/// ERR, WRONGTYPE, NOCOUPON, TRYAGAIN, CROSSSLOT.
pub fn call(server: &Server, args: &[Arg]) -> Result<Reply, Refusal> {
    let [key] = args else { return Err(Refusal::usage("wrong number of arguments")) };
    let mut sale = Sale::open(server, key, Access::Write)?;
    let coupon = sale.coupon()?;
    if coupon.status != Status::Expired {
        sale.set_status(Status::Expired);
        server.publish(message::OPENED, key);
        let after = Coupon { status: Status::Expired, ..Coupon::clone(&coupon) };
        sale.wake(&after);
        sale.remember(after);
    }
    Ok(Reply::Done)
}
