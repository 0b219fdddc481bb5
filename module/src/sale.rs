//! A coupon and its keys during one command: what is kept of it, keys that are opened when they are needed, and the
//! effects that can be written to them.

use crate::cache::{self, Kept, MEMBERS_A_TIME, Members, Names};
use crate::event::{self, Event};
use crate::redis::{Access, Hash, Read, Server, SortedSet, Static, Str, Stream, StreamId, Text, Write, WrongType};
use crate::waiters;
use coupon_core::coupon::{Companion, Coupon, Cursor, Field, Value};
use coupon_core::grant::{self, EntryId, Grant};
use coupon_core::key;
use coupon_core::message;
use coupon_core::number::{Arrival, Epoch, Seq, Token, number};
use coupon_core::refusal::Refusal;
use coupon_core::user::UserId;
use coupon_core::words::Status;
use std::convert::Infallible;
use std::iter;
use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Names of the hash's fields, each at its field's place.
static FIELDS: [Static; Field::ALL.len()] = {
    let mut fields = [const { Static::new("") }; Field::ALL.len()];
    let mut place = 0;
    while place < fields.len() {
        // Nothing is made of a word yet, so there is nothing to drop either.
        mem::forget(mem::replace(&mut fields[place], Static::new(Field::ALL[place].name())));
        place += 1;
    }
    fields
};

/// Names of the fields of a stream entry.
static ENTRY: [Static; 4] = {
    let [user, requested_at, granted_at, chain] = grant::field::ALL;
    [Static::new(user), Static::new(requested_at), Static::new(granted_at), Static::new(chain)]
};

/// Gives back what is kept of words.
pub fn end() {
    FIELDS.iter().chain(&ENTRY).for_each(Static::free);
}

/// Whether a key is a coupon that carries this token.
pub fn carries(server: &Server, key: &Str, token: Token) -> bool {
    let fence = Hash::<Read>::open(server, key).ok().and_then(|hash| hash.get(name(Field::Fence)?));
    fence.and_then(|fence| number(fence.bytes())) == Some(token.0)
}

/// A coupon during one command.
pub struct Sale<'s, A> {
    server: &'s Server,
    key: &'s Str,
    database: i32,
    names: Arc<Names>,
    /// The status hash, if what was read before still holds.
    kept: Option<Arc<Coupon>>,
    newest: Option<Arrival>,
    /// Whether what becomes of the status hash may be kept: its companions were checked, and nothing has a TTL.
    may_keep: bool,
    hash: Option<Hash<'s, A>>,
    issued: Option<SortedSet<'s, A>>,
    grants: Option<Stream<'s, A>>,
    /// Opened only where there are any.
    refused: Option<SortedSet<'s, A>>,
}

impl<'s, A: Access> Sale<'s, A> {
    /// Looks up what is kept of a coupon.
    ///
    /// # Errors
    /// [`Refusal::CrossSlot`], or that this is no key for a coupon.
    pub fn of(server: &'s Server, key: &'s Str) -> Result<Self, Refusal> {
        match Self::unless(server, key, |_, _| None::<Infallible>)? {
            ControlFlow::Continue(sale) => Ok(sale),
            ControlFlow::Break(never) => match never {},
        }
    }

    /// Looks it up; or ends with what `at_once` makes of it, where the coupon and its members are known.
    ///
    /// # Errors
    /// As [`Sale::of`].
    pub fn unless<R>(
        server: &'s Server,
        key: &'s Str,
        at_once: impl FnOnce(&Coupon, &Members) -> Option<R>,
    ) -> Result<ControlFlow<R, Self>, Refusal> {
        key::check(key.bytes(), server.is_cluster())?;
        let database = server.database();
        if cache::loses_keys_in_silence() && Hash::<A>::open(server, key).is_ok_and(|hash| hash.is_missing()) {
            cache::forget(database, key.bytes());
        }
        Ok(cache::find(database, key.bytes(), at_once).map_continue(|kept| {
            let kept =
                kept.unwrap_or_else(|| Kept { names: Arc::new(Names::of(key.bytes())), coupon: None, newest: None });
            let Kept { names, coupon, newest } = kept;
            let may_keep = coupon.is_some();
            Self {
                server,
                key,
                database,
                names,
                kept: coupon,
                newest,
                may_keep,
                hash: None,
                issued: None,
                grants: None,
                refused: None,
            }
        }))
    }

