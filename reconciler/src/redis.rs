//! Every command that is sent to Redis, and what its replies mean.
//!
//! One connection serves all: commands of many coupons share it as a pipeline. Nothing that blocks is ever sent on it.

mod audit;
mod connection;
mod sentinel;
mod server;
mod stream;

pub use audit::{Held, Moment};
pub use connection::{Redis, ScanCursor};
pub use server::Certificates;
pub use stream::Entry;

use crate::error::{self, Remedy};
use crate::model::coupon::{Info, Offer};
use crate::model::grant::Link;
use ::redis::{
    Cmd, ErrorKind, FromRedisValue, InfoDict, ParsingError, RedisError, RedisResult, Role, ToRedisArgs, Value, cmd,
    from_redis_value, from_redis_value_ref, pipe,
};
use coupon_core::coupon::{Definition, Field};
use coupon_core::grant::{EntryId, Grant};
use coupon_core::ledger::option;
use coupon_core::number::{Arrival, Epoch, Seq};
use coupon_core::position::Position;
use coupon_core::user::UserId;
use coupon_core::words::{Mode, Status};
use coupon_core::{open, restore};
use std::collections::HashMap;
use stream::grants;

/// The id of a coupon that nobody has, in whose place stands which Redis this is.
pub const TOKEN_ID: &str = "coupon-reconciler-token";

/// The answer to COUPON.RESUME, where it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// The gate is open.
    Open,
    /// Redis holds less than the ledger.
    Behind(Position),
    /// Redis holds another history than the ledger.
    Diverged(Position),
    /// Nothing could be decided; the server's text says why.
    Undecided(String),
}

