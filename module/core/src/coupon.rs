//! The status hash as a value: what a coupon is, and what may be asked of it.

use crate::grant::EntryId;
use crate::limit::{ARRIVAL_US_MAX, NUMBER_MAX, QUANTITY_MAX, REVISION_MAX};
use crate::number::{Arrival, Chain, Epoch, Now, Revision, Seq, Token, number};
use crate::position::Position;
use crate::refusal::{Refusal, quote};
use crate::user::UserId;
use crate::window;
use crate::words::{Mode, Status};

/// The format of the status hash that is written, and the newest that can be read.
pub const FORMAT: u64 = 1;

/// The server at the moment of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Its clock.
    pub now: Now,
    /// The token of its present history.
    pub token: Token,
    /// How many grants may be missing in the ledger before no more are made.
    pub unpersisted_max: u64,
}

/// Everybody up to here, in the order of the sorted set, is granted (or persisted).
///
/// A score alone covers all who share it, which is the usual case, as arrivals are distinct. A set that
/// was filled by hand may hold ties; then the cursor names the last user too, as Redis orders a tie by bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The newest arrival covered.
    pub arrival: Arrival,
    /// The last user covered among those who share that arrival; all of them if none.
    pub user: Option<String>,
}

impl Cursor {
    /// Whether the member with that score is covered.
    #[must_use]
    pub fn covers(&self, score: f64, member: &[u8]) -> bool {
        let edge = self.arrival.score();
        score < edge || (score == edge && self.user.as_deref().is_none_or(|last| member <= last.as_bytes()))
    }

    /// The field's text.
    #[must_use]
    pub fn encode(&self) -> String {
        match &self.user {
            None => self.arrival.to_string(),
            Some(user) => format!("{} {user}", self.arrival),
        }
    }

    /// Without a user it is but a number.
    const fn value(&self) -> Value<'_> {
        if self.user.is_none() { Value::Count(self.arrival.0) } else { Value::Cursor(self) }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?;
        let (arrival, user) = match text.split_once(' ') {
            None => (text, None),
            Some((arrival, user)) => (arrival, Some(user.to_owned())),
        };
        let arrival = number(arrival.as_bytes()).filter(|n| *n <= ARRIVAL_US_MAX)?;
        Some(Self { arrival: Arrival(arrival), user })
    }
}

/// The fields of the status hash, in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented at its name in `name`")]
pub enum Field {
    Status,
    Mode,
    Quantity,
    Remaining,
    Waitlist,
    OpensAt,
    ExpiresAt,
    Epoch,
    Seq,
    Chain,
    Persisted,
    Fence,
    GrantedTo,
    FirstAt,
    PersistedTo,
    Refused,
    Revision,
    Format,
}

impl Field {
    /// All of them. A field's place is its discriminant.
    pub const ALL: [Self; 18] = [
        Self::Status,
        Self::Mode,
        Self::Quantity,
        Self::Remaining,
        Self::Waitlist,
        Self::OpensAt,
        Self::ExpiresAt,
        Self::Epoch,
        Self::Seq,
        Self::Chain,
        Self::Persisted,
        Self::Fence,
        Self::GrantedTo,
        Self::FirstAt,
        Self::PersistedTo,
        Self::Refused,
        Self::Revision,
        Self::Format,
    ];

    /// Whether it changes with the definition alone, if ever.
    const fn is_of_definition(self) -> bool {
        matches!(
            self,
            Self::Mode
                | Self::Quantity
                | Self::Waitlist
                | Self::OpensAt
                | Self::ExpiresAt
                | Self::Revision
                | Self::Format
        )
    }

