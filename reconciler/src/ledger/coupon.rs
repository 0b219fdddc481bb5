//! Tables `coupon` and `coupon_position`: what the application offers, what Redis was told of it, and the epochs.

use super::{Ledger, QueryAs, Statement, bound, count, unsigned};
use crate::error::Error;
use crate::model::coupon::{Info, Offer, Row, Told, Unreadable};
use crate::model::grant::Progress;
use coupon_core::coupon::Definition;
use coupon_core::grant::EntryId;
use coupon_core::limit::{QUANTITY_MAX, WINDOW_MS_MAX, WINDOW_MS_MIN};
use coupon_core::number::{Chain, Epoch, Seq};
use coupon_core::position::Position;
use coupon_core::words::{Mode, Status};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use std::collections::HashMap;

/// Coupons in the order of their ids, page by page.
pub struct Pages<'a> {
    ledger: &'a Ledger,
    query: &'static str,
    /// The last id of the page before.
    after: String,
}

impl Pages<'_> {
    /// The next page, and what on it cannot be read; none at the end.
    pub async fn next(&mut self) -> Result<Option<(Vec<Row>, Vec<Unreadable>)>, Error> {
        let query = sqlx::query_as(self.query).bind(&self.after).bind(i64::from(PAGE_LEN));
        let page: Vec<Reading> = self.ledger.fetch(query).await?;
        match page.last() {
            None => return Ok(None),
            Some(Reading(Ok(Row { id, .. }) | Err(Unreadable { id, .. }))) => self.after.clone_from(id),
        }
        let (mut rows, mut unreadable) = (Vec::with_capacity(page.len()), Vec::new());
        page.into_iter().for_each(|Reading(read)| read.map_or_else(|row| unreadable.push(row), |row| rows.push(row)));
        Ok(Some((rows, unreadable)))
    }
}

/// Coupons in one page.
const PAGE_LEN: u32 = 500;

/// Instants as milliseconds in text, which can be beyond all that Redis and Rust take: infinity among them.
macro_rules! coupons {
    ($rest:literal) => {
        concat!(
            "select c.id, c.xmin::text::bigint as version, c.quantity, c.waitlist, c.status::text, c.mode::text,
                    floor(extract(epoch from c.opens_at) * 1000)::text as opens_at,
                    floor(extract(epoch from c.expires_at) * 1000)::text as expires_at,
                    p.told_quantity, p.told_waitlist, p.told_status::text, p.told_mode::text,
                    floor(extract(epoch from p.told_opens_at) * 1000)::text as told_opens_at,
                    floor(extract(epoch from p.told_expires_at) * 1000)::text as told_expires_at,
                    coalesce(p.revision, 0) as revision, coalesce(p.granted, 0) as granted,
                    coalesce(p.epoch, 0) as epoch, coalesce(p.seq, 0) as seq, coalesce(p.chain, 0) as chain
             from coupon c left join coupon_position p on p.coupon_id = c.id ",
            $rest
        )
    };
}

const ONE: &str = coupons!("where c.id = $1");
const SOME: &str = coupons!("where c.id = any($1)");
const ALL: &str = coupons!("where c.id > $1 order by c.id limit $2");

/// By two indexes: what the application offers, and what Redis was told to offer.
const ON_OFFER: &str = coupons!(
    "where c.id in (
         (select id from coupon where status in ('AVAILABLE', 'ISSUED') and id > $1 order by id limit $2)
         union
         (select coupon_id from coupon_position
          where told_status in ('AVAILABLE', 'ISSUED') and coupon_id > $1 order by coupon_id limit $2)
         order by 1 limit $2)
     order by c.id"
);

/// What is on offer comes first: where there are too many to be shown, the others are the ones to leave out.
const FIRST: &str = coupons!("order by c.status in ('AVAILABLE', 'ISSUED') desc, c.id limit $1");

const COUNT: &str = "select count(*) from coupon";

/// No statement on `coupon` waits for an application that holds its row, perhaps for long, and with many others: all workers would
/// soon wait. What is locked is passed over, and looked at again later; a position is nobody's but ours.
///
/// Taken by compare-and-set: of two reconcilers that saw the same epoch, one gets the next. A coupon without a position gets one;
/// Redis was told nothing of it. With the epoch of the newest grant's entry; none if that row was moved elsewhere.
const TAKE_EPOCHS: &str = "
    with bid as (
        select * from unnest($1::text[], $2::bigint[], $3::bigint[]) as bid (id, seen, next)
    ), taken as (
        insert into coupon_position as p (coupon_id, epoch, told_quantity, told_waitlist, told_status, told_mode)
        select c.id, bid.next, c.quantity, c.waitlist, 'STANDARD', c.mode
        from bid join coupon c on c.id = bid.id
        where exists (select from coupon_position held where held.coupon_id = c.id)
           or exists (select from coupon free where free.id = c.id for key share skip locked)
        order by c.id
        on conflict (coupon_id) do update set epoch = excluded.epoch
            where p.epoch = (select bid.seen from bid where bid.id = p.coupon_id)
        returning coupon_id, epoch, seq, chain
    )
    select coupon_id as id, epoch, seq, chain, coalesce(
        (select r.epoch from user_coupon r where r.coupon_id = taken.coupon_id and r.seq = taken.seq),
        (select d.epoch from coupon_dead_letter d where d.coupon_id = taken.coupon_id and d.seq = taken.seq)) as entry_epoch
    from taken";