impl Redis {
    /// The state of a coupon, none where there is none.
    pub async fn info(&self, key: &str) -> RedisResult<Option<Info>> {
        match self.call::<Info>(cmd("COUPON.INFO").arg(key)).await {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.code() == Some("NOCOUPON") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Publishes a definition, all of it, under a number that only grows.
    pub async fn open(&self, key: &str, offer: &Offer, epoch: Epoch, revision: u64) -> RedisResult<()> {
        use open::option;
        let Definition { quantity, mode, waitlist, opens_at, expires_at } = offer.definition;
        // ISSUED is what becomes of AVAILABLE.
        let status = if offer.status == Status::Standard { Status::Standard } else { Status::Available };
        let mut command = cmd("COUPON.OPEN");
        command.arg((key, option::EPOCH, epoch.0, option::REVISION, revision, option::STATUS, status.word()));
        command.arg((option::QUANTITY, quantity, option::MODE, mode.word(), option::WAITLIST, waitlist));
        command.arg((option::OPENS, opens_at, option::EXPIRES, expires_at));
        self.call(&command).await
    }

    /// Ends a coupon, under such a number.
    pub async fn close(&self, key: &str, epoch: Epoch, revision: u64) -> RedisResult<()> {
        use open::option;
        self.call(cmd("COUPON.CLOSE").arg((key, option::EPOCH, epoch.0, option::REVISION, revision))).await
    }

    /// Asks for the gate to be opened under an epoch, at the ledger's position.
    pub async fn resume(&self, key: &str, epoch: Epoch, at: Position) -> RedisResult<Resumed> {
        let position = (option::SEQ, at.seq.0, option::CHAIN, at.chain.0);
        let resumed = self.call::<()>(cmd("COUPON.RESUME").arg((key, option::EPOCH, epoch.0)).arg(position)).await;
        let Err(error) = resumed else { return Ok(Resumed::Open) };
        let detail = error.detail().unwrap_or_default();
        let position =
            || Position::parse(detail).ok_or(unexpected("the position is missing in the refusal of COUPON.RESUME"));
        match error.code() {
            Some("BEHIND") => Ok(Resumed::Behind(position()?)),
            Some("DIVERGED") => Ok(Resumed::Diverged(position()?)),
            Some("TRYAGAIN") => Ok(Resumed::Undecided(detail.to_owned())),
            _ => Err(error),
        }
    }

    /// Puts the ledger's grants after a position, with who is refused among them, in the place of what Redis has there. The coupon has to be shut under the
    /// epoch, else the answer is one of which [`is_unshut`] is true.
    pub async fn restore(&self, key: &str, epoch: Epoch, after: Position, links: &[Link]) -> RedisResult<()> {
        let mut command = cmd("COUPON.RESTORE");
        command.arg((key, option::EPOCH, epoch.0, restore::option::AFTER, after.seq.0, option::CHAIN, after.chain.0));
        let refused: Vec<&String> = links.iter().filter(|link| link.is_dead).map(|link| &link.user).collect();
        name(&mut command, option::REFUSED, &refused);
        command.arg((restore::option::GRANTS, links.len()));
        for link in links {
            command.arg((&link.user, link.requested_at.0, link.granted_at_ms));
        }
        self.call(&command).await
    }

    /// Shuts the gate of a coupon under an epoch and leaves everything else; its newest grant. What is granted can be read
    /// then without more being granted meanwhile.
    pub async fn shut(&self, key: &str, epoch: Epoch) -> RedisResult<Seq> {
        self.call::<()>(cmd("COUPON.RESTORE").arg((key, option::EPOCH, epoch.0))).await?;
        self.stored(key, Field::Seq).await.map(Seq)
    }

    /// The epoch stored in a coupon's hash, also where the coupon cannot answer for itself.
    pub async fn epoch(&self, key: &str) -> RedisResult<Epoch> {
        self.stored(key, Field::Epoch).await.map(Epoch)
    }

    /// A number in a coupon's hash. Read apart, so that a coupon which lacks a companion key, and refuses to be asked, gives
    /// it too.
    async fn stored(&self, key: &str, field: Field) -> RedisResult<u64> {
        let stored: Option<u64> = self.call(&Cmd::hget(key, field.name())).await?;
        Ok(stored.unwrap_or(0))
    }

    /// Whether users were accepted, by what the coupon's hash says, and none of them is left in the line.
    pub async fn has_lost_its_line(&self, key: &str) -> RedisResult<bool> {
        let (first_at, accepted): (Option<u64>, u64) =
            self.pipeline(pipe().hget(key, Field::FirstAt.name()).zcard(issued_key(key))).await?;
        Ok(first_at.is_some() && accepted == 0)
    }

    /// Grants to the next waiting users; how many.
    pub async fn issue(&self, key: &str) -> RedisResult<u64> {
        self.call(cmd("COUPON.ISSUE").arg(key)).await
    }

    /// Tells Redis what is committed; and of whom there is a dead letter, or a row in its place, as the word says.
    pub async fn ack(&self, key: &str, epoch: Epoch, seq: Seq, word: &str, users: &[String]) -> RedisResult<()> {
        let mut command = cmd("COUPON.ACK");
        command.arg((key, option::EPOCH, epoch.0, option::SEQ, seq.0));
        self.call(name(&mut command, word, users)).await
    }

    /// How many users Redis tells that they are refused.
    pub async fn count_refused(&self, key: &str) -> RedisResult<u64> {
        self.stored(key, Field::Refused).await
    }

    /// Those users, by rank from 0, at most so many.
    pub async fn refused(&self, key: &str, from: u64, count: u64) -> RedisResult<Vec<String>> {
        let refused = format!("{key}{}", coupon_core::key::REFUSED);
        let to = from.saturating_add(count).saturating_sub(1);
        let users: Vec<Vec<u8>> = self.call(cmd("ZRANGE").arg((refused, from, to))).await?;
        // PostgreSQL cannot even be asked for other bytes, which only a hand can have put there.
        Ok(users.iter().map(|user| String::from_utf8_lossy(user).replace('\0', "\u{fffd}")).collect())
    }

    /// The grants after an entry, at most so many.
    pub async fn read(&self, key: &str, after: EntryId, count: u32) -> RedisResult<Vec<Grant>> {
        let read = ("COUNT", count, "STREAMS", grants_key(key), after.to_string());
        let streams: Option<Vec<(Value, Vec<Entry>)>> = self.call(cmd("XREAD").arg(read)).await?;
        grants(streams.into_iter().flatten().flat_map(|(_, entries)| entries))
    }

    /// The grants from an entry on, at most so many.
    pub async fn read_from(&self, key: &str, from: EntryId, count: u32) -> RedisResult<Vec<Grant>> {
        grants(self.entries(key, from, count).await?)
    }

    /// The entries from one on, at most so many.
    pub async fn entries(&self, key: &str, from: EntryId, count: u32) -> RedisResult<Vec<Entry>> {
        self.call(&stream::entries(key, from, count)).await
    }

    /// The grants before an entry, or the newest, at most so many and the newest first. Entries that are no grants are
    /// passed over; the last ID of the page comes with them, none at the end.
    pub async fn read_back(
        &self,
        key: &str,
        before: Option<EntryId>,
        count: u32,
    ) -> RedisResult<(Vec<Grant>, Option<EntryId>)> {
        let newest = before.map_or_else(|| "+".to_owned(), |id| format!("({id}"));
        let page = (grants_key(key), newest, "-", "COUNT", count);
        let entries: Vec<Entry> = self.call(cmd("XREVRANGE").arg(page)).await?;
        let last = entries.last().map(|entry| entry.id);
        Ok((entries.into_iter().filter_map(|entry| entry.grant.ok()).collect(), last))
    }

    /// Accepted users with their arrivals, by rank from 0, at most so many. None for a member that is no user, or has a
    /// score that is no arrival: only a hand can have put it there.
    pub async fn accepted(&self, key: &str, from: u64, count: u64) -> RedisResult<Vec<Option<(String, Arrival)>>> {
        let user = |(member, score): (Vec<u8>, f64)| {
            let user = UserId::parse(&member).ok()?.as_str().to_owned();
            Some((user, Arrival::from_score(score)?))
        };
        Ok(self.members(key, from, count).await?.into_iter().map(user).collect())
    }

    /// Members of the sorted set with their scores, by rank from 0, at most so many.
    pub async fn members(&self, key: &str, from: u64, count: u64) -> RedisResult<Vec<(Vec<u8>, f64)>> {
        let to = from.saturating_add(count).saturating_sub(1);
        self.call(cmd("ZRANGE").arg((issued_key(key), from, to, "WITHSCORES"))).await
    }

    /// The server's clock, in milliseconds.
    pub async fn now_ms(&self) -> RedisResult<u64> {
        let (seconds, micros): (u64, u64) = self.ask_one(&cmd("TIME")).await?;
        Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
    }

    /// What stands at a key, which is written if nothing does. Read first, as a server that is full takes no write.
    pub async fn token(&self, key: &str, proposed: &str) -> RedisResult<String> {
        let read = Cmd::get(key);
        if let Some(token) = self.call(&read).await? {
            return Ok(token);
        }
        self.call::<()>(cmd("SET").arg((key, proposed, "NX"))).await?;
        self.call(&read).await
    }

    /// Whether this server takes writes: its role is master.
    pub async fn is_primary(&self) -> RedisResult<bool> {
        Ok(matches!(self.ask_one(&cmd("ROLE")).await?, Role::Primary { .. }))
    }

    /// The version of the coupon module as the server counts it, none if it is not loaded.
    pub async fn module_version(&self) -> RedisResult<Option<u64>> {
        let modules: Vec<HashMap<String, Value>> = self.ask_one(cmd("MODULE").arg("LIST")).await?;
        let name = Value::BulkString("coupon".into());
        let ours = modules.into_iter().find(|module| module.get("name") == Some(&name));
        Ok(ours.and_then(|mut module| module.remove("ver")).map(from_redis_value).transpose()?)
    }

    /// The version of the server.
    pub async fn server_version(&self) -> RedisResult<Option<String>> {
        let info: InfoDict = self.ask_one(cmd("INFO").arg("server")).await?;
        Ok(info.get("redis_version"))
    }

    /// A configuration value.
    pub async fn config(&self, name: &str) -> RedisResult<Option<String>> {
        let mut values: HashMap<String, String> = self.ask_one(cmd("CONFIG").arg(("GET", name))).await?;
        Ok(values.remove(name))
    }

    /// Whether this user may call a command; the error says why not. The call is one that the command refuses, or that
    /// changes nothing.
    pub async fn may(&self, call: &[&str]) -> RedisResult<()> {
        match self.call::<Value>(Cmd::new().arg(call)).await {
            Err(error) if matches!(error::redis_remedy(&error), Remedy::Reconnect(_)) => Err(error),
            Err(error) if error.code() == Some("NOPERM") => Err(error),
            _ => Ok(()),
        }
    }
}

/// Names users behind an option, if there are any.
fn name<'c>(command: &'c mut Cmd, option: &str, users: &[impl ToRedisArgs]) -> &'c mut Cmd {
    if users.is_empty() { command } else { command.arg((option, users.len(), users)) }
}

