//! Table `coupon`: definitions, epochs, and which of them Redis has.

use super::{Ledger, Progress, bound, bound_ms, count};
use crate::error::Error;
use crate::plan::is_on_offer;
use crate::redis::Info;
use coupon_core::coupon::Definition;
use coupon_core::grant::EntryId;
use coupon_core::number::{Chain, Epoch, Seq};
use coupon_core::position::Position;
use coupon_core::words::{Mode, Status};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use std::collections::HashMap;
use time::OffsetDateTime;

/// A row of table `coupon`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The coupon.
    pub id: String,
    /// Where it is in its life.
    pub status: Status,
    /// What is defined.
    pub definition: Definition,
    /// Rows in user_coupon.
    pub granted: u64,
    /// Its life under one history of Redis.
    pub epoch: Epoch,
    /// The newest grant in the ledger.
    pub position: Position,
    /// Counts the changes of the definition.
    pub revision: i64,
    /// The revision that Redis has.
    pub published_revision: i64,
}

impl Row {
    /// Whether an application changed the definition and Redis has not heard of it.
    pub const fn is_newer(&self) -> bool {
        self.revision != self.published_revision
    }
}

/// An epoch just taken, and the ledger's position under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The epoch; nobody else has it.
    pub epoch: Epoch,
    /// The newest grant in the ledger.
    pub position: Position,
}

/// All coupons, page by page.
pub struct Pages<'a> {
    ledger: &'a Ledger,
    /// The last id of the page before.
    after: String,
}

impl Pages<'_> {
    /// The next page; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Row>>, Error> {
        let page = sqlx::query(ALL).bind(&self.after).bind(i64::from(PAGE_LEN));
        let rows = read_all(&self.ledger.fetch(page).await?)?;
        let Some(last) = rows.last() else { return Ok(None) };
        self.after.clone_from(&last.id);
        Ok(Some(rows))
    }
}

/// A wish for an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bid {
    /// The coupon.
    pub id: String,
    /// The epoch that was seen.
    pub seen: Epoch,
    /// The epoch that is wanted.
    pub next: Epoch,
}

/// Epochs taken of many coupons: where the ledger stands with each, under its new epoch.
pub type Standing = HashMap<String, Progress>;

/// Coupons in one page.
const PAGE_LEN: u32 = 500;

const ROW: &str = "select id, status::text, mode::text, quantity, waitlist, opens_at, expires_at, granted, epoch, seq, chain, revision, published_revision from coupon where id = $1";
const PAGE: &str = "select id, status::text, mode::text, quantity, waitlist, opens_at, expires_at, granted, epoch, seq, chain, revision, published_revision from coupon where (status in ('AVAILABLE', 'ISSUED') or revision <> published_revision) and id > $1 order by id limit $2";
const ROWS: &str = "select id, status::text, mode::text, quantity, waitlist, opens_at, expires_at, granted, epoch, seq, chain, revision, published_revision from coupon where id = any($1)";
const ALL: &str = "select id, status::text, mode::text, quantity, waitlist, opens_at, expires_at, granted, epoch, seq, chain, revision, published_revision from coupon where id > $1 order by id limit $2";

/// What is on offer comes first: where there are too many to be shown, the others are the ones to leave out.
const FIRST: &str = "select id, status::text, mode::text, quantity, waitlist, opens_at, expires_at, granted, epoch, seq, chain, revision, published_revision, count(*) over () as coupons from coupon order by status in ('AVAILABLE', 'ISSUED') desc, id limit $1";

/// Taken by compare-and-set: of two reconcilers that saw the same epoch, one gets the next.
const TAKE_EPOCH: &str =
    "update coupon set epoch = $3, updated_at = now() where id = $1 and epoch = $2 returning seq, chain";

/// The same for many coupons, with the epoch of the newest grant's entry.
const TAKE_EPOCHS: &str = "
    update coupon c set epoch = bid.next, updated_at = now()
    from unnest($1::text[], $2::bigint[], $3::bigint[]) as bid (id, seen, next)
    where c.id = bid.id and c.epoch = bid.seen
    returning c.id, c.epoch, c.seq, c.chain, coalesce(
        (select r.epoch from user_coupon r where r.coupon_id = c.id and r.seq = c.seq),
        (select d.epoch from coupon_dead_letter d where d.coupon_id = c.id and d.seq = c.seq)) as entry_epoch";

/// The entry's ID of the newest grant. None if that row was moved elsewhere.
const ENTRY: &str = "select epoch from user_coupon where coupon_id = $1 and seq = $2 union all select epoch from coupon_dead_letter where coupon_id = $1 and seq = $2 limit 1";