const ENTRY: &str = "
    select epoch from user_coupon where coupon_id = $1 and seq = $2
    union all
    select epoch from coupon_dead_letter where coupon_id = $1 and seq = $2
    limit 1";

/// Says, before Redis hears of it, that it is told the row's definition, under the next number. Of two who say so one finds that
/// the number has moved. Fewer units are said to be told only after Redis has taken them: until then it may grant more.
const ANNOUNCE: &str = "
    update coupon_position p set
        revision = greatest(p.revision, $3) + 1, told_quantity = greatest(p.told_quantity, c.quantity),
        told_waitlist = c.waitlist, told_opens_at = c.opens_at, told_expires_at = c.expires_at,
        told_status = c.status, told_mode = c.mode
    from coupon c
    where p.coupon_id = $1 and p.revision = $2 and c.id = p.coupon_id and c.xmin::text::bigint = $4
    returning p.revision";

const LOWER: &str = "
    update coupon_position set told_quantity = greatest($3, seq - released)
    where coupon_id = $1 and revision = $2 and told_quantity > $3";

/// Redis may have granted more than it was told, as by a hand that raised the quantity there.
const ADMIT: &str = "update coupon_position set told_quantity = $2 where coupon_id = $1 and told_quantity < $2";

const RAISE: &str = "
    update coupon set quantity = $2
    where id = (select id from coupon where id = $1 and quantity < $2 for no key update skip locked)";

/// Of a row that somebody else has inserted nothing is known before the end of that transaction, not even that it is there.
const ADOPT: &str = "
    with adopted as (
        insert into coupon (id, name, status, mode, quantity, waitlist, opens_at, expires_at)
        select $1, $1, $2::text::coupon_status, $3::text::coupon_mode, $4, $5, $6, $7
        from set_config('lock_timeout', '100ms', true)
        on conflict do nothing
        returning id, quantity, waitlist, opens_at, expires_at, status, mode
    )
    insert into coupon_position
        (coupon_id, told_quantity, told_waitlist, told_opens_at, told_expires_at, told_status, told_mode)
    select id, quantity, waitlist, opens_at, expires_at, status, mode from adopted";

/// Only where both are still what was compared: then what the row says and what Redis was told are one again.
const MIRROR: &str = "
    with mirrored as (
        update coupon set
            status = $4::text::coupon_status, mode = $5::text::coupon_mode, quantity = $6, waitlist = $7, opens_at = $8,
            expires_at = $9
        where id = (select id from coupon where id = $1 and xmin::text::bigint = $2 for no key update skip locked)
          and exists (select from coupon_position where coupon_id = $1 and revision = $3)
        returning id, quantity, waitlist, opens_at, expires_at, status, mode
    )
    update coupon_position p set
        told_quantity = greatest(m.quantity, p.seq - p.released), told_waitlist = m.waitlist,
        told_opens_at = m.opens_at, told_expires_at = m.expires_at, told_status = m.status, told_mode = m.mode
    from mirrored m where p.coupon_id = m.id";

from_row! {
    /// A row as PostgreSQL gives it.
    struct Stored {
        id: String,
        version: i64,
        quantity: i64,
        waitlist: i64,
        opens_at: Option<String>,
        expires_at: Option<String>,
        status: String,
        mode: String,
        told_quantity: Option<i64>,
        told_waitlist: Option<i64>,
        told_opens_at: Option<String>,
        told_expires_at: Option<String>,
        told_status: Option<String>,
        told_mode: Option<String>,
        revision: i64,
        granted: i64,
        epoch: i64,
        seq: i64,
        chain: i64,
    }
}

from_row! {
    /// Where the ledger stands under an epoch that was just taken.
    struct Taken {
        id: String,
        epoch: i64,
        seq: i64,
        chain: i64,
        entry_epoch: Option<i64>,
    }
}

impl Ledger {
    /// One coupon.
    pub async fn row(&self, id: &str) -> Result<Option<Row>, Error> {
        let found = self.fetch::<Reading>(sqlx::query_as(ONE).bind(id)).await?.pop();
        found.map(|Reading(row)| row.map_err(|unreadable| Error::Held(unreadable.to_string()))).transpose()
    }

