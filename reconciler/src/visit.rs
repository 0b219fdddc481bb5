//! A visit: one bounded pass over one coupon.

use crate::catalog::{Next, Ticket};
use crate::coupon::Pass;
use crate::daemon::Daemon;
use crate::daemon::backoff::{COUPON_RETRY, COUPON_STOP};
use crate::error::{Error, Remedy, Side};
use crate::side::Away;

impl Daemon {
    /// Visits one coupon after the other until the daemon stops.
    pub async fn work(&self) {
        loop {
            let mut ticket = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                ticket = async {
                    let ticket = self.catalog.next().await;
                    // Without one of the sides nothing can be done for any coupon. Asked last, as it may be long until
                    // there is something to do.
                    self.sides.both().await;
                    ticket
                } => ticket,
            };
            let next = match self.visit(&mut ticket).await {
                Ok(next) => {
                    if ticket.memory.problem.take().is_some() {
                        tracing::info!(coupon = &*ticket.id, "well again");
                    }
                    ticket.memory.failures = 0;
                    ticket.memory.stopped = false;
                    next
                }
                Err(error) => self.after(&mut ticket, &error).await,
            };
            self.catalog.finish(ticket, next);
        }
    }

    async fn visit(&self, ticket: &mut Ticket) -> Result<Next, Error> {
        if !self.shards.hold(&ticket.id) {
            return Ok(Next::Forget);
        }
        let id = &*ticket.id;
        let coupon = self.tools.coupon(id);
        if ticket.compare || ticket.memory.checkpoint.is_none() {
            // Until it succeeds there is no place to go on from.
            ticket.memory.checkpoint = None;
            let compared = coupon.compare(&mut ticket.memory.held).await?;
            ticket.memory.checkpoint = compared.checkpoint;
            if let (Some(row), Some(info)) = (&compared.row, &compared.info) {
                self.catalog.observe(id, row, info);
            }
        }
        let Some(checkpoint) = &mut ticket.memory.checkpoint else { return Ok(Next::Forget) };
        Ok(match coupon.relay(checkpoint).await? {
            Pass::Level => Next::Rest,
            Pass::More => Next::Again,
            Pass::SoldOut => {
                ticket.memory.checkpoint = None;
                Next::Again
            }
        })
    }

    /// What becomes of a coupon after an error: [`Error::remedy`] says.
    async fn after(&self, ticket: &mut Ticket, error: &Error) -> Next {
        let memory = &mut ticket.memory;
        memory.failures = memory.failures.saturating_add(1);
        // Whatever was remembered may be wrong now; the next visit asks both sides.
        memory.checkpoint = None;
        memory.stopped = false;
        self.metrics.retries.add(1);
        let remedy = error.remedy();
        match remedy {
            Remedy::Reconnect(side) => {
                if side == Side::Redis {
                    self.redis.disconnect().await;
                }
                self.sides.of(side).left(Away::because(error.cause()));
                Next::Again
            }
            // Moved by somebody else, or fenced: usually the next comparison settles it.
            Remedy::Compare | Remedy::Retry | Remedy::RaiseQuantity if memory.failures == 1 => Next::Again,
            Remedy::Compare | Remedy::Retry | Remedy::RaiseQuantity => {
                tracing::debug!(coupon = &*ticket.id, failures = memory.failures, %error, "retrying");
                Next::Later(COUPON_RETRY.delay(memory.failures))
            }
            Remedy::Stop(_) | Remedy::Isolate => {
                let problem = remedy.worded(error);
                if memory.problem.as_ref() != Some(&problem) {
                    tracing::error!(coupon = &*ticket.id, "{problem}");
                    memory.problem = Some(problem);
                }
                memory.stopped = true;
                Next::Later(COUPON_STOP.delay(memory.failures))
            }
        }
    }
}