fn grants_key(key: &str) -> String {
    format!("{key}{}", coupon_core::key::GRANTS)
}

fn issued_key(key: &str) -> String {
    format!("{key}{}", coupon_core::key::ISSUED)
}

/// Whether a history was refused because the coupon is not shut under its epoch.
pub fn is_unshut(error: &RedisError) -> bool {
    error.code() == Some("TRYAGAIN") && error.detail() == Some(restore::UNSHUT)
}

fn unexpected(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, what))
}

impl FromRedisValue for Info {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (status, mode): (String, String) = (field(&value, "status")?, field(&value, "mode")?);
        let number = |name| field(&value, name);
        Ok(Self {
            offer: Offer {
                status: Status::parse(status.as_bytes()).ok_or_else(|| format!("COUPON.INFO has status {status}"))?,
                definition: Definition {
                    quantity: number("quantity")?,
                    mode: Mode::parse(mode.as_bytes()).ok_or_else(|| format!("COUPON.INFO has mode {mode}"))?,
                    waitlist: number("waitlist")?,
                    opens_at: number("opens_at")?,
                    expires_at: number("expires_at")?,
                },
            },
            requested: number("requested")?,
            waiting: number("waiting")?,
            granted: Seq(number("granted")?),
            persisted: Seq(number("persisted")?),
            epoch: Epoch(number("epoch")?),
            fenced: number("fenced")? != 0,
            revision: number("revision")?,
            refused: number("refused")?,
        })
    }
}