    fn hash(&mut self) -> Result<&mut Hash<'s, A>, Refusal> {
        open(&mut self.hash, "the coupon's key", || Hash::open(self.server, self.key))
    }

    /// Accepted users.
    ///
    /// # Errors
    /// [`Refusal::WrongType`].
    pub fn issued(&mut self) -> Result<&mut SortedSet<'s, A>, Refusal> {
        open(&mut self.issued, "the :issued key", || SortedSet::open(self.server, &self.names.issued))
    }

    fn grants(&mut self) -> Result<&mut Stream<'s, A>, Refusal> {
        open(&mut self.grants, "the :grants key", || Stream::open(self.server, &self.names.grants))
    }

    /// Users whose rows PostgreSQL refused.
    ///
    /// # Errors
    /// [`Refusal::WrongType`].
    pub fn refused(&mut self) -> Result<&mut SortedSet<'s, A>, Refusal> {
        open(&mut self.refused, "the :refused key", || SortedSet::open(self.server, &refused_name(self.key)))
    }

    /// Opens the three keys that every coupon has, for a command that writes to them: from then on nothing is refused.
    ///
    /// # Errors
    /// [`Refusal::WrongType`].
    pub fn open(&mut self) -> Result<(), Refusal> {
        self.hash()?;
        self.issued()?;
        self.grants()?;
        Ok(())
    }

    /// The set of users as the rules see it.
    ///
    /// # Errors
    /// [`Refusal::WrongType`].
    pub fn members(&mut self) -> Result<Companion, Refusal> {
        self.issued().map(|issued| companion(issued.len()))
    }

    /// The stream of grants as the rules see it.
    ///
    /// # Errors
    /// [`Refusal::WrongType`].
    pub fn entries(&mut self) -> Result<Companion, Refusal> {
        self.grants().map(|grants| companion(grants.len()))
    }

    /// The status hash, if there is one.
    ///
    /// # Errors
    /// As [`Coupon::decode`], and [`Refusal::WrongType`].
    pub fn coupon_if_any(&mut self) -> Result<Option<Arc<Coupon>>, Refusal> {
        if let Some(kept) = &self.kept {
            let kept = Arc::clone(kept);
            debug_assert!(self.is_still(&kept), "a change of the coupon was not noticed");
            return Ok(Some(kept));
        }
        let hash = self.hash()?;
        if hash.is_missing() { Ok(None) } else { decode(hash).map(|coupon| Some(Arc::new(coupon))) }
    }

    /// The status hash, its companions holding what it says.
    ///
    /// # Errors
    /// As [`Sale::coupon_if_any`]; [`Refusal::NoCoupon`]; as [`Coupon::check_companions`].
    pub fn coupon(&mut self) -> Result<Arc<Coupon>, Refusal> {
        if self.kept.is_some() {
            // Of a set that has lost members all is forgotten but by a flush that keeps the hash, as no server has one;
            // to ask costs nothing, as the set is looked into next.
            let coupon = self.coupon_if_any()?.ok_or(Refusal::NoCoupon)?;
            coupon.check_issued(self.members()?)?;
            return Ok(coupon);
        }
        let coupon = self.coupon_if_any()?.ok_or(Refusal::NoCoupon)?;
        coupon.check_companions(self.members()?, self.entries()?)?;
        if coupon.refused > 0 {
            coupon.check_refused(companion(self.refused()?.len()))?;
        }
        if cache::is_on() {
            let has_ttl = self.hash()?.is_to_expire()
                || self.grants()?.is_to_expire()
                || self.refused.as_ref().is_some_and(SortedSet::is_to_expire);
            self.may_keep = !(has_ttl || cache::knows_field_ttl() && self.has_field_ttl()?);
            self.keep(&coupon);
        }
        Ok(coupon)
    }

    /// Whether any field that is there is to expire by itself, or has just done so.
    fn has_field_ttl(&mut self) -> Result<bool, Refusal> {
        let hash = self.hash()?;
        let fields: Vec<&Str> = FIELDS.iter().map(Static::get).filter(|name| hash.get(name).is_some()).collect();
        // Shut, as the server is asked by a command.
        self.hash = None;
        Ok(!self.server.have_no_ttl(self.key, &fields))
    }

    fn keep(&self, coupon: &Arc<Coupon>) {
        if self.may_keep {
            cache::keep(self.database, self.key.bytes(), &self.names, Arc::clone(coupon));
        } else {
            cache::forget(self.database, self.key.bytes());
        }
    }

    /// Whether the keys say so too. Checking builds ask in every call.
    fn is_still(&self, coupon: &Coupon) -> bool {
        let hash = Hash::<A>::open(self.server, self.key).map(|hash| decode(&hash));
        let grants = Stream::<A>::open(self.server, &self.names.grants).map(|grants| companion(grants.len()));
        let refused =
            SortedSet::<A>::open(self.server, &refused_name(self.key)).map(|refused| companion(refused.len()));
        let is_marked = coupon.refused == 0 || refused.is_ok_and(|refused| coupon.check_refused(refused).is_ok());
        matches!((hash, grants), (Ok(Ok(hash)), Ok(grants)) if hash == *coupon && coupon.check_grants(grants).is_ok())
            && is_marked
    }

    /// How many users are in.
    ///
    /// # Errors
    /// [`Refusal::WrongType`].
    pub fn requested(&mut self) -> Result<u64, Refusal> {
        Ok(self.members()?.len())
    }

    /// A user's score, if in.
    ///
    /// # Errors
    /// [`Refusal::WrongType`].
    pub fn score(&mut self, user: &Str) -> Result<Option<f64>, Refusal> {
        Ok(self.issued()?.score(user))
    }

    /// Whether PostgreSQL refused a user's row.
    ///
    /// # Errors
    /// [`Refusal::WrongType`].
    pub fn is_refused(&mut self, coupon: &Coupon, user: &Str) -> Result<bool, Refusal> {
        Ok(coupon.refused > 0 && self.refused()?.score(user).is_some())
    }

    /// The newest arrival, if it is kept.
    ///
    /// # Errors
    /// [`Refusal::WrongType`].
    pub fn newest(&mut self) -> Result<Option<Arrival>, Refusal> {
        let newest = self.newest;
        debug_assert!(
            newest.is_none() || self.issued()?.highest() == newest.map(Arrival::score),
            "a change of the set was not noticed"
        );
        Ok(newest)
    }

    /// The rank of a user who is in.
    pub fn rank(mut self, user: &Str) -> u64 {
        let Ok(_) = self.issued() else { return 0 };
        self.issued.take().and_then(|set| self.server.rank(set, &self.names.issued, user)).unwrap_or(0)
    }

    /// Users behind a cursor, in order, with their scores: so many at the most, and at the same cost wherever they are. The
    /// users themselves are found by their scores, or where the cursor stands amidst a tie, by their ranks.
    ///
    /// # Errors
    /// [`Refusal::WrongType`].
    pub fn behind(&mut self, cursor: Option<&Cursor>, count: u64) -> Result<Vec<(Text, f64)>, Refusal> {
        let count_max = usize::try_from(count).unwrap_or(usize::MAX);
        match cursor {
            None => Ok(self.issued()?.above(f64::NEG_INFINITY).take(count_max).collect()),
            Some(Cursor { arrival, user: None }) => Ok(self.issued()?.above(arrival.score()).take(count_max).collect()),
            Some(cursor) => {
                let (mut covered, mut uncovered) = (0, self.requested()?);
                while covered < uncovered {
                    let middle = covered.midpoint(uncovered);
                    let at_middle = self.at_rank(middle, 1)?;
                    let is_covered = at_middle.first().is_some_and(|(user, score)| cursor.covers(*score, user.bytes()));
                    if is_covered { covered = middle.saturating_add(1) } else { uncovered = middle }
                }
                self.at_rank(covered, count)
            }
        }
    }

    fn at_rank(&mut self, rank: u64, count: u64) -> Result<Vec<(Text, f64)>, Refusal> {
        self.issued()?;
        Ok(self.issued.take().map_or_else(Vec::new, |set| self.server.members(set, &self.names.issued, rank, count)))
    }

    /// Learns some more of who is in, so that soon nobody has to look for those who are not.
    pub fn learn(mut self) {
        let Ok(issued) = self.issued() else { return };
        let (requested, is_to_expire) = (companion(issued.len()).len(), issued.is_to_expire());
        if is_to_expire {
            return;
        }
        let Some(from) = cache::to_learn(self.database, self.key.bytes(), requested) else { return };
        if let Ok(members) = self.at_rank(from, MEMBERS_A_TIME) {
            cache::learn(self.database, self.key.bytes(), &members);
        }
    }

    /// The grant with this number, if it is still in the stream. IDs are `<epoch>-<seq>`, and most are of the coupon's own
    /// epoch; otherwise each epoch in the stream is tried, one seek each, and there are as many as restarts since the last
    /// trim. Beyond the coupon's epoch there is nothing of its own.
    ///
    /// # Errors
    /// [`Refusal::WrongType`].
    pub fn find(&mut self, seq: Seq, of: Epoch) -> Result<Option<Grant>, Refusal> {
        let grants = self.grants()?;
        let mut first_from = |epoch: Epoch, seq: Seq| {
            let (id, fields) = grants.first_from(StreamId { ms: epoch.0, seq: seq.0 })?;
            let id = EntryId { epoch: Epoch(id.ms), seq: Seq(id.seq) };
            (id.epoch <= of).then_some((id, fields))
        };
        let (mut epoch, mut next) = (of, Epoch(0));
        loop {
            if let Some((id, fields)) = first_from(epoch, seq).filter(|(id, _)| id.seq == seq) {
                let fields = fields.iter().map(|(name, value)| (name.bytes(), value.bytes()));
                return Ok(Grant::parse(&id.to_string(), fields).ok());
            }
            let Some((first, _)) = first_from(next, Seq(0)) else { return Ok(None) };
            (epoch, next) = (first.epoch, Epoch(first.epoch.0.saturating_add(1)));
        }
    }
}

