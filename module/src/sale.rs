//! A coupon's three keys, opened and checked, and the effects that can be written to them.

use crate::fault::Fault;
use crate::known::{Known, Names};
use crate::redis::{Access, Arg, AsRedis, Entry, Hash, Server, SortedSet, Stream, Text, WrongType};
use crate::{known, waiters};
use coupon_core::coupon::{Arrival, Companion, Coupon, Cursor, Field};
use coupon_core::key;
use coupon_core::message;
use coupon_core::refusal::Refusal;
use coupon_core::user::UserId;
use coupon_core::words::Status;
use std::sync::Arc;

/// The keys of one coupon, open during one command.
pub struct Sale<'s> {
    server: &'s Server,
    key: &'s Arg,
    database: i32,
    names: Arc<Names>,
    /// The status hash, if what was read last still holds.
    known: Option<Arc<Coupon>>,
    hash: Hash<'s>,
    /// Accepted users.
    pub issued: SortedSet<'s>,
    /// Grants.
    pub grants: Stream<'s>,
}

impl<'s> Sale<'s> {
    /// Opens the three keys and checks their types.
    ///
    /// # Errors
    /// [`Refusal::CrossSlot`] or [`Refusal::WrongType`].
    pub fn open(server: &'s Server, key: &'s Arg, access: Access) -> Result<Self, Refusal> {
        let bytes = key.bytes();
        key::check(bytes, server.is_cluster())?;
        let database = server.database();
        let Known { names, coupon: known } =
            known::find(database, bytes).unwrap_or_else(|| Known { names: Arc::new(Names::of(bytes)), coupon: None });
        let wrong = |name| move |WrongType| Refusal::WrongType(name);
        Ok(Self {
            hash: server.hash(key, access).map_err(wrong("the coupon's key"))?,
            issued: server.sorted_set(&names.issued, access).map_err(wrong("the :issued key"))?,
            grants: server.stream(&names.grants, access).map_err(wrong("the :grants key"))?,
            server,
            key,
            database,
            names,
            known,
        })
    }

    /// Reads the status hash, if there is one.
    ///
    /// # Errors
    /// As [`Coupon::decode`].
    pub fn coupon_if_any(&self) -> Result<Option<Arc<Coupon>>, Refusal> {
        if self.hash.is_missing() {
            return Ok(None);
        }
        let coupon = match &self.known {
            Some(known) => {
                // Builds for the tests compare what is known with what is there, in every call.
                debug_assert_eq!(self.decode().as_ref(), Ok(&**known), "a change of the hash was not noticed");
                Arc::clone(known)
            }
            None => {
                let coupon = Arc::new(self.decode()?);
                known::remember(self.database, self.key.bytes(), &self.names, Arc::clone(&coupon));
                coupon
            }
        };
        if Fault::FenceSkipped.is_on() {
            return Ok(Some(Arc::new(Coupon { fence: Some(self.server.token()), ..Coupon::clone(&coupon) })));
        }
        Ok(Some(coupon))
    }

    fn decode(&self) -> Result<Coupon, Refusal> {
        let fields = self.hash.fields();
        Coupon::decode(|field| fields.get(field as usize).and_then(Option::as_ref).map(Text::bytes))
    }

    /// Reads the status hash and makes sure that the companion keys hold what it says.
    ///
    /// # Errors
    /// As [`Coupon::decode`] and [`Coupon::check_companions`].
    pub fn coupon(&self) -> Result<Arc<Coupon>, Refusal> {
        let coupon = self.coupon_if_any()?.ok_or(Refusal::NoCoupon)?;
        coupon.check_companions(self.issued.companion(), self.grants.companion())?;
        Ok(coupon)
    }

    /// Keeps in mind what this command has made of the status hash.
    pub fn remember(&self, coupon: Coupon) {
        if Fault::FenceSkipped.is_on() || Fault::StockIgnored.is_on() {
            // These two play with the coupon that was read, and it is theirs alone.
            return;
        }
        known::remember(self.database, self.key.bytes(), &self.names, Arc::new(coupon));
    }

    /// How many users are in.
    pub fn requested(&self) -> u64 {
        self.issued.companion().len()
    }

    /// What the stream holds.
    pub fn grants(&self) -> Companion {
        self.grants.companion()
    }