    /// Its name in the hash.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Mode => "mode",
            Self::Quantity => "quantity",
            // Always quantity − seq: stored for readers of the hash, never read back.
            Self::Remaining => "remaining",
            Self::Waitlist => "waitlist",
            // Unix milliseconds, 0 for no bound.
            Self::OpensAt => "opens_at",
            Self::ExpiresAt => "expires_at",
            Self::Epoch => "epoch",
            Self::Seq => "seq",
            Self::Chain => "chain",
            // The newest seq known to be committed in PostgreSQL.
            Self::Persisted => "persisted",
            // The token of the process that may grant.
            Self::Fence => "fence",
            // The first arrival, in µs: from then on K:issued must exist.
            Self::FirstAt => "first_at",
            Self::GrantedTo => "granted_to",
            Self::PersistedTo => "persisted_to",
            // How many users K:refused holds; left out where there is none.
            Self::Refused => "refused",
            // The number of the definition, as the reconciler published it last.
            Self::Revision => "revision",
            // How the hash is to be read: see [`FORMAT`].
            Self::Format => "format",
        }
    }
}

/// The value of a field, to be written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'c> {
    /// A word of the contract.
    Word(&'static str),
    /// A count, or a time.
    Count(u64),
    /// A number that may be negative.
    Signed(i64),
    /// A cursor, as [`Cursor::encode`] writes it.
    Cursor(&'c Cursor),
}

/// What an operator defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// Units in all.
    pub quantity: u64,
    /// When a request is decided.
    pub mode: Mode,
    /// Users who may wait beyond the quantity.
    pub waitlist: u64,
    /// Requests begin, Unix milliseconds; 0 for at once.
    pub opens_at: u64,
    /// Requests end, Unix milliseconds; 0 for never.
    pub expires_at: u64,
}

/// A coupon's companion key, as found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Companion {
    /// No such key.
    Missing,
    /// Present, with so many members or entries.
    Holds(u64),
}

