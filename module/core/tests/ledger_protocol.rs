//! The ledger protocol as an executable model, explored state by state.
//!
//! Two Redis nodes: 0 starts as primary, 1 as its replica, which lags until `sync`. Both can be primary at once. A crash
//! falls back to the node's disk, so it may lose the newest writes, a RESUME among them. Somebody may delete the status
//! hash, which leaves the stream without it. Two reconcilers talk to any node, each arbitrarily stale between two steps.
//!
//! The nodes decide by the product's own rules (`coupon_core`), so a change there is tried against every order of events
//! that these few users, epochs, crashes and promotions allow. The ledger's side is SQL in the product and is modelled
//! here: take an epoch, read rows, insert by compare-and-set, name orphans. Each [`Fault`] breaks one rule and has to be caught.
#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test may fail by panicking")]

use coupon_core::coupon::{Coupon, Definition, Moment};
use coupon_core::ledger::{Ack, Resume};
use coupon_core::number::{Arrival, Chain, Epoch, Now, Revision, Seq, Token};
use coupon_core::position::Position;
use coupon_core::refusal::Refusal;
use coupon_core::request::{self, Decision, Line};
use coupon_core::restore::{Restore, SHUT, finish};
use coupon_core::user::UserId;
use coupon_core::words::{Mode, Status};
use foldhash::{HashMap, HashMapExt};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::fmt::Arguments;

const QUANTITY: usize = 2;
const USERS: [&str; 3] = ["a", "b", "c"];
const EPOCHS: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// No fault: nothing may be found.
    None,
    /// Requests do not look at the fence.
    NoFence,
    /// The fence is open whatever the token.
    NoToken,
    /// The relay writes without compare-and-set.
    NoCompareAndSet,
    /// Neither RESUME nor the relay looks at the chain.
    NoChain,
    /// The relay does not check that an entry follows the ledger's newest row.
    NoFollow,
    /// The gate opens although Redis is not level.
    NoRestore,
    /// ACK goes out before the commit.
    AckFirst,
    /// ACK is taken whatever the fence and the epoch.
    AckBlind,
    /// What a stream without its hash holds is saved whatever came before it.
    SaveUnproved,
    /// It is saved by compare-and-set of the position alone, whoever has taken an epoch since.
    SaveAtAnyEpoch,
    /// What a restore drops is named before the gate is shut.
    NameUnshut,
    /// RESTORE is taken by a coupon that is not shut, and shuts it.
    RestoreUnshut,
    /// ACK does not name those whose rows PostgreSQL refused.
    AckUntold,
    /// Nor does RESTORE.
    RestoreUntold,
    /// RESTORE names them from the common part on, and Redis may not have heard of those before.
    RestoreHalfTold,
}

const FAULTS: [Fault; 15] = [
    Fault::NoFence,
    Fault::NoToken,
    Fault::NoCompareAndSet,
    Fault::NoChain,
    Fault::NoFollow,
    Fault::NoRestore,
    Fault::AckFirst,
    Fault::AckBlind,
    Fault::SaveUnproved,
    Fault::SaveAtAnyEpoch,
    Fault::NameUnshut,
    Fault::RestoreUnshut,
    Fault::AckUntold,
    Fault::RestoreUntold,
    Fault::RestoreHalfTold,
];

/// Users in the order of their grants; a chain stands for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct History {
    users: [u8; 4],
    len: u8,
}

impl History {
    fn users(&self) -> &[u8] {
        &self.users[..usize::from(self.len)]
    }

    fn with(mut self, user: u8) -> Self {
        self.users[usize::from(self.len)] = user;
        self.len = self.len.saturating_add(1);
        self
    }

    fn prefix(self, len: u8) -> Self {
        let mut prefix = Self::default();
        for user in self.users().iter().take(usize::from(len)) {
            prefix = prefix.with(*user);
        }
        prefix
    }

    fn starts_with(&self, other: &Self) -> bool {
        self.users().starts_with(other.users())
    }

    /// How far two histories go together.
    fn common(&self, other: &Self) -> u8 {
        (0..=self.len.min(other.len)).rev().find(|len| self.prefix(*len) == other.prefix(*len)).unwrap_or(0)
    }

    /// The users as a set.
    fn set(&self) -> u8 {
        self.users().iter().fold(0, |set, user| set | 1 << user)
    }

