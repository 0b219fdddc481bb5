//! Tables `coupon_instance`, `coupon_lease` and `coupon_redis`: which reconcilers run, who works on which shard, and between which Redis
//! and this ledger.
//!
//! A lease holds as long as its holder's row says, by PostgreSQL's clock, so one row is written to renew all of them. A row
//! that says much more than any holder asks for was written before the clock went back, and holds nothing: were it believed, a
//! holder that died would be replaced as many hours later as the clock was wrong.

use super::{Ledger, unsigned};
use crate::error::Error;
use std::time::Duration;

/// What an instance holds from now on.
#[derive(Debug)]
pub struct Leases {
    /// Its shards.
    pub shards: Vec<u8>,
    /// Instances that are alive, itself among them.
    pub instances: u64,
    /// When the next of the others is gone if it does not renew.
    pub next_end: Option<Duration>,
}

/// Says that an instance is alive; gives back what is beyond its share of the shards, and takes what nobody who is alive holds
/// up to that. What another one takes in the same moment is passed over.
const TAKE: &str = "
    with gone as (
        delete from coupon_instance
        where name <> $1 and until not between clock_timestamp() - interval '1 minute' and clock_timestamp() + interval '1 minute'
    ), renewed as (
        insert into coupon_instance (name, until) values ($1, clock_timestamp() + $2 * interval '1 millisecond')
        on conflict (name) do update set until = excluded.until
    ), others as (
        select name, until from coupon_instance
        where name <> $1 and until > clock_timestamp() and until <= clock_timestamp() + interval '1 minute'
    ), share as (
        select ceil((select count(*) from coupon_lease) / (count(*) + 1.0))::bigint as shards, count(*) + 1 as instances
        from others
    ), mine as (
        select shard, row_number() over (order by shard) <= shards as is_kept
        from coupon_lease, share where instance = $1
    ), free as (
        select shard from coupon_lease
        where instance is distinct from $1 and not exists (select from others where name = instance)
        order by shard
        limit greatest((select shards from share) - (select count(*) from mine), 0)
        for update skip locked
    ), given_back as (
        update coupon_lease set instance = null where shard in (select shard from mine where not is_kept)
    ), taken as (
        update coupon_lease set instance = $1 where shard in (select shard from free)
    )
    select array(select shard from mine where is_kept union all select shard from free) as shards,
           (select instances from share) as instances,
           (select (extract(epoch from min(until) - clock_timestamp()) * 1000)::bigint from others) as next_end_ms";

/// Says that this Redis is the ledger's; where another one is, nothing is written. That one is not given up in the moments in which
/// its reconcilers are started anew. True with what was written, else false with what is there.
const BELONG: &str = "
    with written as (
        insert into coupon_redis as known (token, place, until) values ($1, $2, clock_timestamp() + interval '10 seconds')
        on conflict (is_one) do update set token = excluded.token, place = excluded.place, until = excluded.until
            where known.token = excluded.token
               or known.until not between clock_timestamp() and clock_timestamp() + interval '1 minute'
        returning place
    )
    select place, true from written
    union all
    select place, false from coupon_redis where not exists (select from written)";

const LEAVE: &str = "
    with gone as (delete from coupon_instance where name = $1)
    update coupon_lease set instance = null where instance = $1";

impl Ledger {
    /// Takes the share of an instance, for so long.
    pub async fn take_leases(&self, name: &str, term: Duration) -> Result<Leases, Error> {
        let term_ms = i64::try_from(term.as_millis()).unwrap_or(i64::MAX);
        let taken: Vec<(Vec<i16>, i64, Option<i64>)> =
            self.fetch(sqlx::query_as(TAKE).bind(name).bind(term_ms)).await?;
        let (shards, instances, next_end_ms) = taken.into_iter().next().unwrap_or_default();
        Ok(Leases {
            shards: shards.into_iter().filter_map(|shard| u8::try_from(shard).ok()).collect(),
            instances: unsigned(instances),
            next_end: next_end_ms.map(|ms| Duration::from_millis(unsigned(ms))),
        })
    }

    /// Whether the ledger belongs to the Redis with this token, at this place; where else if not.
    pub async fn belong(&self, token: &str, place: &str) -> Result<Option<String>, Error> {
        let found: Vec<(String, bool)> = self.fetch(sqlx::query_as(BELONG).bind(token).bind(place)).await?;
        // Nothing is found where another one wrote first, in the same moment.
        let (place, is_own) = found.into_iter().next().ok_or(Error::Moved)?;
        Ok((!is_own).then_some(place))
    }

    /// Gives all back and says good-bye.
    pub async fn leave_leases(&self, name: &str) -> Result<(), Error> {
        self.execute(sqlx::query(LEAVE).bind(name)).await.map(drop)
    }
}
