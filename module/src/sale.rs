//! A coupon's three keys, opened and checked, and the effects that can be written to them.

use crate::fault::Fault;
use crate::redis::{Access, Arg, AsRedis, Entry, Hash, Server, SortedSet, Stream, Text, WrongType};
use crate::waiters;
use coupon_core::coupon::{Arrival, Companion, Coupon, Cursor, Field};
use coupon_core::key;
use coupon_core::message;
use coupon_core::refusal::Refusal;
use coupon_core::user::UserId;
use coupon_core::words::Status;

/// The keys of one coupon, open during one command.
pub struct Sale<'s> {
    server: &'s Server,
    key: &'s Arg,
    issued_name: Text,
    grants_name: Text,
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
        key::check(key.bytes(), server.is_cluster())?;
        let companion = |suffix: &str| Text::new(&[key.bytes(), suffix.as_bytes()].concat());
        let wrong = |name| move |WrongType| Refusal::WrongType(name);
        let issued_name = companion(key::ISSUED);
        let grants_name = companion(key::GRANTS);
        Ok(Self {
            hash: server.hash(key, access).map_err(wrong("the coupon's key"))?,
            issued: server.sorted_set(&issued_name, access).map_err(wrong("the :issued key"))?,
            grants: server.stream(&grants_name, access).map_err(wrong("the :grants key"))?,
            server,
            key,
            issued_name,
            grants_name,
        })
    }

    /// Reads the status hash, if there is one.
    ///
    /// # Errors
    /// As [`Coupon::decode`].
    pub fn coupon_if_any(&self) -> Result<Option<Coupon>, Refusal> {
        if self.hash.is_missing() {
            return Ok(None);
        }
        let fields = self.hash.fields();
        let get = |field: Field| fields.get(field as usize).and_then(Option::as_ref).map(Text::bytes);
        let mut coupon = Coupon::decode(get)?;
        if Fault::FenceSkipped.is_on() {
            coupon.fence = Some(self.server.token());
        }
        Ok(Some(coupon))
    }

    /// Reads the status hash and makes sure that the companion keys hold what it says.
    ///
    /// # Errors
    /// As [`Coupon::decode`] and [`Coupon::check_companions`].
    pub fn coupon(&self) -> Result<Coupon, Refusal> {
        let coupon = self.coupon_if_any()?.ok_or(Refusal::NoCoupon)?;
        coupon.check_companions(self.issued.companion(), self.grants.companion())?;
        Ok(coupon)
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
        self.server.rank(self.issued, &self.issued_name, user).unwrap_or(0)
    }

    /// Adds a user to the line.
    pub fn join(&mut self, arrival: Arrival, user: &Arg) {
        self.issued.add(arrival, user);
        self.server.replicate_zadd(&self.issued_name, arrival, user);
        self.server.signal_modified(&self.issued_name);
    }

    /// Puts users into the line, or moves them to their place in it.
    pub fn join_all(&mut self, users: &[(Arrival, &Arg)]) {
        for (arrival, user) in users {
            self.issued.add(*arrival, *user);
        }
        self.server.replicate_zadd_all(&self.issued_name, users);
        self.server.signal_modified(&self.issued_name);
    }

    /// Removes the stream of grants.
    pub fn drop_grants(&mut self) {
        if self.grants.remove() {
            self.server.replicate_unlink(&self.grants_name);
            self.server.signal_modified(&self.grants_name);
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
        let mut next = coupon.clone();
        let entry_id = next.grant(id, at);
        let entry = Entry::new(user, at, now_ms, next.position.chain);
        if !self.grants.append(entry_id, &entry) {
            return false;
        }
        self.server.replicate_xadd(&self.grants_name, entry_id, &entry);
        *coupon = next;
        true
    }

    /// Writes fields of the status hash.
    pub fn set(&mut self, fields: &[(Field, Text)]) {
        if fields.is_empty() {
            return;
        }
        for (field, value) in fields {
            self.hash.set(*field, value);
        }
        self.server.replicate_hset(self.key, fields);
        self.server.signal_modified(self.key);
    }

    /// Writes what a call's grants have changed in the status hash. `before` is the coupon as it was read.
    pub fn set_granted(&mut self, before: &Coupon, after: &Coupon, granted_to: Cursor) {
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
        }
        self.set(&fields);
        self.server.signal_modified(&self.grants_name);
        if before.persisted == before.position.seq {
            self.server.publish(message::GRANTED, self.key);
        }
        if after.status != before.status {
            self.wake(&Coupon { granted_to: Some(granted_to), ..after.clone() });
        }
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
        (self.server.database(), self.key.bytes().to_vec())
    }

    /// Keeps the newest entries of the stream, so many.
    pub fn trim(&mut self, length: u64) {
        if self.grants.trim(length) {
            self.server.replicate_xtrim(&self.grants_name, length);
            self.server.signal_modified(&self.grants_name);
        }
    }
}