    /// Reckoned once for each history: there are few, and millions of states.
    fn chain(&self) -> Chain {
        thread_local! {
            static CHAINS: RefCell<HashMap<History, Chain>> = RefCell::new(HashMap::new());
        }
        let reckon = || self.users().iter().fold(Chain::START, |chain, user| chain.next(id(*user), arrival(*user)));
        CHAINS.with_borrow_mut(|chains| *chains.entry(*self).or_insert_with(reckon))
    }

    fn position(&self) -> Position {
        Position { seq: Seq(u64::from(self.len)), chain: self.chain() }
    }
}

fn id(user: u8) -> UserId<'static> {
    match UserId::parse(USERS[usize::from(user)].as_bytes()) {
        Ok(id) => id,
        Err(refusal) => panic!("{refusal}"),
    }
}

fn arrival(user: u8) -> Arrival {
    Arrival(u64::from(user).saturating_add(1))
}

/// The coupon's keys on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Data {
    /// Whether the status hash is there.
    is_there: bool,
    epoch: u8,
    /// The token in the status hash; none from birth until the first RESUME or shut.
    fence: Option<u8>,
    grants: History,
    persisted: u8,
    /// What the stream holds; the hash may be gone, or a new one.
    stream: History,
    /// Users who hear REFUSED.
    refused: u8,
}

impl Data {
    fn granted(self, user: u8) -> Self {
        let grants = self.grants.with(user);
        Self { grants, stream: grants, ..self }
    }

    fn without_hash(self) -> Self {
        Self { is_there: false, stream: self.stream, ..EMPTY }
    }

