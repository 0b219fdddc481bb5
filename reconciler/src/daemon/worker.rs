//! A visit: one bounded pass over one coupon.

use super::backoff::{RETRY_MAX, STOP_MAX, delay};
use super::catalog::{Catalog, Next, Ticket};
use super::presence::Servers;
use crate::coupon::Pass;
use crate::error::{Error, Remedy};

/// Visits one coupon after the other until the daemon stops.
pub async fn run(servers: &Servers, catalog: &Catalog) {
    let next = async || {
        let ticket = catalog.next().await;
        // Without one of the sides nothing can be done for any coupon. Asked last, as it may be long until there is
        // something to do.
        servers.both().await;
        ticket
    };
    while let Some(mut ticket) = servers.tools.stop.run_until_cancelled(next()).await {
        let next = match visit(servers, catalog, &mut ticket).await {
            Ok(next) => {
                if ticket.memory.problem.take().is_some() {
                    tracing::info!(coupon = &*ticket.id, "well again");
                }
                ticket.memory.failures = 0;
                next
            }
            Err(error) => after(servers, &mut ticket, &error).await,
        };
        catalog.finish(ticket, next);
    }
}

/// One bounded pass over one coupon.
async fn visit(servers: &Servers, catalog: &Catalog, ticket: &mut Ticket) -> Result<Next, Error> {
    let (id, memory) = (&*ticket.id, &mut ticket.memory);
    if !catalog.holds(id) {
        return Ok(Next::Forget);
    }
    let coupon = servers.tools.coupon(id);
    if ticket.compare || memory.checkpoint.is_none() {
        // Until it succeeds there is no place to go on from.
        memory.checkpoint = None;
        let compared = coupon.compare().await?;
        memory.checkpoint = compared.checkpoint;
        if let (Some(row), Some(info)) = (&compared.row, &compared.info) {
            catalog.observe(id, row, info);
        }
    }
    let Some(checkpoint) = &mut memory.checkpoint else { return Ok(Next::Forget) };
    Ok(match coupon.relay(checkpoint, &mut memory.rows_max).await? {
        Pass::Level => Next::Rest,
        Pass::More => Next::Again,
        // The row is to say that all units are granted.
        Pass::SoldOut => {
            memory.checkpoint = None;
            Next::Again
        }
    })
}

/// What becomes of a coupon after an error: its remedy says.
async fn after(servers: &Servers, ticket: &mut Ticket, error: &Error) -> Next {
    let memory = &mut ticket.memory;
    memory.failures = memory.failures.saturating_add(1);
    // Whatever was remembered may be wrong now; the next visit asks both sides.
    memory.checkpoint = None;
    if let Some(problem) = servers.react(error).await {
        if memory.problem.as_ref() != Some(&problem) {
            tracing::error!(coupon = &*ticket.id, "{problem}");
        }
        memory.problem = Some(problem);
        return Next::Later(delay(memory.failures, STOP_MAX));
    }
    // Moved by somebody else, or fenced: usually the next comparison settles it. It waits for a side that is away.
    if memory.failures == 1 || matches!(error.remedy(), Remedy::Reconnect(_)) {
        return Next::Again;
    }
    tracing::debug!(coupon = &*ticket.id, failures = memory.failures, %error, "retrying");
    Next::Later(delay(memory.failures, RETRY_MAX))
}
