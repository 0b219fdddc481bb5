//! The ledger protocol as an executable model, explored state by state.
//!
//! Two Redis nodes: 0 starts as primary, 1 as its replica, which lags until `sync`. Both can be primary at once. A crash
//! falls back to the node's disk, so it may lose the newest writes, a RESUME among them. Two reconcilers talk to any
//! node, each arbitrarily stale between two steps.
//!
//! The nodes decide by the product's own rules (`coupon_core`), so a change there is tried against every order of events
//! that these few users, epochs, crashes and promotions allow. The ledger's side is SQL in the product and is modelled
//! here: take an epoch, read rows, insert by compare-and-set. Each [`Fault`] breaks one rule and has to be caught.
#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test may fail by panicking")]

use coupon_core::chain::Chain;
use coupon_core::coupon::{Arrival, Coupon, Definition, Epoch, Moment, Now, Position, Seq, Token};
use coupon_core::ledger::{Ack, Resume};
use coupon_core::refusal::Refusal;
use coupon_core::request::{self, Decision, Line};
use coupon_core::restore::{Restore, SHUT, finish};
use coupon_core::user::UserId;
use coupon_core::words::{Mode, Status};
use std::collections::HashMap;
use std::collections::VecDeque;

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
}

const FAULTS: [Fault; 8] = [
    Fault::NoFence,
    Fault::NoToken,
    Fault::NoCompareAndSet,
    Fault::NoChain,
    Fault::NoFollow,
    Fault::NoRestore,
    Fault::AckFirst,
    Fault::AckBlind,
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

    fn chain(&self) -> Chain {
        self.users().iter().fold(Chain::START, |chain, user| chain.next(id(*user), arrival(*user)))
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Data {
    epoch: u8,
    /// The token in the status hash.
    fence: u8,
    grants: History,
    persisted: u8,
}

impl Data {
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
            fence: Some(Token(u64::from(self.fence))),
            first_at: None,
            granted_to: None,
            persisted_to: None,
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
    rows: History,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Idle,
    Taken,
    Looked(History),
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
}

const EMPTY: Data = Data { epoch: 0, fence: 0, grants: History { users: [0; 4], len: 0 }, persisted: 0 };

const START: State = State {
    nodes: [
        Node { is_primary: true, token: 10, data: EMPTY, disk: EMPTY },
        Node { is_primary: false, token: 20, data: EMPTY, disk: EMPTY },
    ],
    ledger: Ledger { epoch: 0, rows: History { users: [0; 4], len: 0 } },
    reconcilers: [IDLE; 2],
    crashes: 1,
    promotions: 1,
};

/// The product's own rule, but for the faults that break it.
fn is_open(node: &Node, fault: Fault) -> bool {
    match fault {
        Fault::NoFence => true,
        Fault::NoToken => node.data.epoch == 0 || u64::from(node.data.fence) != SHUT.0,
        _ => !node.data.coupon().is_fenced(Token(u64::from(node.token))),
    }
}

/// The coupon as the fault lets the command see it, with the token that goes with it.
fn seen(node: &Node, fault: Fault) -> (Coupon, Token) {
    let coupon = node.data.coupon();
    let token = if is_open(node, fault) { coupon.fence.unwrap_or_default() } else { Token(u64::from(node.token)) };
    (coupon, token)
}

fn next_states(state: &State, fault: Fault, mut found: impl FnMut(String, State)) {
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

fn node_steps(state: &State, index: usize, fault: Fault, found: &mut impl FnMut(String, State)) {
    let node = &state.nodes[index];
    let other = &state.nodes[1_usize.abs_diff(index)];
    if !node.is_primary {
        if other.is_primary && node.data != other.data {
            found(format!("sync {index}"), with_node(state, index, |n| (n.data, n.disk) = (other.data, other.data)));
        }
        if state.promotions > 0 {
            let mut next = with_node(state, index, |n| (n.is_primary, n.token) = (true, n.token.saturating_add(1)));
            next.promotions = next.promotions.saturating_sub(1);
            found(format!("promote {index}"), next);
        }
        return;
    }
    for user in 0..3 {
        let grants = node.data.grants;
        let (coupon, token) = seen(node, fault);
        let moment = Moment { now: Now { us: 1 }, token, unpersisted_max: u64::MAX };
        let line = Line { requested: u64::from(grants.len), newest: None, is_held: grants.users().contains(&user) };
        if let Ok(Decision::Grant(_)) = request::decide(&coupon, line, moment) {
            found(format!("request {user} at {index}"), with_node(state, index, |n| n.data.grants = grants.with(user)));
        }
    }
    if node.disk != node.data {
        found(format!("fsync {index}"), with_node(state, index, |n| n.disk = n.data));
    }
    if state.crashes > 0 {
        let mut next = with_node(state, index, |n| (n.token, n.data) = (n.token.saturating_add(1), n.disk));
        next.crashes = next.crashes.saturating_sub(1);
        found(format!("crash {index}"), next);
    }
    if other.is_primary {
        let demoted = with_node(state, index, |n| (n.is_primary, n.data, n.disk) = (false, other.data, other.data));
        found(format!("demote {index}"), demoted);
    }
}

fn reconciler_steps(state: &State, index: usize, fault: Fault, found: &mut impl FnMut(String, State)) {
    let reconciler = state.reconcilers[index];
    if reconciler.step == Step::Idle {
        if state.ledger.epoch < EPOCHS {
            for node in 0..2 {
                let epoch = state.ledger.epoch.saturating_add(1);
                let mut next = with_reconciler(state, index, Reconciler { step: Step::Taken, node, epoch });
                next.ledger.epoch = epoch;
                found(format!("take {epoch} by {index} for {node}"), next);
            }
        }
        return;
    }
    let gone = with_reconciler(state, index, IDLE);
    found(format!("reconciler {index} dies"), gone);
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
                found(format!("look {index}"), go_on(state, Step::Looked(state.ledger.rows)));
            }
        }
        Step::Looked(rows) => match resume(node, reconciler.epoch, &rows, fault) {
            Ok(()) => {
                let opened = with_node(state, at, |n| {
                    (n.data.epoch, n.data.fence) = (reconciler.epoch, n.token);
                });
                found(format!("RESUME {index}"), go_on(&opened, Step::Resumed(rows.len, None)));
            }
            Err(Refusal::Behind(_) | Refusal::Diverged(_)) => {
                let restored = with_node(state, at, |n| n.data = restore(&n.data, reconciler.epoch, rows));
                found(format!("RESTORE {index}"), restored);
            }
            Err(_) => found(format!("refused {index}"), gone),
        },
        Step::Resumed(seq, None) => {
            if seq < node.data.grants.len {
                let read = node.data.grants.prefix(seq.saturating_add(1));
                found(format!("read {index}"), go_on(state, Step::Resumed(seq, Some(read))));
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
                next.ledger.rows = rows.with(read.users()[usize::from(seq)]);
                found(format!("commit {index}"), next);
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

/// RESTORE as the reconciler calls it, in one batch: after the longest part that both share.
fn restore(data: &Data, epoch: u8, rows: History) -> Data {
    let grants = data.grants;
    let common = (0..=rows.len.min(grants.len)).rev().find(|len| grants.prefix(*len) == rows.prefix(*len)).unwrap_or(0);
    let mut words = vec![
        "EPOCH".to_owned(),
        epoch.to_string(),
        "AFTER".to_owned(),
        common.to_string(),
        "CHAIN".to_owned(),
        rows.prefix(common).chain().to_string(),
        "GRANTS".to_owned(),
        rows.len.saturating_sub(common).to_string(),
    ];
    for user in rows.users().iter().skip(usize::from(common)) {
        words.extend([USERS[usize::from(*user)].to_owned(), arrival(*user).to_string(), "1".to_owned()]);
    }
    let cut = Restore::parse(words.iter().map(String::as_bytes)).and_then(|restore| {
        let shut = restore.shut(&data.coupon())?;
        let Some(history) = restore.history else { return Ok(shut) };
        let mut coupon = history.cut(shut, |seq| {
            let chain = grants.prefix(u8::try_from(seq.0).ok()?).chain();
            Some((chain, coupon_core::coupon::Cursor { arrival: Arrival(0), user: None }))
        })?;
        for granted in &history.grants {
            coupon.grant(granted.user, granted.requested_at);
        }
        Ok(finish(coupon, None))
    });
    match cut {
        Ok(coupon) => {
            assert_eq!(coupon.position, rows.position(), "RESTORE did not bring the ledger's history");
            Data {
                epoch: u8::try_from(coupon.epoch.0).unwrap_or(u8::MAX),
                fence: u8::try_from(coupon.fence.unwrap_or_default().0).unwrap_or(u8::MAX),
                grants: rows,
                persisted: u8::try_from(coupon.persisted.0).unwrap_or(u8::MAX),
            }
        }
        Err(refusal) => panic!("RESTORE refused: {refusal}"),
    }
}

fn acknowledge(state: &State, index: usize, seq: u8, fault: Fault, found: &mut impl FnMut(String, State)) {
    let reconciler = state.reconcilers[index];
    let at = usize::from(reconciler.node);
    let node = &state.nodes[at];
    let (coupon, token) = seen(node, fault);
    let ack = Ack { epoch: Epoch(u64::from(reconciler.epoch)), seq: Seq(u64::from(seq)) };
    let moves = match fault {
        Fault::AckBlind => seq > node.data.persisted,
        _ => ack.decide(&coupon, token).unwrap_or(false),
    };
    if moves {
        found(format!("ACK {seq} by {index}"), with_node(state, at, |n| n.data.persisted = seq));
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
    for (index, node) in state.nodes.iter().enumerate().filter(|(_, node)| node.is_primary) {
        let data = node.data;
        if data.persisted > rows.len || data.grants.prefix(data.persisted) != rows.prefix(data.persisted) {
            return Some(format!("PERSISTED without its row at {index}"));
        }
        let is_current = data.epoch > 0 && data.epoch == state.ledger.epoch;
        if is_current && is_open(node, fault) && !data.grants.starts_with(&rows) {
            return Some(format!("open but not level with the ledger at {index}"));
        }
    }
    None
}

/// Breadth first, up to so many states: how many there were, and the shortest way to a violation.
fn explore(limit: usize, fault: Fault) -> (usize, Option<String>) {
    let mut origin: HashMap<State, Option<(State, String)>> = HashMap::from([(START, None)]);
    let mut queue = VecDeque::from([START]);
    let mut broken = None;
    while let Some(state) = queue.pop_front() {
        if broken.is_some() || origin.len() >= limit {
            break;
        }
        next_states(&state, fault, |step, next| {
            if broken.is_some() || origin.contains_key(&next) {
                return;
            }
            origin.insert(next, Some((state, step)));
            match violation(&next, fault) {
                Some(why) => broken = Some((why, next)),
                None => queue.push_back(next),
            }
        });
    }
    let told = broken.map(|(why, state)| {
        let (mut way, mut at) = (Vec::new(), state);
        while let Some(Some((before, step))) = origin.get(&at) {
            way.push(step.clone());
            at = *before;
        }
        way.reverse();
        format!("{why}: {}", way.join(" > "))
    });
    (origin.len(), told)
}

/// Random walks reach deeper than a search of every state can in the same time.
fn walk(steps: usize, seed: u64, fault: Fault) -> Option<String> {
    const DEPTH: usize = 70;
    let mut random = seed;
    let (mut state, mut way) = (START, Vec::new());
    for _ in 0..steps {
        let mut choices = Vec::new();
        next_states(&state, fault, |step, next| choices.push((step, next)));
        if choices.is_empty() || way.len() >= DEPTH {
            (state, way) = (START, Vec::new());
            continue;
        }
        // xorshift64: repeatable, and good enough to choose among a dozen.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let pick = usize::try_from(random >> 33).unwrap_or(0).checked_rem(choices.len()).unwrap_or(0);
        let (step, next) = choices.swap_remove(pick);
        way.push(step);
        state = next;
        if let Some(why) = violation(&state, fault) {
            return Some(format!("{why}: {}", way.join(" > ")));
        }
    }
    None
}

#[test]
fn no_order_of_events_breaks_a_promise() {
    let (states, broken) = explore(300_000, Fault::None);
    assert_eq!(broken, None);
    assert!(states >= 300_000, "only {states} states: the model lost most of its steps");
    for seed in 1..=4 {
        assert_eq!(walk(150_000, seed, Fault::None), None, "seed {seed}");
    }
}

#[test]
fn every_broken_rule_is_caught() {
    for fault in FAULTS {
        let found = explore(300_000, fault).1.or_else(|| (1..=20).find_map(|seed| walk(300_000, seed, fault)));
        match found {
            Some(way) => println!("{fault:?}: {way}"),
            None => panic!("{fault:?} was not caught"),
        }
    }
}
