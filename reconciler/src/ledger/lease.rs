//! Tables `coupon_instance` and `coupon_lease`: which reconcilers run, and who works on which shard.
//!
//! A lease holds as long as its holder's row says, by PostgreSQL's clock, so one row is written to renew all of them. A row
//! that says much more than any holder asks for was written before the clock went back, and holds nothing: were it believed, a
//! holder that died would be replaced as many hours later as the clock was wrong.

use super::{Ledger, unsigned};
use crate::error::Error;
use std::time::Duration;

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its number.
    pub shard: u8,
    /// Who holds or held it.
    pub holder: Option<String>,
    /// Whether that one is alive.
    pub is_held: bool,
}

struct Stored {
    shard: i16,
    instance: Option<String>,
    is_held: bool,
    instances: i64,
    next_end_ms: Option<i64>,
}

from_row!(Stored { shard, instance, is_held, instances, next_end_ms });

/// All shards, and who is alive.
#[derive(Debug)]
pub struct Leases {
    /// The shards in their order.
    pub leases: Vec<Lease>,
    /// Instances that are alive.
    pub instances: usize,
    /// When the next of the others is gone if it does not renew.
    pub next_end: Option<Duration>,
}

const RENEW: &str = "
    with gone as (
        delete from coupon_instance
        where name <> $1 and until not between clock_timestamp() - interval '1 minute' and clock_timestamp() + interval '1 minute'
    )
    insert into coupon_instance (name, until) values ($1, clock_timestamp() + $2 * interval '1 millisecond')
    on conflict (name) do update set until = excluded.until";

const LEASES: &str = "
    with alive as (
        select name, until from coupon_instance
        where until > clock_timestamp() and until <= clock_timestamp() + interval '1 minute'
    )
    select l.shard, l.instance, i.name is not null as is_held,
           (select count(*) from alive) as instances,
           (select (extract(epoch from min(until) - clock_timestamp()) * 1000)::bigint
            from alive where name <> $1) as next_end_ms
    from coupon_lease l left join alive i on i.name = l.instance
    order by l.shard";

/// Compare-and-set on the holder that was seen: of two who claim a shard, one gets it.
const CLAIM: &str = "
    update coupon_lease l set instance = $1
    from unnest($2::smallint[], $3::text[]) as seen (shard, instance)
    where l.shard = seen.shard and l.instance is not distinct from seen.instance
    returning l.shard";

const GIVE_BACK: &str = "update coupon_lease set instance = null where instance = $1 and shard = any($2)";

const LEAVE: &str = "
    with gone as (delete from coupon_instance where name = $1)
    update coupon_lease set instance = null where instance = $1";

impl Ledger {
    /// Says that an instance is alive, and will be for so long.
    pub async fn renew_leases(&self, name: &str, term: Duration) -> Result<(), Error> {
        let term_ms = i64::try_from(term.as_millis()).unwrap_or(i64::MAX);
        self.execute(sqlx::query(RENEW).bind(name).bind(term_ms)).await.map(drop)
    }

    /// Who holds what.
    pub async fn leases(&self, name: &str) -> Result<Leases, Error> {
        let rows: Vec<Stored> = self.fetch(sqlx::query_as(LEASES).bind(name)).await?;
        let first = rows.first();
        Ok(Leases {
            instances: first.map_or(0, |row| usize::try_from(row.instances).unwrap_or(0)),
            next_end: first.and_then(|row| row.next_end_ms).map(|ms| Duration::from_millis(unsigned(ms))),
            leases: rows
                .into_iter()
                .map(|row| Lease { shard: shard(row.shard), holder: row.instance, is_held: row.is_held })
                .collect(),
        })
    }

    /// Takes shards from whom they were seen with; those that were got.
    pub async fn claim_leases(&self, name: &str, seen: &[Lease]) -> Result<Vec<u8>, Error> {
        if seen.is_empty() {
            return Ok(Vec::new());
        }
        let shards: Vec<i16> = seen.iter().map(|lease| lease.shard.into()).collect();
        let holders: Vec<Option<&str>> = seen.iter().map(|lease| lease.holder.as_deref()).collect();
        let claimed: Vec<(i16,)> = self.fetch(sqlx::query_as(CLAIM).bind(name).bind(&shards).bind(&holders)).await?;
        Ok(claimed.into_iter().map(|(number,)| shard(number)).collect())
    }

    /// Lets others have shards.
    pub async fn give_back_leases(&self, name: &str, shards: &[u8]) -> Result<(), Error> {
        if shards.is_empty() {
            return Ok(());
        }
        let shards: Vec<i16> = shards.iter().map(|shard| i16::from(*shard)).collect();
        self.execute(sqlx::query(GIVE_BACK).bind(name).bind(&shards)).await.map(drop)
    }

    /// Gives all back and says good-bye.
    pub async fn leave_leases(&self, name: &str) -> Result<(), Error> {
        self.execute(sqlx::query(LEAVE).bind(name)).await.map(drop)
    }
}

/// A CHECK keeps it below 64.
fn shard(number: i16) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