    /// Coupons that are on offer, or that Redis was told to offer.
    pub const fn on_offer(&self) -> Pages<'_> {
        Pages { ledger: self, query: ON_OFFER, after: String::new() }
    }

    /// All coupons.
    pub const fn pages(&self) -> Pages<'_> {
        Pages { ledger: self, query: ALL, after: String::new() }
    }

    /// So many coupons, those on offer before the others; and how many there are in all.
    pub async fn first(&self, limit: u32) -> Result<(Vec<Row>, u64), Error> {
        let rows = self.coupons(sqlx::query_as(FIRST).bind(i64::from(limit))).await?;
        let all: Option<(i64,)> = self.fetch(sqlx::query_as(COUNT)).await?.pop();
        Ok((rows, all.map_or(0, |(all,)| unsigned(all))))
    }

    /// These coupons, as far as there are rows that can be read.
    pub async fn rows(&self, ids: &[String]) -> Result<Vec<Row>, Error> {
        self.coupons(sqlx::query_as(SOME).bind(ids)).await
    }

    async fn coupons(&self, query: QueryAs<'_, Reading>) -> Result<Vec<Row>, Error> {
        Ok(self.fetch(query).await?.into_iter().filter_map(|Reading(row)| row.ok()).collect())
    }

    /// Whether the ledger still stands there. If not, somebody else moved it.
    pub async fn is_at(&self, id: &str, progress: &Progress) -> Result<bool, Error> {
        let row = self.row(id).await?;
        Ok(row.is_some_and(|row| row.epoch == progress.epoch && row.position == progress.position))
    }

    /// Takes the epoch after all that were seen, in the row and in Redis, of each of these coupons that is still at its row's;
    /// and says where the ledger stands with it. Those that are missing in the answer have moved.
    pub async fn take_epochs(&self, coupons: &[(&Row, Epoch)]) -> Result<HashMap<String, Progress>, Error> {
        let ids: Vec<&str> = coupons.iter().map(|(row, _)| &*row.id).collect();
        let seen: Vec<i64> = coupons.iter().map(|(row, _)| count(row.epoch.0)).collect();
        let next: Vec<i64> =
            coupons.iter().map(|(row, redis)| count(row.epoch.max(*redis).0.saturating_add(1))).collect();
        let taken: Vec<Taken> = self.fetch(sqlx::query_as(TAKE_EPOCHS).bind(&ids).bind(&seen).bind(&next)).await?;
        Ok(taken.into_iter().map(|taken| (taken.id.clone(), taken.progress())).collect())
    }

    /// The stream entry of a grant.
    pub async fn entry(&self, id: &str, seq: Seq) -> Result<EntryId, Error> {
        if seq.0 == 0 {
            return Ok(EntryId::default());
        }
        let epoch: Option<(i64,)> = self.fetch(sqlx::query_as(ENTRY).bind(id).bind(count(seq.0))).await?.pop();
        Ok(entry_id(epoch.map(|(epoch,)| epoch), seq))
    }

    /// Says that Redis is told what a row offers; the number under which it is. `redis` is the newest that Redis has heard of,
    /// which is more than the ledger knows where PostgreSQL lost commits.
    ///
    /// # Errors
    /// [`Error::Moved`] if the row has changed, or somebody else has said so.
    pub async fn announce(&self, row: &Row, redis: u64) -> Result<u64, Error> {
        let query =
            sqlx::query_as(ANNOUNCE).bind(&row.id).bind(count(row.revision())).bind(count(redis)).bind(row.version);
        let announced: Option<(i64,)> = self.fetch(query).await?.pop();
        announced.map(|(revision,)| unsigned(revision)).ok_or(Error::Moved)
    }

    /// Notes that Redis offers no more units than these.
    pub async fn lower(&self, id: &str, revision: u64, quantity: u64) -> Result<(), Error> {
        self.execute(sqlx::query(LOWER).bind(id).bind(count(revision)).bind(count(quantity))).await.map(drop)
    }

    /// Makes room for what Redis has granted beyond what it was told.
    pub async fn admit(&self, id: &str, granted: u64) -> Result<(), Error> {
        self.execute(sqlx::query(ADMIT).bind(id).bind(count(granted))).await.map(drop)
    }

    /// Raises a row's quantity to what Redis has promised; whether it did. It does not if it is enough, or somebody holds the row.
    pub async fn raise_quantity(&self, id: &str, quantity: u64) -> Result<bool, Error> {
        Ok(self.execute(sqlx::query(RAISE).bind(id).bind(count(quantity))).await? > 0)
    }

    /// Makes a row for a coupon opened by hand; an existing one stays as it is.
    pub async fn adopt(&self, id: &str, info: &Info) -> Result<(), Error> {
        let query = bind_offer(sqlx::query(ADOPT).bind(id), row_status(info, Seq(0)), &info.offer.definition)?;
        self.execute(query).await.map(drop)
    }

    /// Takes Redis's definition and status into the row; whether it did. It does not if the row has changed, or somebody holds it.
    pub async fn mirror(&self, row: &Row, info: &Info) -> Result<bool, Error> {
        // An ended coupon keeps the row's definition: it is the application's word on what comes next.
        let kept = if info.offer.status == Status::Expired { &row.offer } else { &info.offer };
        let query = sqlx::query(MIRROR).bind(&row.id).bind(row.version).bind(count(row.revision()));
        Ok(self.execute(bind_offer(query, row_status(info, row.position.seq), &kept.definition)?).await? > 0)
    }
}