/// If the definition changed while it was being published, what Redis has may be older than what another reconciler
/// published since: then it is published again.
const MARK_PUBLISHED: &str =
    "update coupon set published_revision = case when revision = $2 then $2 else 0 end where id = $1";

const UNPUBLISH: &str = "update coupon set published_revision = 0 where id = $1";

const ADOPT: &str = "insert into coupon (id, name, status, mode, quantity, waitlist, opens_at, expires_at, revision, published_revision) values ($1, $1, $2::text::coupon_status, $3::text::coupon_mode, $4, $5, $6, $7, 1, 1) on conflict do nothing";

/// Only where the row is still the one that was compared.
const MIRROR: &str = "update coupon set status = $3::text::coupon_status, mode = $4::text::coupon_mode, quantity = $5, waitlist = $6, opens_at = $7, expires_at = $8, revision = revision + 1, published_revision = revision + 1, updated_at = now() where id = $1 and revision = $2 and published_revision = $2";

const RAISE_QUANTITY: &str = "update coupon set quantity = $2, status = case when status = 'ISSUED' and seq < $2 then 'AVAILABLE' else status end, revision = revision + 1, updated_at = now() where id = $1 and quantity < $2";

impl Ledger {
    /// One coupon.
    pub async fn row(&self, id: &str) -> Result<Option<Row>, Error> {
        let rows = self.fetch(sqlx::query(ROW).bind(id)).await?;
        Ok(rows.first().map(read).transpose()?)
    }

    /// Coupons that are on offer or not published, in the order of their ids, after one.
    pub async fn page_to_reconcile(&self, after: &str, limit: u32) -> Result<Vec<Row>, Error> {
        read_all(&self.fetch(sqlx::query(PAGE).bind(after).bind(i64::from(limit))).await?)
    }

