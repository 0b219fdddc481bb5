//! COUPON.RESUME key EPOCH e SEQ n CHAIN c

use crate::redis::{Access, Arg, AsRedis, Reply, Server, Text};
use crate::sale::Sale;
use coupon_core::coupon::Field;
use coupon_core::ledger::Resume;
use coupon_core::refusal::Refusal;

/// Opens the gate, if Redis holds the ledger's history.
///
/// # Errors
/// Any.
pub fn call(server: &Server, args: &[Arg]) -> Result<Reply, Refusal> {
    let [key, rest @ ..] = args else { return Err(Refusal::usage("wrong number of arguments")) };
    let resume = Resume::parse(rest.iter().map(Arg::bytes))?;
    let mut sale = Sale::open(server, key, Access::Write)?;
    let before = sale.coupon()?;
    let after = resume.decide(&before, server.token(), |seq| sale.grants.find(seq).map(|grant| grant.chain))?;
    if after != *before {
        sale.set(&[(Field::Epoch, Text::count(after.epoch.0)), (Field::Fence, Text::count(server.token().0))]);
        sale.remember(after);
    }
    Ok(Reply::Done)
}