/// Looked for from the beginning: a pass asks a thousand coupons in a second, and making a map of each reply costs more.
fn field<T: FromRedisValue>(info: &Value, name: &str) -> Result<T, ParsingError> {
    let is_it = |(key, _): &(&Value, &Value)| matches!(key, Value::BulkString(key) if key == name.as_bytes());
    let (_, value) = info
        .as_map_iter()
        .and_then(|mut fields| fields.find(is_it))
        .ok_or_else(|| format!("COUPON.INFO lacks {name}"))?;
    from_redis_value_ref(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn info_is_read_by_name() {
        let flat = [
            ("status", bulk("AVAILABLE")),
            ("mode", bulk("QUEUE")),
            ("quantity", Value::Int(5)),
            ("remaining", Value::Int(3)),
            ("requested", Value::Int(4)),
            ("waiting", Value::Int(2)),
            ("granted", Value::Int(2)),
            ("persisted", Value::Int(1)),
            ("waitlist", Value::Int(0)),
            ("opens_at", Value::Int(0)),
            ("expires_at", Value::Int(9)),
            ("epoch", Value::Int(1)),
            ("fenced", Value::Int(1)),
            ("revision", Value::Int(3)),
            ("refused", Value::Int(1)),
        ];
        let reply = flat.iter().flat_map(|(name, value)| [bulk(name), value.clone()]).collect();
        let info: Option<Info> = from_redis_value(Value::Array(reply)).ok();
        assert_eq!(
            info.map(|i| (i.granted, i.persisted, i.fenced, i.refused, i.offer.definition.expires_at)),
            Some((Seq(2), Seq(1), true, 1, 9))
        );
    }
}