    /// All coupons, in the order of their ids.
    pub const fn pages(&self) -> Pages<'_> {
        Pages { ledger: self, after: String::new() }
    }

    /// So many coupons, those on offer before the others; and how many there are in all.
    pub async fn first(&self, limit: u32) -> Result<(Vec<Row>, u64), Error> {
        let rows = self.fetch(sqlx::query(FIRST).bind(i64::from(limit))).await?;
        let coupons = rows.first().map_or(Ok(0), |row| row.try_get("coupons"))?;
        Ok((read_all(&rows)?, unsigned(coupons)))
    }

    /// These coupons, as far as there are rows.
    pub async fn rows(&self, ids: &[String]) -> Result<Vec<Row>, Error> {
        read_all(&self.fetch(sqlx::query(ROWS).bind(ids)).await?)
    }

    /// Whether the ledger still stands there. If not, somebody else moved it.
    pub async fn is_at(&self, id: &str, progress: &Progress) -> Result<bool, Error> {
        let row = self.row(id).await?;
        Ok(row.is_some_and(|row| row.epoch == progress.epoch && row.position == progress.position))
    }

    /// Takes an epoch, if the coupon is still at the one seen.
    pub async fn take_epoch(&self, id: &str, seen: Epoch, next: Epoch) -> Result<Taken, Error> {
        let rows = self.fetch(sqlx::query(TAKE_EPOCH).bind(id).bind(count(seen.0)).bind(count(next.0))).await?;
        let row = rows.first().ok_or(Error::Moved)?;
        let position = Position { seq: Seq(unsigned(row.try_get("seq")?)), chain: Chain(row.try_get("chain")?) };
        Ok(Taken { epoch: next, position })
    }

    /// Takes epochs of many coupons. Those that are missing in the answer have moved.
    pub async fn take_epochs(&self, bids: &[Bid]) -> Result<Standing, Error> {
        let ids: Vec<&str> = bids.iter().map(|bid| &*bid.id).collect();
        let seen: Vec<i64> = bids.iter().map(|bid| count(bid.seen.0)).collect();
        let next: Vec<i64> = bids.iter().map(|bid| count(bid.next.0)).collect();
        let rows = self.fetch(sqlx::query(TAKE_EPOCHS).bind(&ids).bind(&seen).bind(&next)).await?;
        let standing = |row: &PgRow| {
            let seq = Seq(unsigned(row.try_get("seq")?));
            let entry_epoch: Option<i64> = row.try_get("entry_epoch")?;
            let progress = Progress {
                epoch: Epoch(unsigned(row.try_get("epoch")?)),
                position: Position { seq, chain: Chain(row.try_get("chain")?) },
                entry: entry_epoch
                    .map_or_else(EntryId::default, |epoch| EntryId { epoch: Epoch(unsigned(epoch)), seq }),
            };
            Ok((row.try_get("id")?, progress))
        };
        Ok(rows.iter().map(standing).collect::<Result<_, sqlx::Error>>()?)
    }

    /// The stream entry of a grant; the start of the stream if it is not known, which only makes the first read longer.
    pub async fn entry(&self, id: &str, seq: Seq) -> Result<EntryId, Error> {
        if seq.0 == 0 {
            return Ok(EntryId::default());
        }
        let rows = self.fetch(sqlx::query(ENTRY).bind(id).bind(count(seq.0))).await?;
        let Some(row) = rows.first() else { return Ok(EntryId::default()) };
        Ok(EntryId { epoch: Epoch(unsigned(row.try_get("epoch")?)), seq })
    }

    /// Notes that Redis has this revision.
    pub async fn mark_published(&self, id: &str, revision: i64) -> Result<(), Error> {
        self.execute(sqlx::query(MARK_PUBLISHED).bind(id).bind(revision)).await.map(drop)
    }

    /// Notes that Redis lacks the definition.
    pub async fn unpublish(&self, id: &str) -> Result<(), Error> {
        self.execute(sqlx::query(UNPUBLISH).bind(id)).await.map(drop)
    }

    /// Makes a row for a coupon opened by hand; an existing one stays as it is.
    pub async fn adopt(&self, id: &str, info: &Info) -> Result<(), Error> {
        let Definition { quantity, mode, waitlist, opens_at, expires_at } = info.definition;
        let query = sqlx::query(ADOPT)
            .bind(id)
            .bind(row_status(info, Seq(0)).word())
            .bind(mode.word())
            .bind(count(quantity))
            .bind(count(waitlist))
            .bind(bound(opens_at)?)
            .bind(bound(expires_at)?);
        self.execute(query).await.map(drop)
    }

    /// Takes Redis's definition and status into the row.
    pub async fn mirror(&self, row: &Row, info: &Info) -> Result<(), Error> {
        // An ended coupon keeps the row's definition: it is the application's word on what comes next.
        let definition = if is_on_offer(info.status) { info.definition } else { row.definition };
        let Definition { quantity, mode, waitlist, opens_at, expires_at } = definition;
        let query = sqlx::query(MIRROR)
            .bind(&row.id)
            .bind(row.revision)
            .bind(row_status(info, row.position.seq).word())
            .bind(mode.word())
            .bind(count(quantity))
            .bind(count(waitlist))
            .bind(bound(opens_at)?)
            .bind(bound(expires_at)?);
        match self.execute(query).await? {
            0 => Err(Error::Moved),
            _ => Ok(()),
        }
    }

    /// Raises the quantity to what Redis has promised, and lets the row be published.
    pub async fn raise_quantity(&self, id: &str, quantity: u64) -> Result<(), Error> {
        self.execute(sqlx::query(RAISE_QUANTITY).bind(id).bind(count(quantity))).await.map(drop)
    }
}

/// The row's status for a coupon of Redis: ISSUED only once its last unit is in the ledger.
fn row_status(info: &Info, ledger: Seq) -> Status {
    if info.status == Status::Issued && ledger < info.granted { Status::Available } else { info.status }
}

fn read_all(rows: &[PgRow]) -> Result<Vec<Row>, Error> {
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

fn read(row: &PgRow) -> Result<Row, sqlx::Error> {
    let word = |name| -> Result<String, sqlx::Error> { row.try_get(name) };
    let number = |name| -> Result<u64, sqlx::Error> { Ok(unsigned(row.try_get(name)?)) };
    let at = |name| -> Result<u64, sqlx::Error> { Ok(bound_ms(row.try_get::<Option<OffsetDateTime>, _>(name)?)) };
    let unknown = |what: &str, word: &str| sqlx::Error::Decode(format!("coupon has {what} {word}").into());
    let (status, mode) = (word("status")?, word("mode")?);
    Ok(Row {
        id: row.try_get("id")?,
        status: Status::parse(status.as_bytes()).ok_or_else(|| unknown("status", &status))?,
        definition: Definition {
            quantity: number("quantity")?,
            mode: Mode::parse(mode.as_bytes()).ok_or_else(|| unknown("mode", &mode))?,
            waitlist: number("waitlist")?,
            opens_at: at("opens_at")?,
            expires_at: at("expires_at")?,
        },
        granted: number("granted")?,
        epoch: Epoch(number("epoch")?),
        position: Position { seq: Seq(number("seq")?), chain: Chain(row.try_get("chain")?) },
        revision: row.try_get("revision")?,
        published_revision: row.try_get("published_revision")?,
    })
}

/// A column that a CHECK keeps from being negative.
pub(super) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
