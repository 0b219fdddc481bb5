//! Every command that is sent to Redis, and what its replies mean.
//!
//! One connection serves all: commands of many coupons share it as a pipeline. Nothing that blocks is ever sent on it.

mod audit;
mod certificates;
mod connection;
mod sentinel;
mod stream;

pub use audit::{Held, Moment};
pub use certificates::Certificates;
pub use connection::ScanCursor;
pub use stream::Entry;

use crate::error::{self, Remedy};
use crate::model::coupon::{Info, Offer};
use crate::model::grant::Link;
use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, Value, cmd, from_redis_value, pipe};
use connection::{Address, CONNECT_TIMEOUT, Connection, timed_out};
use coupon_core::coupon::{Definition, Field};
use coupon_core::grant::{EntryId, Grant};
use coupon_core::message;
use coupon_core::number::{Arrival, Epoch, Seq};
use coupon_core::position::Position;
use coupon_core::user::UserId;
use coupon_core::words::{Mode, Status};
use coupon_core::{ledger, open, restore};
use std::collections::HashMap;
use stream::grants;
use tokio::sync::Mutex;

/// Keys looked at by one SCAN call.
const SCAN_COUNT: u32 = 1000;

/// Redis, connected when needed.
pub struct Redis {
    address: Address,
    connection: Mutex<Option<Connection>>,
}

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
    /// Reads the address; connects later.
    pub fn new(url: &str, certificates: Certificates) -> RedisResult<Self> {
        Ok(Self { address: Address::parse(url, certificates)?, connection: Mutex::new(None) })
    }

    /// Where a connection goes and whether by TLS, for people.
    pub fn place(&self) -> String {
        format!("{}, {}", self.address.place(), if self.address.has_tls() { "by TLS" } else { "without TLS" })
    }

    /// Whether a server that takes no writes is a matter of time, as the primary is found by others than the operator.
    pub const fn finds_primary(&self) -> bool {
        self.address.finds_primary()
    }

    /// An error if there is another primary than the one that is connected.
    pub async fn check_primary(&self) -> RedisResult<()> {
        self.address.check().await
    }

    async fn connection(&self) -> RedisResult<Connection> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = &*slot {
            return Ok(connection.clone());
        }
        let connection = self.address.connect().await?;
        Ok(slot.insert(connection).clone())
    }

    /// Forgets the connection; the next command makes a new one.
    pub async fn disconnect(&self) {
        *self.connection.lock().await = None;
    }

    async fn call<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        self.connection().await?.call(command).await
    }

    async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> RedisResult<T> {
        self.connection().await?.pipeline(pipeline).await
    }

    /// A connection of its own for messages, subscribed to all of the module's channels.
    pub async fn subscribe(&self) -> RedisResult<::redis::aio::PubSub> {
        let connect = async {
            let mut messages = self.address.listen().await?;
            messages.subscribe(&message::CHANNELS).await?;
            Ok(messages)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connect).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// The state of a coupon, none where there is none.
    pub async fn info(&self, key: &str) -> RedisResult<Option<Info>> {
        match self.call::<Info>(cmd("COUPON.INFO").arg(key)).await {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.code() == Some("NOCOUPON") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Publishes a definition, all of it, under a number that only grows.
    pub async fn open(&self, key: &str, definition: &Definition, epoch: Epoch, revision: u64) -> RedisResult<()> {
        use open::option;
        let mut command = cmd("COUPON.OPEN");
        command.arg(key).arg(option::QUANTITY).arg(definition.quantity);
        command.arg(option::MODE).arg(definition.mode.word());
        command.arg(option::WAITLIST).arg(definition.waitlist);
        command.arg(option::OPENS).arg(definition.opens_at);
        command.arg(option::EXPIRES).arg(definition.expires_at);
        command.arg(option::EPOCH).arg(epoch.0).arg(option::REVISION).arg(revision);
        self.call(&command).await
    }

    /// Ends a coupon, under such a number.
    pub async fn close(&self, key: &str, epoch: Epoch, revision: u64) -> RedisResult<()> {
        use open::option;
        let mut command = cmd("COUPON.CLOSE");
        command.arg(key).arg(option::EPOCH).arg(epoch.0).arg(option::REVISION).arg(revision);
        self.call(&command).await
    }

    /// Asks for the gate to be opened under an epoch, at the ledger's position.
    pub async fn resume(&self, key: &str, epoch: Epoch, at: Position) -> RedisResult<Resumed> {
        use ledger::option;
        let mut command = cmd("COUPON.RESUME");
        command.arg(key).arg(option::EPOCH).arg(epoch.0);
        command.arg(option::SEQ).arg(at.seq.0).arg(option::CHAIN).arg(at.chain.0);
        match self.call::<()>(&command).await {
            Ok(()) => Ok(Resumed::Open),
            Err(error) => {
                let detail = error.detail().unwrap_or_default();
                let position = || {
                    Position::parse(detail)
                        .ok_or_else(|| unexpected("the position is missing in the refusal of COUPON.RESUME"))
                };
                match error.code() {
                    Some("BEHIND") => Ok(Resumed::Behind(position()?)),
                    Some("DIVERGED") => Ok(Resumed::Diverged(position()?)),
                    Some("TRYAGAIN") => Ok(Resumed::Undecided(detail.to_owned())),
                    _ => Err(error),
                }
            }
        }
    }

    /// Puts the ledger's grants after a position, in the place of what Redis has there. The coupon has to be shut under the
    /// epoch, else the answer is one of which [`is_unshut`] is true.
    pub async fn restore(&self, key: &str, epoch: Epoch, after: Position, links: &[Link]) -> RedisResult<()> {
        use ledger::option;
        let mut command = cmd("COUPON.RESTORE");
        command.arg(key).arg(option::EPOCH).arg(epoch.0);
        command.arg(restore::option::AFTER).arg(after.seq.0).arg(option::CHAIN).arg(after.chain.0);
        command.arg(restore::option::GRANTS).arg(links.len());
        for link in links {
            command.arg(&link.user).arg(link.requested_at.0).arg(link.granted_at_ms);
        }
        self.call(&command).await
    }

    /// Shuts the gate of a coupon under an epoch and leaves everything else; its newest grant. What is granted can be read
    /// then without more being granted meanwhile.
    pub async fn shut(&self, key: &str, epoch: Epoch) -> RedisResult<Seq> {
        self.call::<()>(cmd("COUPON.RESTORE").arg(key).arg(ledger::option::EPOCH).arg(epoch.0)).await?;
        // Read apart, so that a coupon which lacks a companion key, and refuses to be asked, gives it too.
        let seq: Option<u64> = self.call(cmd("HGET").arg(key).arg(Field::Seq.name())).await?;
        Ok(Seq(seq.unwrap_or(0)))
    }

    /// The epoch stored in a coupon's hash, also where the coupon cannot answer for itself.
    pub async fn epoch(&self, key: &str) -> RedisResult<Epoch> {
        let stored: Option<u64> = self.call(cmd("HGET").arg(key).arg(Field::Epoch.name())).await?;
        Ok(Epoch(stored.unwrap_or(0)))
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

    /// Tells Redis what is committed.
    pub async fn ack(&self, key: &str, epoch: Epoch, seq: Seq) -> RedisResult<()> {
        use ledger::option;
        self.call(cmd("COUPON.ACK").arg(key).arg(option::EPOCH).arg(epoch.0).arg(option::SEQ).arg(seq.0)).await
    }

    /// The grants after an entry, at most so many.
    pub async fn read(&self, key: &str, after: EntryId, count: u32) -> RedisResult<Vec<Grant>> {
        let mut command = cmd("XREAD");
        command.arg("COUNT").arg(count).arg("STREAMS").arg(grants_key(key)).arg(after.to_string());
        let streams: Option<Vec<(Value, Vec<Entry>)>> = self.call(&command).await?;
        grants(streams.into_iter().flatten().flat_map(|(_, entries)| entries))
    }

    /// The grants from an entry on, at most so many.
    pub async fn read_from(&self, key: &str, from: EntryId, count: u32) -> RedisResult<Vec<Grant>> {
        grants(self.entries(key, from, count).await?)
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
        let mut command = cmd("XREVRANGE");
        command.arg(grants_key(key)).arg(newest).arg("-").arg("COUNT").arg(count);
        let entries: Vec<Entry> = self.call(&command).await?;
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
        self.call(cmd("ZRANGE").arg(issued_key(key)).arg(from).arg(to).arg("WITHSCORES")).await
    }

    /// One step over the keys that can be coupons: where it goes on, none at the end, and the keys.
    pub async fn scan(&self, at: ScanCursor, glob: &str) -> RedisResult<(Option<ScanCursor>, Vec<Vec<u8>>)> {
        let scan = |cursor: u64| {
            let mut command = cmd("SCAN");
            command.arg(cursor).arg("MATCH").arg(glob).arg("COUNT").arg(SCAN_COUNT).arg("TYPE").arg("hash");
            command
        };
        self.connection().await?.scan(at, scan).await
    }

    /// The server's clock, in milliseconds.
    pub async fn now_ms(&self) -> RedisResult<u64> {
        let (seconds, micros): (u64, u64) = self.connection().await?.ask_one(&cmd("TIME")).await?;
        Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
    }

    /// Whether this server takes writes: its role is master. A cluster does by itself what it takes.
    pub async fn is_primary(&self) -> RedisResult<bool> {
        match self.connection().await? {
            Connection::Server(mut connection) => Ok(role(&mut connection).await? == "master"),
            Connection::Cluster(_) => Ok(true),
        }
    }

    /// The version of the coupon module as the server counts it, none if it is not loaded.
    pub async fn module_version(&self) -> RedisResult<Option<u64>> {
        let modules: Vec<HashMap<String, Value>> = self.connection().await?.ask_one(cmd("MODULE").arg("LIST")).await?;
        for mut module in modules {
            let name = module.remove("name").map(from_redis_value::<String>).transpose()?;
            if name.as_deref() == Some(MODULE_NAME) {
                return module.remove("ver").map(from_redis_value::<u64>).transpose().map_err(Into::into);
            }
        }
        Ok(None)
    }

    /// A line of `INFO server` or of another section.
    pub async fn server_info(&self, section: &str, name: &str) -> RedisResult<Option<String>> {
        let text: String = self.connection().await?.ask_one(cmd("INFO").arg(section)).await?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(line.map(|value| value.trim().to_owned()))
    }

    /// A configuration value.
    pub async fn config(&self, name: &str) -> RedisResult<Option<String>> {
        let mut values: HashMap<String, String> =
            self.connection().await?.ask_one(cmd("CONFIG").arg("GET").arg(name)).await?;
        Ok(values.remove(name))
    }

    /// Whether this user may call a command; the error says why not. The call is one that the command refuses, or that
    /// changes nothing.
    pub async fn may(&self, call: &[&str]) -> RedisResult<()> {
        let mut words = call.iter();
        let mut command = cmd(words.next().copied().unwrap_or_default());
        for word in words {
            command.arg(word);
        }
        match self.call::<Value>(&command).await {
            Err(error) if matches!(error::redis_remedy(&error), Remedy::Reconnect(_)) => Err(error),
            Err(error) if error.code() == Some("NOPERM") => Err(error),
            _ => Ok(()),
        }
    }
}

fn grants_key(key: &str) -> String {
    format!("{key}{}", coupon_core::key::GRANTS)
}

fn issued_key(key: &str) -> String {
    format!("{key}{}", coupon_core::key::ISSUED)
}

/// The module's name in `MODULE LIST`.
pub const MODULE_NAME: &str = "coupon";

/// What a server is among its replicas: `master` or `slave`.
async fn role(connection: &mut MultiplexedConnection) -> RedisResult<String> {
    let role: Value = cmd("ROLE").query_async(connection).await?;
    let Value::Array(parts) = role else { return Err(unexpected("ROLE gave no array")) };
    let word = parts.into_iter().next().ok_or_else(|| unexpected("ROLE gave an empty array"))?;
    Ok(from_redis_value(word)?)
}

/// Whether a history was refused because the coupon is not shut under its epoch.
pub fn is_unshut(error: &RedisError) -> bool {
    error.code() == Some("TRYAGAIN") && error.detail() == Some(restore::UNSHUT)
}

fn unexpected(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, what))
}

impl FromRedisValue for Info {
    fn from_redis_value(value: Value) -> Result<Self, ::redis::ParsingError> {
        let fields: HashMap<String, Value> = FromRedisValue::from_redis_value(value)?;
        let text = |name: &str| -> Result<String, ::redis::ParsingError> {
            let value = fields.get(name).ok_or_else(|| format!("COUPON.INFO lacks {name}"))?;
            FromRedisValue::from_redis_value_ref(value)
        };
        let number = |name: &str| -> Result<u64, ::redis::ParsingError> {
            let value = fields.get(name).ok_or_else(|| format!("COUPON.INFO lacks {name}"))?;
            FromRedisValue::from_redis_value_ref(value)
        };
        let status = text("status")?;
        let mode = text("mode")?;
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
        })
    }
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
        ];
        let reply = flat.iter().flat_map(|(name, value)| [bulk(name), value.clone()]).collect();
        let info: Option<Info> = from_redis_value(Value::Array(reply)).ok();
        assert_eq!(
            info.map(|i| (i.granted, i.persisted, i.fenced, i.offer.definition.expires_at)),
            Some((Seq(2), Seq(1), true, 9))
        );
    }
}