    fn coupon(&self) -> Coupon {
        Coupon {
            status: if self.grants.users().len() >= QUANTITY { Status::Issued } else { Status::Available },
            definition: Definition {
                quantity: QUANTITY as u64,
                mode: Mode::Instant,
                waitlist: 0,
                opens_at: 0,
                expires_at: 0,
            },
            epoch: Epoch(u64::from(self.epoch)),
            position: self.grants.position(),
            persisted: Seq(u64::from(self.persisted)),
            fence: self.fence.map(|token| Token(u64::from(token))),
            first_at: None,
            granted_to: None,
            persisted_to: None,
            refused: u64::from(self.refused.count_ones()),
            revision: Revision(0),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Node {
    is_primary: bool,
    /// The token in the process.
    token: u8,
    data: Data,
    disk: Data,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Ledger {
    epoch: u8,
    /// Dead letters among them.
    rows: History,
    /// Users whose grants are dead letters, so far.
    dead: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Idle,
    Taken,
    Looked(History),
    /// With these rows, and what was read of a stream without its hash.
    Saving(History, History),
    /// The gate is shut, for these rows to be restored.
    Shut(History),
    /// What Redis holds beyond the common part is named.
    Named(History, u8),
    /// At this position, with what was read from the stream beyond it, if anything was.
    Resumed(u8, Option<History>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Reconciler {
    step: Step,
    node: u8,
    epoch: u8,
}

const IDLE: Reconciler = Reconciler { step: Step::Idle, node: 0, epoch: 0 };

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    nodes: [Node; 2],
    ledger: Ledger,
    reconcilers: [Reconciler; 2],
    crashes: u8,
    promotions: u8,
    deletions: u8,
    /// Users in `coupon_orphan`.
    named: u8,
    /// Users whose grants a restore has dropped without their being named or rows.
    forgotten: u8,
}

const NOBODY: History = History { users: [0; 4], len: 0 };

/// The user whose row PostgreSQL may refuse: one is enough, and as many as could be would hide the rest in their number.
const SHUNNED: u8 = 1;

const EMPTY: Data =
    Data { is_there: true, epoch: 0, fence: None, grants: NOBODY, persisted: 0, stream: NOBODY, refused: 0 };

const START: State = State {
    nodes: [
        Node { is_primary: true, token: 10, data: EMPTY, disk: EMPTY },
        Node { is_primary: false, token: 20, data: EMPTY, disk: EMPTY },
    ],
    ledger: Ledger { epoch: 0, rows: NOBODY, dead: 0 },
    reconcilers: [IDLE; 2],
    crashes: 1,
    promotions: 1,
    deletions: 1,
    named: 0,
    forgotten: 0,
};

/// The product's own rule, but for the faults that break it.
fn is_open(node: &Node, fault: Fault) -> bool {
    match fault {
        Fault::NoFence => true,
        Fault::NoToken => node.data.epoch == 0 || node.data.fence.is_some_and(|token| u64::from(token) != SHUT.0),
        _ => !node.data.coupon().is_fenced(Token(u64::from(node.token))),
    }
}

/// The coupon as the fault lets the command see it, with the token that goes with it.
fn seen(node: &Node, fault: Fault) -> (Coupon, Token) {
    let mut coupon = node.data.coupon();
    let token = Token(u64::from(node.token));
    if is_open(node, fault) {
        coupon.fence = Some(token);
    }
    (coupon, token)
}

fn next_states(state: &State, fault: Fault, mut found: impl FnMut(Arguments<'_>, State)) {
    for index in 0..2 {
        node_steps(state, index, fault, &mut found);
        reconciler_steps(state, index, fault, &mut found);
    }
}

fn with_node(state: &State, index: usize, change: impl FnOnce(&mut Node)) -> State {
    let mut next = *state;
    change(&mut next.nodes[index]);
    next
}

fn with_reconciler(state: &State, index: usize, reconciler: Reconciler) -> State {
    let mut next = *state;
    next.reconcilers[index] = reconciler;
    next
}

/// A user who requests, as the sorted set of a node says.
struct Requester {
    requested: u64,
    is_held: bool,
}

impl Line for Requester {
    fn requested(&self) -> u64 {
        self.requested
    }

    fn newest(&self) -> Option<f64> {
        None
    }

    fn is_held(&self) -> bool {
        self.is_held
    }
}

fn node_steps(state: &State, index: usize, fault: Fault, found: &mut impl FnMut(Arguments<'_>, State)) {
    let node = &state.nodes[index];
    let other = &state.nodes[1_usize.abs_diff(index)];
    if !node.is_primary {
        if other.is_primary && node.data != other.data {
            found(
                format_args!("sync {index}"),
                with_node(state, index, |n| (n.data, n.disk) = (other.data, other.data)),
            );
        }
        if state.promotions > 0 {
            let mut next = with_node(state, index, |n| (n.is_primary, n.token) = (true, n.token.saturating_add(1)));
            next.promotions = next.promotions.saturating_sub(1);
            found(format_args!("promote {index}"), next);
        }
        return;
    }
    if state.deletions > 0 && node.data.is_there {
        let mut next = with_node(state, index, |n| n.data = n.data.without_hash());
        next.deletions = next.deletions.saturating_sub(1);
        found(format_args!("DEL at {index}"), next);
    }
    for user in (0..3).filter(|_| node.data.is_there) {
        let grants = node.data.grants;
        let (coupon, token) = seen(node, fault);
        let moment = Moment { now: Now { us: 1 }, token, unpersisted_max: u64::MAX };
        let line = Requester { requested: u64::from(grants.len), is_held: grants.users().contains(&user) };
        if let Ok(Decision::Grant(_)) = request::decide(&coupon, &line, moment) {
            found(
                format_args!("request {user} at {index}"),
                with_node(state, index, |n| n.data = n.data.granted(user)),
            );
        }
    }
    if node.disk != node.data {
        found(format_args!("fsync {index}"), with_node(state, index, |n| n.disk = n.data));
    }
    if state.crashes > 0 {
        let mut next = with_node(state, index, |n| (n.token, n.data) = (n.token.saturating_add(1), n.disk));
        next.crashes = next.crashes.saturating_sub(1);
        found(format_args!("crash {index}"), next);
    }
    if other.is_primary {
        let demoted = with_node(state, index, |n| (n.is_primary, n.data, n.disk) = (false, other.data, other.data));
        found(format_args!("demote {index}"), demoted);
    }
}

fn reconciler_steps(state: &State, index: usize, fault: Fault, found: &mut impl FnMut(Arguments<'_>, State)) {
    let reconciler = state.reconcilers[index];
    if index == 0 && state.ledger.dead != 0 {
        let mut next = *state;
        next.ledger.dead = 0;
        found(format_args!("retry"), next);
    }
    if reconciler.step == Step::Idle {
        if state.ledger.epoch < EPOCHS {
            for node in 0..2 {
                let epoch = state.ledger.epoch.saturating_add(1);
                let mut next = with_reconciler(state, index, Reconciler { step: Step::Taken, node, epoch });
                next.ledger.epoch = epoch;
                found(format_args!("take {epoch} by {index} for {node}"), next);
            }
        }
        return;
    }
    let gone = with_reconciler(state, index, IDLE);
    found(format_args!("reconciler {index} dies"), gone);
    let at = usize::from(reconciler.node);
    let node = &state.nodes[at];
    if !node.is_primary {
        return;
    }
    let go_on = |state: &State, step| with_reconciler(state, index, Reconciler { step, ..reconciler });
    match reconciler.step {
        Step::Idle => {}
        Step::Taken => {
            if state.ledger.epoch == reconciler.epoch {
                found(format_args!("look {index}"), go_on(state, Step::Looked(state.ledger.rows)));
            }
        }
        Step::Looked(rows) if !node.data.is_there => {
            let stream = node.data.stream;
            let follows = fault == Fault::SaveUnproved || stream.prefix(rows.len).chain() == rows.chain();
            if stream.len > rows.len && follows {
                let read = stream.prefix(rows.len.saturating_add(1));
                found(format_args!("read what is left {index}"), go_on(state, Step::Saving(rows, read)));
            }
            let born = Data { is_there: true, epoch: reconciler.epoch, ..node.data };
            found(format_args!("OPEN {index}"), with_node(state, at, |n| n.data = born));
        }
        Step::Saving(rows, read) => {
            let is_level =
                state.ledger.rows == rows && (state.ledger.epoch == reconciler.epoch || fault == Fault::SaveAtAnyEpoch);
            if is_level {
                let saved = rows.with(read.users()[usize::from(rows.len)]);
                let mut next = go_on(state, Step::Looked(saved));
                next.ledger.rows = saved;
                found(format_args!("save {index}"), next);
            }
        }
        Step::Looked(rows) => match resume(node, reconciler.epoch, &rows, fault) {
            Ok(()) => {
                let opened = with_node(state, at, |n| {
                    (n.data.epoch, n.data.fence) = (reconciler.epoch, Some(n.token));
                });
                found(format_args!("RESUME {index}"), go_on(&opened, Step::Resumed(rows.len, None)));
            }
            Err(Refusal::Behind(_) | Refusal::Diverged(_)) => {
                let shut = match shut(&node.data, reconciler.epoch) {
                    Ok(_) if fault == Fault::NameUnshut => *state,
                    Ok(shut) => with_node(state, at, |n| n.data = shut),
                    Err(refusal) => panic!("RESTORE refused to shut what RESUME found unlevel: {refusal}"),
                };
                found(format_args!("shut {index}"), go_on(&shut, Step::Shut(rows)));
            }
            Err(_) => found(format_args!("refused {index}"), gone),
        },
        Step::Shut(rows) => {
            let mut next = go_on(state, Step::Named(rows, node.data.grants.common(&rows)));
            next.named |= held(&node.data) & !rows.set();
            found(format_args!("name {index}"), next);
        }
        Step::Named(rows, common) => {
            match restore(&node.data, reconciler.epoch, rows, state.ledger.dead, common, fault) {
                Ok(data) => {
                    let mut next = with_node(&go_on(state, Step::Looked(rows)), at, |n| n.data = data);
                    next.forgotten |= held(&node.data) & !held(&data) & !rows.set() & !state.named;
                    found(format_args!("RESTORE {index}"), next);
                }
                // It is not what was shut and named: compared again, under the same epoch, under which nobody was resumed.
                Err(Refusal::TryAgain(_)) => found(format_args!("not shut {index}"), go_on(state, Step::Taken)),
                Err(_) => found(format_args!("refused {index}"), gone),
            }
        }
        Step::Resumed(seq, None) => {
            if seq < node.data.grants.len {
                let read = node.data.grants.prefix(seq.saturating_add(1));
                found(format_args!("read {index}"), go_on(state, Step::Resumed(seq, Some(read))));
            }
            acknowledge(state, index, seq, fault, found);
        }
        Step::Resumed(seq, Some(read)) => {
            let rows = state.ledger.rows;
            let blind = matches!(fault, Fault::NoChain | Fault::NoFollow);
            let follows = blind || read.prefix(seq).chain() == rows.prefix(seq).chain();
            let is_level = state.ledger.epoch == reconciler.epoch && rows.len == seq;
            if follows && (fault == Fault::NoCompareAndSet || is_level) && usize::from(rows.len) < USERS.len() {
                let mut next = go_on(state, Step::Resumed(seq.saturating_add(1), None));
                let user = read.users()[usize::from(seq)];
                next.ledger.rows = rows.with(user);
                found(format_args!("commit {index}"), next);
                if user == SHUNNED {
                    next.ledger.dead = 1 << user;
                    found(format_args!("bury {index}"), next);
                }
            }
            if fault == Fault::AckFirst {
                acknowledge(state, index, seq.saturating_add(1), fault, found);
            }
            acknowledge(state, index, seq, fault, found);
        }
    }
}

fn resume(node: &Node, epoch: u8, rows: &History, fault: Fault) -> Result<(), Refusal> {
    let coupon = node.data.coupon();
    let grants = node.data.grants;
    let mut position = rows.position();
    if fault == Fault::NoRestore && epoch >= node.data.epoch {
        return Ok(());
    }
    if fault == Fault::NoChain {
        position.chain = grants.prefix(rows.len).chain();
    }
    let chain_at = |seq: Seq| u8::try_from(seq.0).ok().map(|len| grants.prefix(len).chain());
    Resume { epoch: Epoch(u64::from(epoch)), position }
        .decide(&coupon, Token(u64::from(node.token)), chain_at)
        .map(|_| ())
}

/// Everybody whom the keys show as granted.
fn held(data: &Data) -> u8 {
    data.grants.set() | data.stream.set()
}

/// The ledger's grants in one batch, after what was common when it was looked at; from the start if that is refused, or if there
/// is a dead letter on either side.
fn restore(data: &Data, epoch: u8, rows: History, dead: u8, common: u8, fault: Fault) -> Result<Data, Refusal> {
    if rows.len == common {
        return Ok(*data);
    }
    let is_half = matches!(fault, Fault::RestoreUntold | Fault::RestoreHalfTold);
    let common = if (dead | data.refused) == 0 || is_half { common } else { 0 };
    let told = if fault == Fault::RestoreUntold { 0 } else { dead };
    let is_late = matches!(fault, Fault::NameUnshut | Fault::RestoreUnshut);
    let data = if is_late { &shut(data, epoch)? } else { data };
    let after = |common: u8| {
        let is_told = |user: &&u8| told & 1 << **user != 0;
        let refused = rows.users().iter().skip(usize::from(common)).find(is_told);
        let refused = refused.map(|user| format!("REFUSED 1 {}", USERS[usize::from(*user)]));
        let refused: Vec<String> = refused.iter().flat_map(|option| option.split(' ')).map(str::to_owned).collect();
        let words = [
            vec!["EPOCH".to_owned(), epoch.to_string()],
            vec!["AFTER".to_owned(), common.to_string()],
            vec!["CHAIN".to_owned(), rows.prefix(common).chain().to_string()],
            refused,
            vec!["GRANTS".to_owned(), rows.len.saturating_sub(common).to_string()],
        ];
        let of = |user: &u8| [USERS[usize::from(*user)].to_owned(), arrival(*user).to_string(), "1".to_owned()];
        let words: Vec<String> =
            words.into_iter().flatten().chain(rows.users().iter().skip(usize::from(common)).flat_map(of)).collect();
        let data = restored(data, &words)?;
        assert_eq!(data.grants, rows, "RESTORE did not bring the ledger's history");
        Ok(data)
    };
    match after(common) {
        Err(Refusal::Behind(_) | Refusal::Diverged(_)) => after(0),
        done => done,
    }
}

/// COUPON.RESTORE without a history.
fn shut(data: &Data, epoch: u8) -> Result<Data, Refusal> {
    restored(data, &["EPOCH".into(), epoch.to_string()])
}

/// COUPON.RESTORE by the product's rules.
fn restored(data: &Data, words: &[String]) -> Result<Data, Refusal> {
    if !data.is_there {
        return Err(Refusal::NoCoupon);
    }
    let grants = data.grants;
    let restore = Restore::parse(words.iter().map(String::as_bytes))?;
    let before = data.coupon();
    let shut = restore.shut(&before)?;
    let written = |coupon: &Coupon, grants: History| Data {
        epoch: u8::try_from(coupon.epoch.0).unwrap_or(u8::MAX),
        fence: coupon.fence.map(|token| u8::try_from(token.0).unwrap_or(u8::MAX)),
        grants,
        persisted: u8::try_from(coupon.persisted.0).unwrap_or(u8::MAX),
        ..*data
    };
    let Some(history) = restore.history else { return Ok(written(&shut, grants)) };
    let mut coupon = history.cut(shut, |seq| {
        let chain = grants.prefix(u8::try_from(seq.0).ok()?).chain();
        Some((chain, coupon_core::coupon::Cursor { arrival: Arrival(0), user: None }))
    })?;
    let mut kept = grants.prefix(u8::try_from(coupon.position.seq.0).unwrap_or(u8::MAX));
    for granted in &history.grants {
        coupon.grant(granted.user, granted.requested_at);
        let user = USERS.iter().position(|user| *user == granted.user.as_str()).unwrap_or(USERS.len());
        kept = kept.with(u8::try_from(user).unwrap_or(u8::MAX));
    }
    let of = |user: &UserId<'_>| USERS.iter().position(|other| *other == user.as_str()).map_or(0, |place| 1 << place);
    let before = if history.is_from_the_start() { 0 } else { data.refused };
    let refused = history.refused.iter().fold(before, |set, user| set | of(user));
    let coupon = finish(coupon, None);
    assert_eq!(coupon.position, kept.position(), "the position is not that of the grants");
    Ok(Data { stream: kept, refused, ..written(&coupon, kept) })
}

fn acknowledge(state: &State, index: usize, seq: u8, fault: Fault, found: &mut impl FnMut(Arguments<'_>, State)) {
    let reconciler = state.reconcilers[index];
    let at = usize::from(reconciler.node);
    let node = &state.nodes[at];
    if !node.data.is_there {
        return;
    }
    let (coupon, token) = seen(node, fault);
    let Ledger { rows, dead, .. } = state.ledger;
    let of = rows.prefix(seq).set();
    let told = if fault == Fault::AckUntold { 0 } else { of };
    let refused = (node.data.refused & !told) | (dead & told);
    let users = |set: u8| (0..3).filter(|user| set & 1 << user != 0).map(id).collect();
    let ack = Ack {
        epoch: Epoch(u64::from(reconciler.epoch)),
        seq: Seq(u64::from(seq)),
        refused: users(refused & !node.data.refused),
        persisted: users(node.data.refused & !refused),
    };
    let taken = match fault {
        Fault::AckBlind => Some(seq > node.data.persisted),
        _ => ack.decide(&coupon, token).ok(),
    };
    if let Some(moves) = taken.filter(|moves| *moves || ack.names_users()) {
        let persisted = if moves { seq } else { node.data.persisted };
        let acknowledged = with_node(state, at, |n| (n.data.persisted, n.data.refused) = (persisted, refused));
        found(format_args!("ACK {seq} by {index}"), acknowledged);
    }
}

fn violation(state: &State, fault: Fault) -> Option<String> {
    let rows = state.ledger.rows;
    if rows.users().len() > QUANTITY {
        return Some("more rows than units".into());
    }
    if (1..rows.users().len()).any(|at| rows.users()[..at].contains(&rows.users()[at])) {
        return Some("a user twice in the rows".into());
    }
    if state.forgotten != 0 {
        return Some("a grant was dropped without being named".into());
    }
    for (index, node) in state.nodes.iter().enumerate().filter(|(_, node)| node.is_primary) {
        let data = node.data;
        if data.persisted > rows.len || data.grants.prefix(data.persisted) != rows.prefix(data.persisted) {
            return Some(format!("PERSISTED without its row at {index}"));
        }
        if state.ledger.dead & rows.prefix(data.persisted).set() & !data.refused != 0 {
            return Some(format!("PERSISTED of a dead letter at {index}"));
        }
        let is_current = data.is_there && data.epoch > 0 && data.epoch == state.ledger.epoch;
        if is_current && is_open(node, fault) && !data.grants.starts_with(&rows) {
            return Some(format!("open but not level with the ledger at {index}"));
        }
    }
    None
}

/// A coupon opened by hand and adopted, whose first grant is a row.
const ADOPTED: &str = "request 1 at 0 > take 1 by 0 for 0 > look 0 > RESUME 0 > read 0 > commit 0";

/// Two primaries that have both granted, and a ledger that holds what one of them did.
const SPLIT: &str = "take 1 by 0 for 0 > look 0 > RESUME 0 > sync 1 > promote 1 > request 0 at 0 > reconciler 0 dies > \
                     take 2 by 1 for 1 > look 1 > RESUME 1 > request 1 at 1 > read 1 > commit 1 > reconciler 1 dies";

/// A dead letter that Redis has not heard of, and a grant beyond it.
const BURIED: &str =
    "take 1 by 0 for 0 > look 0 > RESUME 0 > request 1 at 0 > read 0 > bury 0 > request 0 at 0 > read 0";

/// Where to begin: at the start, and deep in the tree, where most of the rules come in.
fn starts() -> [State; 4] {
    [START, after(ADOPTED), after(SPLIT), after(BURIED)]
}

fn after(way: &str) -> State {
    way.split(" > ").fold(START, |state, wanted| {
        let mut then = None;
        next_states(&state, Fault::None, |step, next| {
            if step.to_string() == wanted {
                then = Some(next);
            }
        });
        then.unwrap_or_else(|| panic!("there is no step \"{wanted}\" any more"))
    })
}

/// Breadth first, up to so many states: how many there were, and the shortest way to a violation.
fn explore(start: State, limit: usize, fault: Fault) -> (usize, Option<String>) {
    let mut origin: HashMap<State, Option<State>> = HashMap::from_iter([(start, None)]);
    let mut queue = VecDeque::from([start]);
    let mut broken = None;
    while let Some(state) = queue.pop_front() {
        if broken.is_some() || origin.len() >= limit {
            break;
        }
        next_states(&state, fault, |_, next| {
            if broken.is_some() {
                return;
            }
            if let Entry::Vacant(place) = origin.entry(next) {
                place.insert(Some(state));
                match violation(&next, fault) {
                    Some(why) => broken = Some((why, next)),
                    None => queue.push_back(next),
                }
            }
        });
    }
    let told = broken.map(|(why, state)| {
        let mut way = vec![state];
        while let Some(Some(before)) = way.last().and_then(|state| origin.get(state)) {
            way.push(*before);
        }
        way.reverse();
        tell(&why, &way, fault)
    });
    (origin.len(), told)
}

/// A violation, and the steps that lead to it. Only here do they get their names: millions of others lead nowhere.
fn tell(why: &str, way: &[State], fault: Fault) -> String {
    let step = |pair: &[State]| {
        let mut name = None;
        next_states(&pair[0], fault, |step, next| {
            if next == pair[1] {
                name.get_or_insert_with(|| step.to_string());
            }
        });
        name.unwrap_or_default()
    };
    let steps: Vec<String> = way.windows(2).map(step).collect();
    format!("{why}: {}", steps.join(" > "))
}

/// Random walks reach deeper than a search of every state can in the same time.
fn walk(start: State, steps: usize, seed: u64, fault: Fault) -> Option<String> {
    const DEPTH: usize = 70;
    let mut random = seed;
    let (mut way, mut choices) = (vec![start], Vec::new());
    for _ in 0..steps {
        choices.clear();
        let state = way.last().unwrap_or(&start);
        next_states(state, fault, |_, next| choices.push(next));
        if choices.is_empty() || way.len() > DEPTH {
            way.truncate(1);
            continue;
        }
        // xorshift64: repeatable, and good enough to choose among a dozen.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let pick = usize::try_from(random >> 33).unwrap_or(0).checked_rem(choices.len()).unwrap_or(0);
        let state = choices.swap_remove(pick);
        way.push(state);
        if let Some(why) = violation(&state, fault) {
            return Some(tell(&why, &way, fault));
        }
    }
    None
}

#[test]
fn no_order_of_events_breaks_a_promise() {
    for start in starts() {
        let (states, broken) = explore(start, 300_000, Fault::None);
        assert_eq!(broken, None);
        assert!(states >= 300_000, "only {states} states: the model lost most of its steps");
        for seed in 1..=4 {
            assert_eq!(walk(start, 150_000, seed, Fault::None), None, "seed {seed}");
        }
    }
}

#[test]
fn every_broken_rule_is_caught() {
    for fault in FAULTS {
        let explored = starts().into_iter().find_map(|start| explore(start, 300_000, fault).1);
        let walks = || (1..=10).flat_map(|seed| starts().map(|start| (seed, start)));
        match explored.or_else(|| walks().find_map(|(seed, start)| walk(start, 300_000, seed, fault))) {
            Some(way) => println!("{fault:?}: {way}"),
            None => panic!("{fault:?} was not caught"),
        }
    }
}