impl Companion {
    /// How many it holds.
    #[must_use]
    pub const fn len(self) -> u64 {
        match self {
            Self::Missing => 0,
            Self::Holds(len) => len,
        }
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// The status hash, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coupon {
    /// Where it is in its life, as stored.
    pub status: Status,
    /// What the operator defined.
    pub definition: Definition,
    /// Its life under one history of Redis.
    pub epoch: Epoch,
    /// The newest grant.
    pub position: Position,
    /// The newest grant known to be committed in PostgreSQL.
    pub persisted: Seq,
    /// The token it carries.
    pub fence: Option<Token>,
    /// The first arrival.
    pub first_at: Option<Arrival>,
    /// Who is granted.
    pub granted_to: Option<Cursor>,
    /// Who is persisted.
    pub persisted_to: Option<Cursor>,
    /// Users whose rows PostgreSQL refused.
    pub refused: u64,
    /// Which definition the reconciler published last. It is no part of the definition itself: whoever compares
    /// definitions asks what they say, not when.
    pub revision: Revision,
}

impl Coupon {
    /// Reads the status hash. Fields left out have the defaults of COUPON.OPEN, so that a hash of `status` and
    /// `quantity` set by hand is a coupon.
    ///
    /// # Errors
    /// [`Refusal::NoCoupon`] without status or quantity; [`Refusal::Usage`] if a newer version wrote it, or a field holds what
    /// it never can.
    pub fn decode<'a>(get: impl Fn(Field) -> Option<&'a [u8]>) -> Result<Self, Refusal> {
        let (Some(status), Some(_)) = (get(Field::Status), get(Field::Quantity)) else {
            return Err(Refusal::NoCoupon);
        };
        // First, as nothing below need be true of another format.
        if let Some(bytes) = get(Field::Format) {
            match number(bytes) {
                Some(FORMAT) => {}
                Some(format) if format > FORMAT => return Err(newer(format)),
                _ => return Err(broken(Field::Format, bytes)),
            }
        }
        let count = |field: Field, max: u64| match get(field) {
            None => Ok(0),
            Some(bytes) => number(bytes).filter(|n| *n <= max).ok_or_else(|| broken(field, bytes)),
        };
        let instant = |field: Field| {
            match get(field) {
            None => Ok(0),
            Some(bytes) => window::instant(bytes).ok_or_else(|| {
                let (name, bytes, expected) = (field.name(), quote(bytes), window::expected());
                Refusal::usage(format!("field {name} of the coupon holds {bytes} where it should hold {expected}; set it right with COUPON.OPEN or HSET"))
            }),
        }
        };
        let cursor = |field: Field| match get(field) {
            None => Ok(None),
            Some(bytes) => Cursor::decode(bytes).map(Some).ok_or_else(|| broken(field, bytes)),
        };
        let chain = match get(Field::Chain) {
            None => Chain::START,
            Some(bytes) => str::from_utf8(bytes)
                .ok()
                .and_then(|text| text.parse().ok())
                .map(Chain)
                .ok_or_else(|| broken(Field::Chain, bytes))?,
        };
        let mode = match get(Field::Mode) {
            None => Mode::Queue,
            Some(bytes) => Mode::parse(bytes).ok_or_else(|| broken(Field::Mode, bytes))?,
        };
        let fence = match get(Field::Fence) {
            None => None,
            Some(bytes) => Some(Token(number(bytes).ok_or_else(|| broken(Field::Fence, bytes))?)),
        };
        let first_at = match get(Field::FirstAt) {
            None => None,
            Some(_) => Some(Arrival(count(Field::FirstAt, ARRIVAL_US_MAX)?)),
        };
        Ok(Self {
            status: Status::parse(status).ok_or_else(|| broken(Field::Status, status))?,
            definition: Definition {
                quantity: count(Field::Quantity, QUANTITY_MAX)?,
                mode,
                waitlist: count(Field::Waitlist, QUANTITY_MAX)?,
                opens_at: instant(Field::OpensAt)?,
                expires_at: instant(Field::ExpiresAt)?,
            },
            epoch: Epoch(count(Field::Epoch, NUMBER_MAX)?),
            position: Position { seq: Seq(count(Field::Seq, NUMBER_MAX)?), chain },
            persisted: Seq(count(Field::Persisted, NUMBER_MAX)?),
            fence,
            first_at,
            granted_to: cursor(Field::GrantedTo)?,
            persisted_to: cursor(Field::PersistedTo)?,
            refused: count(Field::Refused, NUMBER_MAX)?,
            revision: Revision(count(Field::Revision, REVISION_MAX)?),
        })
    }