    /// The rank of a user who is in.
    pub fn rank(self, user: &Arg) -> u64 {
        self.server.rank(self.issued, &self.names.issued, user).unwrap_or(0)
    }

    /// Adds users who were added to the set to what is replicated.
    pub fn joined(&mut self, users: &[(Arrival, &Arg)]) {
        match users {
            [] => return,
            [(arrival, user)] => self.server.replicate_zadd(&self.names.issued, *arrival, *user),
            users => self.server.replicate_zadd_all(&self.names.issued, users),
        }
        self.server.signal_modified(&self.names.issued);
    }

    /// Puts users into the line, or moves them to their place in it.
    pub fn join_all(&mut self, users: &[(Arrival, &Arg)]) {
        for (arrival, user) in users {
            self.issued.put(*arrival, *user);
        }
        self.joined(users);
    }

    /// Removes the stream of grants.
    pub fn drop_grants(&mut self) {
        if self.grants.remove() {
            self.server.replicate_unlink(&self.names.grants);
            self.server.signal_modified(&self.names.grants);
        }
    }

    /// Appends the next grant to the stream, and moves the coupon on by it. False, with nothing changed, if the stream
    /// holds an entry that the coupon does not know.
    #[must_use]
    pub fn append<U: AsRedis>(
        &mut self,
        coupon: &mut Coupon,
        user: &U,
        id: UserId<'_>,
        at: Arrival,
        now_ms: &Text,
    ) -> bool {
        let (position, status) = (coupon.position, coupon.status);
        let entry_id = coupon.grant(id, at);
        let entry = Entry::new(user, at, now_ms, coupon.position.chain);
        if !self.grants.append(entry_id, &entry) {
            (coupon.position, coupon.status) = (position, status);
            return false;
        }
        self.server.replicate_xadd(&self.names.grants, entry_id, &entry);
        true
    }

    /// Writes fields of the status hash.
    pub fn set(&mut self, fields: &[(Field, Text)]) {
        if fields.is_empty() {
            return;
        }
        known::forget(self.database, self.key.bytes());
        for (field, value) in fields {
            self.hash.set(*field, value);
        }
        self.server.replicate_hset(self.key, fields);
        self.server.signal_modified(self.key);
    }

    /// Writes what a call's grants have changed in the status hash. `before` is the coupon as it was read.
    pub fn set_granted(&mut self, before: &Coupon, mut after: Coupon, granted_to: Cursor) {
        let mut fields = Vec::with_capacity(6);
        if after.status != before.status {
            fields.push((Field::Status, Text::new(after.status.word().as_bytes())));
        }
        fields.push((Field::Remaining, Text::count(after.remaining())));
        fields.push((Field::Seq, Text::count(after.position.seq.0)));
        fields.push((Field::Chain, Text::number(after.position.chain.0)));
        fields.push((Field::GrantedTo, Text::new(granted_to.encode().as_bytes())));
        if before.first_at.is_none() {
            // A set that was filled by hand: from now on it must be there.
            fields.push((Field::FirstAt, Text::count(granted_to.arrival.0)));
            after.first_at = Some(granted_to.arrival);
        }
        after.granted_to = Some(granted_to);
        self.set(&fields);
        self.server.signal_modified(&self.names.grants);
        if before.persisted == before.position.seq {
            self.server.publish(message::GRANTED, self.key);
        }
        if after.status != before.status {
            self.wake(&after);
        }
        self.remember(after);
    }

    /// Writes the status.
    pub fn set_status(&mut self, status: Status) {
        self.set(&[(Field::Status, Text::new(status.word().as_bytes()))]);
    }

    /// Wakes the clients whose outcome is final, now that the coupon is this.
    pub fn wake(&self, coupon: &Coupon) {
        self.server.wake(waiters::take_final(|| self.coordinates(), coupon));
    }

    /// Wakes all clients that wait on this coupon.
    pub fn wake_all(&self) {
        self.server.wake(waiters::take_all(|| self.coordinates()));
    }

    fn coordinates(&self) -> waiters::Coordinates {
        (self.database, self.key.bytes().to_vec())
    }

    /// Keeps the newest entries of the stream, so many.
    pub fn trim(&mut self, length: u64) {
        if self.grants.trim(length) {
            self.server.replicate_xtrim(&self.names.grants, length);
            self.server.signal_modified(&self.names.grants);
        }
    }
}
