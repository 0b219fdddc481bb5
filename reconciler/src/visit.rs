//! A visit: one bounded pass over one coupon.

use crate::backoff::{COUPON_RETRY, COUPON_STOP};
use crate::catalog::{Next, Ticket};
use crate::compare::Comparison;
use crate::daemon::Daemon;
use crate::error::Error;
use crate::policy::{self, Remedy};
use crate::relay::{Pass, Relay};
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
        let (id, key) = (&*ticket.id, self.keys.key(&ticket.id));
        let relay =
            Relay { redis: &self.redis, ledger: &self.ledger, counters: &self.counters, batch_max: self.batch_max };
        if ticket.compare || ticket.memory.line.is_none() {
            let (redis, ledger, stop) = (&self.redis, &self.ledger, &self.stop);
            let comparison = Comparison { redis, ledger, relay: &relay, stop, id, key: &key };
            // Until it succeeds there is no place to go on from.
            ticket.memory.line = None;
            let compared = comparison.run(&mut ticket.memory.held).await?;
            ticket.memory.line = compared.line;
            if let (Some(row), Some(info)) = (&compared.row, &compared.info) {
                self.catalog.observe(id, row, info);
            }
        }
        let Some(line) = &mut ticket.memory.line else { return Ok(Next::Forget) };
        match relay.pass(id, &key, line, || self.stop.is_cancelled()).await? {
            Pass::Level => Ok(Next::Rest),
            Pass::More => Ok(Next::Again),
        }
    }

    /// What becomes of a coupon after an error: [`policy`] says.
    async fn after(&self, ticket: &mut Ticket, error: &Error) -> Next {
        let memory = &mut ticket.memory;
        memory.failures = memory.failures.saturating_add(1);
        // Whatever was remembered may be wrong now; the next visit asks both sides.
        memory.line = None;
        memory.stopped = false;
        self.counters.retries.inc();
        let remedy = policy::remedy(error);
        match remedy {
            Remedy::Reconnect(side) => {
                if side == policy::Side::Redis {
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
