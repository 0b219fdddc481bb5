//! A coupon's three keys, opened and checked, and the effects that can be written to them.

use crate::fault::Fault;
use crate::known::{Known, Names};
use crate::members::Members;
use crate::redis::{Access, Arg, AsRedis, Entry, Event, Hash, Server, SortedSet, Stream, Text, WrongType};
use crate::{known, waiters};
use coupon_core::coupon::{Arrival, Companion, Coupon, Cursor, Field};
use coupon_core::key;
use coupon_core::message;
use coupon_core::refusal::Refusal;
use coupon_core::user::UserId;
use coupon_core::words::Status;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What is in mind of a coupon, before any of its keys is opened.
pub struct Memory<'s> {
    server: &'s Server,
    key: &'s Arg,
    database: i32,
    known: Option<Known>,
}

impl<'s> Memory<'s> {
    /// Looks it up; or ends with what `at_once` makes of it, where the coupon and its members are known.
    ///
    /// # Errors
    /// [`Refusal::CrossSlot`], or that this is no key for a coupon.
    pub fn unless<R>(
        server: &'s Server,
        key: &'s Arg,
        at_once: impl FnOnce(&Coupon, &Members) -> Option<R>,
    ) -> Result<ControlFlow<R, Self>, Refusal> {
        key::check(key.bytes(), server.is_cluster())?;
        let database = server.database();
        let found = known::find(database, key.bytes(), at_once);
        Ok(found.map_continue(|known| Self { server, key, database, known }))
    }

    fn of(server: &'s Server, key: &'s Arg) -> Result<Self, Refusal> {
        match Self::unless(server, key, |_, _| None::<Infallible>)? {
            ControlFlow::Continue(memory) => Ok(memory),
            ControlFlow::Break(never) => match never {},
        }
    }

    /// Opens the sorted set, and the other two keys only if they may have changed since a command has read them.
    ///
    /// # Errors
    /// As [`Sale::open`] and [`Sale::coupon`].
    pub fn glance(self, access: Access) -> Result<Glance<'s>, Refusal> {
        let Self { server, key, database, known } = self;
        let known = match known {
            Some(Known { names, coupon: Some(coupon), has_learned, .. }) => {
                let issued = open_issued(server, &names, (database, key.bytes()), access)?;
                coupon.check_issued(issued.companion())?;
                debug_assert!(is_still(server, key, &coupon), "a change of the hash was not noticed");
                return Ok(Glance { server, key, access, database, names, has_learned, coupon, issued, rest: None });
            }
            known => known,
        };
        let sale = Memory { server, key, database, known }.open(access)?;
        let coupon = sale.coupon()?;
        let Sale { names, has_learned, hash, issued, grants, .. } = sale;
        let rest = Some((hash, grants));
        Ok(Glance { server, key, access, database, names, has_learned, coupon, issued, rest })
    }

    /// Opens all three keys and checks their types.
    fn open(self, access: Access) -> Result<Sale<'s>, Refusal> {
        let Self { server, key, database, known } = self;
        let coordinates = (database, key.bytes());
        let Known { names, coupon: known, has_learned, .. } = known.unwrap_or_else(|| Known::nothing(key.bytes()));
        let hash = open_hash(server, key, coordinates, access)?;
        let issued = open_issued(server, &names, coordinates, access)?;
        let grants = open_grants(server, &names, coordinates, access)?;
        Ok(Sale { server, key, database, names, known, has_learned, hash, issued, grants })
    }
}

/// A coupon, as far as a user has to be told: its status hash as it is known, and its sorted set.
pub struct Glance<'s> {
    server: &'s Server,
    key: &'s Arg,
    access: Access,
    database: i32,
    names: Arc<Names>,
    has_learned: bool,
    /// The status hash.
    pub coupon: Arc<Coupon>,
    /// Accepted users.
    pub issued: SortedSet<'s>,
    /// The other two keys, where they had to be opened.
    rest: Option<(Hash<'s>, Stream<'s>)>,
}