    /// What a field of the hash holds; none where it is left out.
    fn value(&self, field: Field) -> Option<Value<'_>> {
        Some(match field {
            Field::Status => Value::Word(self.status.word()),
            Field::Mode => Value::Word(self.definition.mode.word()),
            Field::Quantity => Value::Count(self.definition.quantity),
            Field::Remaining => Value::Count(self.remaining()),
            Field::Waitlist => Value::Count(self.definition.waitlist),
            Field::OpensAt => Value::Count(self.definition.opens_at),
            Field::ExpiresAt => Value::Count(self.definition.expires_at),
            Field::Epoch => Value::Count(self.epoch.0),
            Field::Seq => Value::Count(self.position.seq.0),
            Field::Chain => Value::Signed(self.position.chain.0),
            Field::Persisted => Value::Count(self.persisted.0),
            Field::Fence => Value::Count(self.fence?.0),
            Field::FirstAt => Value::Count(self.first_at?.0),
            Field::GrantedTo => self.granted_to.as_ref()?.value(),
            Field::PersistedTo => self.persisted_to.as_ref()?.value(),
            Field::Refused => Value::Count(Some(self.refused).filter(|count| *count > 0)?),
            Field::Revision => Value::Count(self.revision.0),
            Field::Format => Value::Count(FORMAT),
        })
    }

    /// The fields to write so that the hash holds this coupon, where it held that one, and those without a value to remove:
    /// none if nothing changes.
    pub fn changes_from<'c>(&'c self, before: Option<&'c Self>) -> impl Iterator<Item = (Field, Option<Value<'c>>)> {
        // Most changes are grants, which leave the definition as it is.
        let is_defined_so =
            before.is_some_and(|before| before.definition == self.definition && before.revision == self.revision);
        Field::ALL.into_iter().filter_map(move |field| {
            if is_defined_so && field.is_of_definition() {
                return None;
            }
            let value = self.value(field);
            (before.and_then(|before| before.value(field)) != value).then_some((field, value))
        })
    }

    /// Follows the reconciler, if that has missed nothing: the coupon is then of its revision. Without one, as by hand, it
    /// stays of that which is there.
    ///
    /// # Errors
    /// [`Refusal::StaleEpoch`]; [`Refusal::StaleRevision`] if a newer definition was published meanwhile, as after the
    /// reconciler has slept.
    pub fn follow(&mut self, epoch: Option<Epoch>, revision: Option<Revision>) -> Result<(), Refusal> {
        if epoch.is_some_and(|epoch| epoch < self.epoch) {
            return Err(Refusal::StaleEpoch { stored: self.epoch });
        }
        let given = revision.unwrap_or(self.revision);
        if given < self.revision {
            return Err(Refusal::StaleRevision { given, stored: self.revision });
        }
        self.revision = given;
        Ok(())
    }

    /// Units left. Never negative: a quantity lowered by hand below what is granted leaves none.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.definition.quantity.saturating_sub(self.position.seq.0)
    }

    /// Units that may be granted at this moment: those left, as far as the ledger has kept up.
    #[must_use]
    pub fn grantable(&self, moment: Moment) -> u64 {
        let unpersisted = self.position.seq.0.saturating_sub(self.persisted.0);
        self.remaining().min(moment.unpersisted_max.saturating_sub(unpersisted))
    }

    /// Users accepted and not granted, out of so many accepted.
    #[must_use]
    pub const fn waiting(&self, requested: u64) -> u64 {
        requested.saturating_sub(self.position.seq.0)
    }

    /// Whether the gate is shut: the ledger knows this coupon, and this process has not been compared with it.
    /// A coupon opened by hand has epoch 0 and no fence until the reconciler adopts it.
    #[must_use]
    pub fn is_fenced(&self, token: Token) -> bool {
        self.epoch.0 > 0 && self.fence != Some(token)
    }

    /// Whether the clock has a say in who is let in.
    #[must_use]
    pub const fn has_window(&self) -> bool {
        self.definition.opens_at > 0 || self.definition.expires_at > 0
    }

    /// Whether requests have ended by the clock.
    #[must_use]
    pub const fn has_ended(&self, now: Now) -> bool {
        self.definition.expires_at > 0 && now.ms() >= self.definition.expires_at
    }

    /// Whether requests have not begun by the clock.
    #[must_use]
    pub const fn is_early(&self, now: Now) -> bool {
        now.ms() < self.definition.opens_at
    }

    /// The tripwire: a companion key that is missing, or holds less than the hash says it must, was deleted,
    /// evicted, expired, renamed, or has not migrated yet. To go on would be to start over.
    ///
    /// # Errors
    /// [`Refusal::TryAgain`], naming the key.
    pub fn check_companions(&self, issued: Companion, grants: Companion) -> Result<(), Refusal> {
        self.check_issued(issued)?;
        self.check_grants(grants)
    }

    /// The tripwire at the set of accepted users.
    ///
    /// # Errors
    /// As [`Coupon::check_companions`].
    pub fn check_issued(&self, issued: Companion) -> Result<(), Refusal> {
        let seq = self.position.seq.0;
        if (seq > 0 || self.first_at.is_some()) && issued.len() < seq.max(1) {
            return Err(Refusal::TryAgain(
                "the :issued key is missing or incomplete although requests were accepted; bring it back, or let the reconciler restore it",
            ));
        }
        Ok(())
    }

    /// The tripwire at the stream of grants.
    ///
    /// # Errors
    /// As [`Coupon::check_companions`].
    pub fn check_grants(&self, grants: Companion) -> Result<(), Refusal> {
        let seq = self.position.seq.0;
        // The newest entry is never trimmed, nor is one that is not a row.
        if seq > 0 && grants.len() < seq.saturating_sub(self.persisted.0).max(1) {
            return Err(Refusal::TryAgain(
                "the :grants key is missing or incomplete although units were granted; bring it back, or let the reconciler restore it",
            ));
        }
        Ok(())
    }

    /// The tripwire at the set of refused users: without it all of them would be persisted.
    ///
    /// # Errors
    /// As [`Coupon::check_companions`].
    pub fn check_refused(&self, refused: Companion) -> Result<(), Refusal> {
        if refused.len() < self.refused {
            return Err(Refusal::TryAgain(
                "the :refused key is missing or incomplete although PostgreSQL refused rows; bring it back, or let the reconciler restore it",
            ));
        }
        Ok(())
    }

    /// Takes the next grant of this coupon's history. The caller has made sure that a unit is left.
    pub fn grant(&mut self, user: UserId<'_>, arrival: Arrival) -> EntryId {
        self.position = Position { seq: self.position.seq.next(), chain: self.position.chain.next(user, arrival) };
        if self.status == Status::Available && self.remaining() == 0 {
            self.status = Status::Issued;
        }
        EntryId { epoch: self.epoch, seq: self.position.seq }
    }
}