impl Sale<'_, Write> {
    /// Writes what has become of the coupon, and all that follows from it: for replicas, watchers, listeners, those who
    /// wait and the next command.
    ///
    /// # Errors
    /// [`Refusal::WrongType`], with nothing written; not after [`Sale::open`].
    pub fn turn_into(&mut self, before: Option<&Coupon>, after: Coupon) -> Result<(), Refusal> {
        self.write(before, before, after)
    }

    /// As [`Sale::turn_into`], and writes the fields too that have not changed: whoever has set one by hand that is never
    /// read back, as `remaining`, is put right.
    ///
    /// # Errors
    /// As [`Sale::turn_into`].
    pub fn rewrite(&mut self, before: &Coupon, after: Coupon) -> Result<(), Refusal> {
        self.write(Some(before), None, after)
    }

    fn write(&mut self, before: Option<&Coupon>, stored: Option<&Coupon>, after: Coupon) -> Result<(), Refusal> {
        // With room for all fields: to grow would cost a hundredth of a grant.
        let mut changes: Vec<(&Str, Text)> = Vec::with_capacity(Field::ALL.len());
        let mut removed: Vec<&Str> = Vec::new();
        for (field, value) in after.changes_from(stored) {
            let Some(field) = name(field) else { continue };
            match value {
                Some(value) => changes.push((field, text(value))),
                None => removed.push(field),
            }
        }
        if stored.is_none() {
            let gone = after.changes_from(before).filter(|(_, value)| value.is_none());
            removed.extend(gone.filter_map(|(field, _)| name(field)));
        }
        if changes.is_empty() && removed.is_empty() {
            return Ok(());
        }
        let hash = self.hash()?;
        for (field, value) in &changes {
            hash.set(field, value);
        }
        if !removed.is_empty() {
            removed.iter().for_each(|field| hash.remove(field));
            self.server.replicate(c"HDEL", iter::once(self.key).chain(removed));
        }
        if !changes.is_empty() {
            let pairs = changes.iter().flat_map(|(field, value)| [*field, &**value]);
            self.server.replicate(c"HSET", iter::once(self.key).chain(pairs));
        }
        self.server.signal_modified(self.key);
        let (was, had) = before.map_or((None, 0), |before| (Some(before.status), before.position.seq.0));
        if was != Some(after.status) {
            match after.status {
                Status::Issued => event::note(Event::SoldOut),
                Status::Expired => event::note(Event::Closed),
                Status::Standard | Status::Available => {}
            }
        }
        // What the ledger itself has brought back is no news.
        if after.position.seq.0 > had && after.position.seq > after.persisted {
            event::note(Event::Granted);
            if after.persisted.0 == had {
                self.server.publish(message::GRANTED, self.key);
            }
        }
        waiters::wake_final(self.server, || self.coordinates(), &after);
        self.keep(&Arc::new(after));
        Ok(())
    }

    /// Adds users who were added to the set, or moved in it, to what is replicated.
    fn joined(&mut self, users: &[(Arrival, &Str)], newest: Option<Arrival>) {
        let issued: &Str = &self.names.issued;
        match users {
            [(arrival, user)] => self.server.replicate(c"ZADD", [issued, &*Text::count(arrival.0), *user]),
            users => {
                let scores: Vec<Text> = users.iter().map(|(arrival, _)| Text::count(arrival.0)).collect();
                let pairs = scores.iter().zip(users).flat_map(|(score, (_, user))| [&**score, *user]);
                self.server.replicate(c"ZADD", iter::once(issued).chain(pairs));
            }
        }
        self.server.signal_modified(issued);
        self.newest = newest;
        match newest {
            Some(newest) => cache::join(self.database, self.key.bytes(), newest),
            None => cache::forget(self.database, self.key.bytes()),
        }
    }

    /// Tells those who cache that an answer has changed although the hash has not: they have asked by the coupon's key.
    pub fn answers_changed(&self) {
        self.server.signal_modified(self.key);
    }

    /// Users have joined the line, one behind the other. What the hash then holds is to follow, or
    /// [`Sale::answers_changed`].
    pub fn join(&mut self, users: &[(Arrival, &Str)]) {
        if let Some((newest, _)) = users.last() {
            self.joined(users, Some(*newest));
        }
    }

    /// Puts users into the line, or moves them to their place in it. Whoever waits is told where things stand.
    ///
    /// # Errors
    /// [`Refusal::WrongType`]; not after [`Sale::open`].
    pub fn place(&mut self, users: &[(Arrival, &Str)]) -> Result<(), Refusal> {
        let issued = self.issued()?;
        for (arrival, user) in users {
            issued.put(arrival.score(), user);
        }
        self.joined(users, None);
        waiters::look_again(self.server, self.database, self.key.bytes());
        Ok(())
    }

    /// Takes a user with this score out of the line.
    ///
    /// # Errors
    /// [`Refusal::WrongType`]; not after [`Sale::open`].
    pub fn leave(&mut self, user: &Str, score: f64) -> Result<(), Refusal> {
        if self.issued()?.take_out(user) {
            let issued: &Str = &self.names.issued;
            self.server.replicate(c"ZREM", [issued, user]);
            self.server.signal_modified(issued);
            self.newest = None;
            cache::leave(self.database, self.key.bytes());
            waiters::leave(self.server, || self.coordinates(), user.bytes(), score);
        }
        Ok(())
    }

    /// Appends the next grant to the stream, and moves the coupon on by it. False, with nothing changed, if the stream
    /// holds an entry that the coupon does not know.
    ///
    /// # Errors
    /// [`Refusal::WrongType`]; not after [`Sale::open`].
    pub fn append(
        &mut self,
        coupon: &mut Coupon,
        user: &Str,
        id: UserId<'_>,
        at: Arrival,
        now_ms: &Str,
    ) -> Result<bool, Refusal> {
        let (position, status) = (coupon.position, coupon.status);
        let entry_id = coupon.grant(id, at);
        let (requested_at, chain) = (Text::count(at.0), Text::number(coupon.position.chain.0));
        let [user_field, requested_field, granted_field, chain_field] = ENTRY.each_ref().map(Static::get);
        let fields =
            [(user_field, user), (requested_field, &*requested_at), (granted_field, now_ms), (chain_field, &*chain)];
        if !self.grants()?.append(StreamId { ms: entry_id.epoch.0, seq: entry_id.seq.0 }, &fields) {
            (coupon.position, coupon.status) = (position, status);
            return Ok(false);
        }
        let entry_id = id_text(entry_id);
        let head: [&Str; 2] = [&self.names.grants, &entry_id];
        self.server
            .replicate(c"XADD", head.into_iter().chain(fields.into_iter().flat_map(|(field, value)| [field, value])));
        Ok(true)
    }

    /// Tells watchers that grants were appended.
    pub fn appended(&self) {
        self.server.signal_modified(&self.names.grants);
    }

    /// Notes of users that PostgreSQL refused their rows, and of others that it does so no more; how many are refused then.
    ///
    /// # Errors
    /// [`Refusal::WrongType`]; not once the key is open.
    pub fn note_refused(
        &mut self,
        before: &Coupon,
        refused: &[UserId<'_>],
        persisted: &[UserId<'_>],
    ) -> Result<u64, Refusal> {
        if before.refused == 0 {
            // What lies there is of an earlier life of this key.
            self.drop_refused()?;
        }
        let set = self.refused()?;
        let text = |user: &UserId<'_>| Text::new(user.as_bytes());
        let added: Vec<Text> = refused.iter().map(text).filter(|user| set.add(0.0, user)).collect();
        let gone: Vec<Text> = persisted.iter().map(text).filter(|user| set.take_out(user)).collect();
        let count = companion(set.len()).len();
        let (key, zero) = (refused_name(self.key), Text::count(0));
        if !added.is_empty() {
            let pairs = added.iter().flat_map(|user| [&*zero, &**user]);
            self.server.replicate(c"ZADD", iter::once(&*key).chain(pairs));
        }
        if !gone.is_empty() {
            self.server.replicate(c"ZREM", iter::once(&*key).chain(gone.iter().map(|user| &**user)));
        }
        if !added.is_empty() || !gone.is_empty() {
            self.server.signal_modified(&key);
            // Also where their number, and with it the hash, stays as it was.
            self.answers_changed();
            waiters::look_again(self.server, self.database, self.key.bytes());
        }
        Ok(count)
    }

    /// Forgets all refused users.
    ///
    /// # Errors
    /// As [`Sale::note_refused`].
    pub fn drop_refused(&mut self) -> Result<(), Refusal> {
        if self.refused()?.remove() {
            let key = refused_name(self.key);
            self.server.replicate(c"UNLINK", [&*key]);
            self.server.signal_modified(&key);
        }
        Ok(())
    }

    /// Removes the stream of grants.
    ///
    /// # Errors
    /// [`Refusal::WrongType`]; not after [`Sale::open`].
    pub fn drop_grants(&mut self) -> Result<(), Refusal> {
        if self.grants()?.remove() {
            self.server.replicate(c"UNLINK", [&*self.names.grants]);
            self.appended();
        }
        Ok(())
    }

    /// Removes all entries before this one.
    ///
    /// # Errors
    /// [`Refusal::WrongType`]; not after [`Sale::open`].
    pub fn trim_before(&mut self, id: EntryId) -> Result<(), Refusal> {
        if self.grants()?.trim_before(StreamId { ms: id.epoch.0, seq: id.seq.0 }) {
            let (how, exactly) = (Text::new(b"MINID"), Text::new(b"="));
            let id = id_text(id);
            let args: [&Str; 4] = [&self.names.grants, &how, &exactly, &id];
            self.server.replicate(c"XTRIM", args);
            self.appended();
        }
        Ok(())
    }

    fn coordinates(&self) -> waiters::Coordinates {
        (self.database, self.key.bytes().into())
    }
}

/// Made where it is needed: hardly any coupon has the key.
fn refused_name(key: &Str) -> Text {
    Text::new(&[key.bytes(), key::REFUSED.as_bytes()].concat())
}

fn companion(len: Option<u64>) -> Companion {
    len.map_or(Companion::Missing, Companion::Holds)
}

/// Opens a key that is not open yet.
fn open<'k, K>(
    slot: &'k mut Option<K>,
    name: &'static str,
    open: impl FnOnce() -> Result<K, WrongType>,
) -> Result<&'k mut K, Refusal> {
    match slot {
        Some(key) => Ok(key),
        None => open().map(|key| slot.insert(key)).map_err(|WrongType| Refusal::WrongType(name)),
    }
}

fn name(field: Field) -> Option<&'static Str> {
    FIELDS.get(field as usize).map(Static::get)
}

/// `<epoch>-<seq>`; the standard library's formatting would be a hundredth of a grant.
fn id_text(id: EntryId) -> Text {
    let (mut epoch, mut seq) = (itoa::Buffer::new(), itoa::Buffer::new());
    Text::new([epoch.format(id.epoch.0), "-", seq.format(id.seq.0)].concat().as_bytes())
}

fn text(value: Value<'_>) -> Text {
    match value {
        Value::Word(word) => Text::new(word.as_bytes()),
        Value::Count(count) => Text::count(count),
        Value::Signed(number) => Text::number(number),
        Value::Cursor(cursor) => Text::new(cursor.encode().as_bytes()),
    }
}

fn decode<A: Access>(hash: &Hash<'_, A>) -> Result<Coupon, Refusal> {
    let fields: [Option<Text>; Field::ALL.len()] = FIELDS.each_ref().map(|name| hash.get(name.get()));
    Coupon::decode(|field| fields.get(field as usize).and_then(Option::as_ref).map(|text| text.bytes()))
}