impl<'s> Glance<'s> {
    /// What is in mind, and the keys that have to be opened for the rest.
    ///
    /// # Errors
    /// As [`Memory::of`] and [`Memory::glance`].
    pub fn at(server: &'s Server, key: &'s Arg, access: Access) -> Result<Self, Refusal> {
        Memory::of(server, key)?.glance(access)
    }

    /// Learns some more of who is in, so that soon nobody has to look for those who are not.
    pub fn learn(&mut self) {
        known::learn(self.database, self.key.bytes(), &mut self.issued);
    }

    /// The rank of a user who is in.
    pub fn rank(self, user: &Arg) -> u64 {
        self.server.rank(self.issued, &self.names.issued, user).unwrap_or(0)
    }

    /// Opens the other two keys as well, for a command that goes on to write.
    ///
    /// # Errors
    /// As [`Sale::open`] and [`Sale::coupon`].
    pub fn whole(self) -> Result<(Sale<'s>, Arc<Coupon>), Refusal> {
        let Self { server, key, access, database, names, has_learned, coupon, issued, rest } = self;
        let known = Some(Arc::clone(&coupon));
        if let Some((hash, grants)) = rest {
            // All was checked when these were opened.
            return Ok((Sale { server, key, database, names, known, has_learned, hash, issued, grants }, coupon));
        }
        let coordinates = (database, key.bytes());
        let hash = open_hash(server, key, coordinates, access)?;
        let grants = open_grants(server, &names, coordinates, access)?;
        let sale = Sale { server, key, database, names, known, has_learned, hash, issued, grants };
        let coupon = sale.coupon()?;
        Ok((sale, coupon))
    }
}

/// Whether the hash still is as it is known. Builds for the tests ask in every call.
fn is_still(server: &Server, key: &Arg, coupon: &Coupon) -> bool {
    match server.hash(key, Access::Read) {
        Ok(hash) => decode(&hash).as_ref() == Ok(coupon),
        // Overwritten, of which nobody is told.
        Err(WrongType) => true,
    }
}

fn decode(hash: &Hash<'_>) -> Result<Coupon, Refusal> {
    let fields = hash.fields();
    Coupon::decode(|field| fields.get(field as usize).and_then(Option::as_ref).map(Text::bytes))
}

type Coordinates<'a> = (i32, &'a [u8]);

fn open_hash<'s>(server: &'s Server, key: &Arg, of: Coordinates<'_>, access: Access) -> Result<Hash<'s>, Refusal> {
    server.hash(key, access).map_err(|WrongType| wrong_type(of, "the coupon's key"))
}

fn open_issued<'s>(
    server: &'s Server,
    names: &Names,
    of: Coordinates<'_>,
    access: Access,
) -> Result<SortedSet<'s>, Refusal> {
    server.sorted_set(&names.issued, access).map_err(|WrongType| wrong_type(of, "the :issued key"))
}

fn open_grants<'s>(
    server: &'s Server,
    names: &Names,
    of: Coordinates<'_>,
    access: Access,
) -> Result<Stream<'s>, Refusal> {
    server.stream(&names.grants, access).map_err(|WrongType| wrong_type(of, "the :grants key"))
}

/// A key was overwritten by another type, of which the server tells nobody.
fn wrong_type((database, key): Coordinates<'_>, name: &'static str) -> Refusal {
    known::forget(database, key);
    Refusal::WrongType(name)
}