fn newer(format: u64) -> Refusal {
    Refusal::usage(format!(
        "the coupon is of format {format}, which a newer version of the module wrote; this one knows format {FORMAT}: load the newer module"
    ))
}

fn broken(field: Field, bytes: &[u8]) -> Refusal {
    Refusal::usage(format!(
        "field {} of the coupon holds {}, which it cannot; set it right with COUPON.OPEN or HSET",
        field.name(),
        quote(bytes)
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A coupon on offer.
    pub(crate) fn available(quantity: u64, mode: Mode) -> Coupon {
        Coupon {
            status: Status::Available,
            definition: Definition { quantity, mode, waitlist: 0, opens_at: 0, expires_at: 0 },
            epoch: Epoch(0),
            position: Position::default(),
            persisted: Seq(0),
            fence: None,
            first_at: None,
            granted_to: None,
            persisted_to: None,
            refused: 0,
            revision: Revision(0),
        }
    }

    pub(crate) const fn now(ms: u64) -> Now {
        Now { us: ms.saturating_mul(1000) }
    }

    pub(crate) const fn at(ms: u64) -> Moment {
        Moment { now: now(ms), token: Token(1), unpersisted_max: u64::MAX }
    }

    fn decode(fields: &[(&str, &'static str)]) -> Result<Coupon, Refusal> {
        Coupon::decode(|field| fields.iter().find(|(name, _)| *name == field.name()).map(|(_, value)| value.as_bytes()))
    }

    #[test]
    fn a_hash_with_status_and_quantity_is_a_coupon() {
        assert_eq!(decode(&[("status", "AVAILABLE"), ("quantity", "5")]), Ok(available(5, Mode::Queue)));
        assert_eq!(decode(&[("status", "AVAILABLE")]), Err(Refusal::NoCoupon));
        assert_eq!(decode(&[("quantity", "5")]), Err(Refusal::NoCoupon));
    }

    #[test]
    fn a_field_that_cannot_be_is_named() {
        for (name, value) in [
            ("status", "OPEN"),
            ("quantity", "-1"),
            ("quantity", "1e3"),
            ("quantity", "1000000001"),
            ("mode", "x"),
            ("waitlist", ""),
            ("opens_at", "now"),
            ("opens_at", "1795874262"),
            ("expires_at", "253402300800000"),
            ("epoch", "+1"),
            ("seq", "9223372036854775808"),
            ("chain", "0x1"),
            ("persisted", " 1"),
            ("fence", "?"),
            ("first_at", "9007199254740993"),
            ("granted_to", "x y"),
            ("persisted_to", "1.5"),
            ("refused", "-1"),
            ("revision", "9007199254740992"),
            ("format", "0"),
            ("format", "two"),
            ("format", ""),
        ] {
            let fields = [(name, value), ("status", "AVAILABLE"), ("quantity", "5")];
            match decode(&fields) {
                Err(Refusal::Usage(text)) => assert!(text.contains(&format!("field {name} ")), "{text}"),
                other => assert!(matches!(other, Err(Refusal::Usage(_))), "{name}={value}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_hash_of_a_newer_format_is_refused_whatever_else_it_holds() {
        for (format, quantity) in [("2", "5"), ("18446744073709551615", "5"), ("2", "five")] {
            match decode(&[("status", "AVAILABLE"), ("quantity", quantity), ("format", format)]) {
                Err(Refusal::Usage(text)) => {
                    assert!(
                        text.contains(&format!("of format {format},")) && text.contains("knows format 1"),
                        "{text}"
                    );
                }
                other => assert!(matches!(other, Err(Refusal::Usage(_))), "{format}: {other:?}"),
            }
        }
        let known = decode(&[("status", "AVAILABLE"), ("quantity", "5"), ("format", "1")]);
        assert_eq!(known, Ok(available(5, Mode::Queue)));
        assert_eq!(decode(&[("format", "2"), ("quantity", "5")]), Err(Refusal::NoCoupon), "somebody else's");
    }

    #[test]
    fn a_coupon_follows_who_has_missed_nothing() {
        let mut coupon = available(9, Mode::Queue);
        (coupon.epoch, coupon.revision) = (Epoch(3), Revision(5));
        let followed = |epoch: Option<u64>, revision: Option<u64>| {
            let mut coupon = coupon.clone();
            coupon.follow(epoch.map(Epoch), revision.map(Revision)).map(|()| coupon.revision)
        };
        for (epoch, revision, taken) in
            [(Some(3), Some(6), 6), (Some(4), Some(5), 5), (Some(3), None, 5), (None, None, 5)]
        {
            assert_eq!(followed(epoch, revision), Ok(Revision(taken)), "{epoch:?} {revision:?}");
        }
        let stale = Refusal::StaleRevision { given: Revision(4), stored: Revision(5) };
        assert_eq!(followed(Some(9), Some(4)), Err(stale), "a higher epoch makes an older definition no newer");
        assert_eq!(followed(Some(2), Some(6)), Err(Refusal::StaleEpoch { stored: Epoch(3) }));
    }

    #[test]
    fn a_companion_that_lost_something_trips() {
        let holds = Companion::Holds;
        let mut coupon = available(9, Mode::Queue);
        assert!(coupon.check_companions(Companion::Missing, Companion::Missing).is_ok());
        coupon.first_at = Some(Arrival(1));
        assert!(coupon.check_companions(Companion::Missing, Companion::Missing).is_err());
        assert!(coupon.check_companions(holds(1), Companion::Missing).is_ok());
        coupon.position.seq = Seq(5);
        coupon.persisted = Seq(2);
        assert!(coupon.check_companions(holds(4), holds(4)).is_err(), "fewer users than grants");
        assert!(coupon.check_companions(holds(5), holds(2)).is_err(), "an entry that is no row is gone");
        assert!(coupon.check_companions(holds(5), holds(3)).is_ok());
        coupon.persisted = Seq(5);
        assert!(coupon.check_companions(holds(5), Companion::Missing).is_err(), "the newest entry stays");
        assert!(coupon.check_companions(holds(5), holds(1)).is_ok());
        coupon.first_at = None;
        assert!(coupon.check_companions(holds(4), holds(1)).is_err(), "grants alone need their users");
        assert!(coupon.check_refused(Companion::Missing).is_ok());
        coupon.refused = 2;
        assert!(coupon.check_refused(Companion::Missing).is_err() && coupon.check_refused(holds(1)).is_err());
        assert!(coupon.check_refused(holds(2)).is_ok());
    }

    #[test]
    fn the_clock_has_a_say_where_either_end_of_the_window_is_set() {
        let mut coupon = available(1, Mode::Queue);
        for (opens_at, expires_at, has_window) in [(0, 0, false), (1, 0, true), (0, 1, true), (1, 2, true)] {
            coupon.definition = Definition { opens_at, expires_at, ..coupon.definition };
            assert_eq!(coupon.has_window(), has_window, "{opens_at} {expires_at}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut full = available(9, Mode::Instant);
        full.definition =
            Definition { waitlist: 3, opens_at: 1_700_000_000_000, expires_at: 1_800_000_000_000, ..full.definition };
        (full.status, full.epoch, full.persisted) = (Status::Expired, Epoch(4), Seq(2));
        full.position = Position { seq: Seq(5), chain: Chain(-50) };
        (full.fence, full.first_at) = (Some(Token(7)), Some(Arrival(11)));
        full.granted_to = Some(Cursor { arrival: Arrival(20), user: None });
        full.persisted_to = Some(Cursor { arrival: Arrival(15), user: Some("a b".into()) });
        full.refused = 2;
        full.revision = Revision(REVISION_MAX);
        for coupon in [full.clone(), available(5, Mode::Queue)] {
            let written: Vec<(Field, String)> =
                coupon.changes_from(None).filter_map(|(field, value)| Some((field, text(value?)))).collect();
            let get = |field| written.iter().find(|(name, _)| *name == field).map(|(_, text)| text.as_bytes());
            assert_eq!(Coupon::decode(get), Ok(coupon.clone()));
            assert_eq!(coupon.changes_from(Some(&coupon)).count(), 0);
        }
        let granted = Coupon { position: Position { seq: Seq(6), chain: Chain(1) }, ..full.clone() };
        let fields: Vec<Field> = granted.changes_from(Some(&full)).map(|(field, _)| field).collect();
        assert_eq!(fields, [Field::Remaining, Field::Seq, Field::Chain]);
        let empty = Coupon { refused: 0, first_at: None, ..full.clone() };
        let removed: Vec<_> = empty.changes_from(Some(&full)).collect();
        assert_eq!(removed, [(Field::FirstAt, None), (Field::Refused, None)]);
        let published = Coupon { revision: Revision(0), ..full.clone() };
        let fields: Vec<Field> = published.changes_from(Some(&full)).map(|(field, _)| field).collect();
        assert_eq!(fields, [Field::Revision]);
    }

    fn text(value: Value<'_>) -> String {
        match value {
            Value::Word(word) => word.to_owned(),
            Value::Count(count) => count.to_string(),
            Value::Signed(number) => number.to_string(),
            Value::Cursor(cursor) => cursor.encode(),
        }
    }

    #[test]
    fn the_last_unit_turns_the_coupon_issued() -> Result<(), Refusal> {
        let mut coupon = available(2, Mode::Instant);
        let user = UserId::parse(b"a")?;
        assert_eq!(coupon.grant(user, Arrival(1)).to_string(), "0-1");
        assert_eq!((coupon.status, coupon.remaining()), (Status::Available, 1));
        coupon.grant(user, Arrival(2));
        assert_eq!((coupon.status, coupon.remaining()), (Status::Issued, 0));
        Ok(())
    }

    #[test]
    fn cursors_read_back() {
        for text in ["5", "5 a b", "5 쿠폰"] {
            assert_eq!(Cursor::decode(text.as_bytes()).map(|c| c.encode()).as_deref(), Some(text));
        }
    }
}