/// Status and definition as the next six arguments.
fn bind_offer<'q>(query: Statement<'q>, status: Status, definition: &Definition) -> Result<Statement<'q>, Error> {
    let query = query.bind(status.word()).bind(definition.mode.word());
    let query = query.bind(count(definition.quantity)).bind(count(definition.waitlist));
    Ok(query.bind(bound(definition.opens_at)?).bind(bound(definition.expires_at)?))
}

/// The row's status for a coupon of Redis: ISSUED only once its last unit is in the ledger.
fn row_status(info: &Info, ledger: Seq) -> Status {
    if info.offer.status == Status::Issued && ledger < info.granted { Status::Available } else { info.offer.status }
}

impl Taken {
    fn progress(&self) -> Progress {
        let position = Position { seq: Seq(unsigned(self.seq)), chain: Chain(self.chain) };
        let entry = entry_id(self.entry_epoch, position.seq);
        Progress { epoch: Epoch(unsigned(self.epoch)), position, entry }
    }
}

/// The start of the stream where the entry is not known, which only makes the first read longer.
fn entry_id(epoch: Option<i64>, seq: Seq) -> EntryId {
    epoch.map_or_else(EntryId::default, |epoch| EntryId { epoch: Epoch(unsigned(epoch)), seq })
}

/// A row, or why it is none: those beside it are.
struct Reading(Result<Row, Unreadable>);

impl FromRow<'_, PgRow> for Reading {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let read = Stored::from_row(row).map_err(|error| error.to_string()).and_then(Row::try_from);
        let id = sqlx::Row::try_get(row, "id")?;
        Ok(Self(read.map_err(|why| Unreadable { id, why })))
    }
}

impl TryFrom<Stored> for Row {
    type Error = String;

    fn try_from(row: Stored) -> Result<Self, String> {
        let told = match (row.told_status, row.told_mode, row.told_quantity, row.told_waitlist) {
            (Some(status), Some(mode), Some(quantity), Some(waitlist)) => Some(Told {
                revision: unsigned(row.revision),
                offer: offer(&status, &mode, [quantity, waitlist], [row.told_opens_at, row.told_expires_at])?,
            }),
            _ => None,
        };
        Ok(Self {
            id: row.id,
            version: row.version,
            offer: offer(&row.status, &row.mode, [row.quantity, row.waitlist], [row.opens_at, row.expires_at])?,
            told,
            granted: unsigned(row.granted),
            epoch: Epoch(unsigned(row.epoch)),
            position: Position { seq: Seq(unsigned(row.seq)), chain: Chain(row.chain) },
        })
    }
}

fn offer(
    status: &str,
    mode: &str,
    [quantity, waitlist]: [i64; 2],
    [opens_at, expires_at]: [Option<String>; 2],
) -> Result<Offer, String> {
    let units = |column: &str, min: i64, units: i64| match u64::try_from(units) {
        Ok(known) if units >= min && known <= QUANTITY_MAX => Ok(known),
        _ => Err(format!("{column} is {units}")),
    };
    let bound = |column: &str, ms: Option<String>| {
        let Some(ms) = ms else { return Ok(0) };
        match ms.parse::<u64>() {
            Ok(known) if known <= WINDOW_MS_MAX => Ok(known.max(WINDOW_MS_MIN)),
            // What lies before the earliest that Redis takes has passed just as that has.
            _ if ms.starts_with('-') => Ok(WINDOW_MS_MIN),
            _ => Err(format!("{column} is {ms}, in milliseconds")),
        }
    };
    Ok(Offer {
        status: Status::parse(status.as_bytes()).ok_or_else(|| format!("status is {status}"))?,
        definition: Definition {
            quantity: units("quantity", 1, quantity)?,
            mode: Mode::parse(mode.as_bytes()).ok_or_else(|| format!("mode is {mode}"))?,
            waitlist: units("waitlist", 0, waitlist)?,
            opens_at: bound("opens_at", opens_at)?,
            expires_at: bound("expires_at", expires_at)?,
        },
    })
}