/// The keys of one coupon, open during one command.
pub struct Sale<'s> {
    server: &'s Server,
    key: &'s Arg,
    database: i32,
    names: Arc<Names>,
    /// The status hash, if what was read last still holds.
    known: Option<Arc<Coupon>>,
    has_learned: bool,
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
        Memory::of(server, key)?.open(access)
    }

    /// Reads the status hash, if there is one.
    ///
    /// # Errors
    /// As [`Coupon::decode`].
    pub fn coupon_if_any(&self) -> Result<Option<Arc<Coupon>>, Refusal> {
        if self.hash.is_missing() {
            known::forget(self.database, self.key.bytes());
            return Ok(None);
        }
        let mut coupon = match &self.known {
            Some(known) => {
                // Builds for the tests compare what is known with what is there, in every call.
                debug_assert_eq!(decode(&self.hash).as_ref(), Ok(&**known), "a change of the hash was not noticed");
                Arc::clone(known)
            }
            None => Arc::new(decode(&self.hash)?),
        };
        if Fault::FenceSkipped.is_on() {
            Arc::make_mut(&mut coupon).fence = Some(self.server.token());
        }
        Ok(Some(coupon))
    }

    /// Reads the status hash and makes sure that the companion keys hold what it says.
    ///
    /// # Errors
    /// As [`Coupon::decode`] and [`Coupon::check_companions`].
    pub fn coupon(&self) -> Result<Arc<Coupon>, Refusal> {
        let coupon = self.coupon_if_any()?.ok_or(Refusal::NoCoupon)?;
        coupon.check_companions(self.issued.companion(), self.grants.companion())?;
        if self.known.is_none() {
            self.keep_in_mind(&coupon);
        }
        Ok(coupon)
    }

    /// Keeps in mind what this command has made of the status hash, its companions having been checked.
    pub fn remember(&self, coupon: Coupon) {
        self.keep_in_mind(&Arc::new(coupon));
    }

    fn keep_in_mind(&self, coupon: &Arc<Coupon>) {
        let is_altered = Fault::FenceSkipped.is_on() || Fault::StockIgnored.is_on();
        if !is_altered && !self.hash.is_to_expire() && !self.grants.is_to_expire() {
            known::remember(self.database, self.key.bytes(), &self.names, Arc::clone(coupon));
        }
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
        if self.has_learned && !Fault::JoinUnnoticed.is_on() {
            known::forget_members(self.database, self.key.bytes());
        }
    }

    /// As [`Glance::learn`].
    pub fn learn(&mut self) {
        known::learn(self.database, self.key.bytes(), &mut self.issued);
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

    /// Writes what a call's grants have changed in the status hash. `before` is the coupon as it was read, `first` the
    /// first arrival that the call has let in or granted.
    pub fn set_granted(&mut self, before: &Coupon, mut after: Coupon, first: Arrival, granted_to: Cursor) {
        let mut fields = Vec::with_capacity(6);
        if after.status != before.status {
            fields.push((Field::Status, Text::new(after.status.word().as_bytes())));
        }
        fields.push((Field::Remaining, Text::count(after.remaining())));
        fields.push((Field::Seq, Text::count(after.position.seq.0)));
        fields.push((Field::Chain, Text::number(after.position.chain.0)));
        fields.push((Field::GrantedTo, Text::new(granted_to.encode().as_bytes())));
        if before.first_at.is_none() {
            // The first request, or a set that was filled by hand: from now on it must be there.
            fields.push((Field::FirstAt, Text::count(first.0)));
            after.first_at = Some(first);
        }
        after.granted_to = Some(granted_to);
        self.set(&fields);
        self.server.signal_modified(&self.names.grants);
        self.server.note(Event::Granted);
        if before.persisted == before.position.seq {
            self.server.publish(message::GRANTED, self.key);
        }
        if after.status != before.status {
            self.note_status(after.status);
            self.wake(&after);
        }
        self.remember(after);
    }

    /// Notes the event of a status that was just taken on.
    pub fn note_status(&self, status: Status) {
        match status {
            Status::Issued => self.server.note(Event::SoldOut),
            Status::Expired => self.server.note(Event::Closed),
            Status::Standard | Status::Available => {}
        }
    }

    /// Writes the status.
    pub fn set_status(&mut self, status: Status) {
        self.note_status(status);
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
