//! COUPON.RESUME key EPOCH e SEQ n CHAIN c

use crate::fence;
use crate::redis::{Reply, Server, Str, Write};
use crate::sale::Sale;
use coupon_core::ledger::Resume;
use coupon_core::refusal::Refusal;

/// Opens the gate, if Redis holds the ledger's history.
///
/// # Errors
/// Any.
pub fn call(server: &Server, key: &Str, args: &[Str]) -> Result<Reply, Refusal> {
    let resume = Resume::parse(args.iter().map(Str::bytes))?;
    let mut sale = Sale::<Write>::of(server, key)?;
    let before = sale.coupon()?;
    sale.open()?;
    let chain_at = |seq| sale.find(seq, before.epoch).ok().flatten().map(|grant| grant.chain);
    let after = resume.decide(&before, fence::token(), chain_at)?;
    sale.turn_into(Some(&before), after)?;
    Ok(Reply::Done)
}
