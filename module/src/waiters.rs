//! Clients blocked in COUPON.WAIT, by coupon and by place in line.
//!
//! They stand in the order of the sorted set, so that whoever an ACK persists is a prefix, and nobody else is looked at:
//! ten thousand waiters cost an ACK nothing but those it answers.
//!
//! There is one way out. Whoever is to be answered is woken: out of the line, and in the next round handed back to the
//! server, which then asks for the answer. A round is a timer that runs out behind the commands of one turn of the event
//! loop, so that no command comes between the two. Clients that the server itself lets go (CLIENT UNBLOCK, CLIENT KILL, a
//! closed connection, a change of the role) are taken out wherever they are.

use crate::redis::{Blocked, Server, Timer};
use coupon_core::coupon::{Coupon, Cursor};
use coupon_core::standing::is_over;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A coupon: its database and key.
pub type Coordinates = (i32, Box<[u8]>);

/// A place in line: the score's bits, which order as the scores do since no arrival is negative, and the user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    score: u64,
    /// The user.
    pub user: Box<[u8]>,
}

impl Place {
    /// That of this user.
    pub fn new(score: f64, user: &[u8]) -> Self {
        Self { score: score.to_bits(), user: user.into() }
    }

    fn is_covered(&self, cursor: Option<&Cursor>) -> bool {
        cursor.is_some_and(|cursor| cursor.covers(f64::from_bits(self.score), &self.user))
    }
}

/// Where a client is on its way.
enum Client {
    /// In line, until a limit if there is one.
    Waiting(Coordinates, Place, Option<Limit>),
    /// To be handed back in the next round; with the error that sends it elsewhere, if it has to go there.
    Woken(Option<Arc<str>>),
    /// Handed back: the server comes to it next.
    HandedBack(Option<Arc<str>>),
}

/// When something is due. The server's timers go by the clock of the day, which may step back and leave them standing; so
/// it is the machine's own time that counts.
struct Limit {
    timer: Timer,
    at: Instant,
}

impl Limit {
    /// Starts the timer for what is left.
    fn start(server: &Server, number: usize, at: Instant) -> Self {
        // Rounded up, so that it is over then.
        let left_ms = at.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
        Self { timer: server.start_timer(u64::try_from(left_ms).unwrap_or(u64::MAX), number), at }
    }
}

#[derive(Default)]
struct Waiters {
    clients: HashMap<Blocked, Client>,
    lines: HashMap<Coordinates, BTreeMap<Place, Vec<Blocked>>>,
    woken: Vec<Blocked>,
    /// Coupons of which nobody knows what has become.
    doubtful: BTreeSet<Coordinates>,
    /// The next round, if it has been called for.
    round: Option<Timer>,
    /// In a cluster, where the server tells of no slot that is lost: looks after all of them.
    watch: Option<Limit>,
    /// When each wait with a limit ends.
    limits: BTreeSet<(Instant, Blocked)>,
}

/// The number of the timer of a round; that of a client's limit is the client's own.
const ROUND: usize = 0;
/// The number of the timer of the watch.
const WATCH: usize = 1;
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How many are blocked: all that a writing command looks at while nobody is.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Only the server's one thread comes here. Nothing below panics while it holds the lock, and no call of the server's
/// under it comes back here.
fn waiters() -> MutexGuard<'static, Waiters> {
    static WAITERS: LazyLock<Mutex<Waiters>> = LazyLock::new(Mutex::default);
    WAITERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many clients are blocked.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed) as u64
}

impl Waiters {
    fn call_round(&mut self, server: &Server) {
        self.round.get_or_insert_with(|| server.start_timer(0, ROUND));
    }

    /// Begins the next turn of the watch.
    fn watch(&mut self, server: &Server) -> Due {
        self.watch = Some(Limit::start(server, WATCH, Instant::now() + WATCH_INTERVAL));
        Due::Watch(self.lines.keys().cloned().collect())
    }

    /// Takes a client out of its line.
    fn leave(
        &mut self,
        server: &Server,
        client: Blocked,
        coordinates: &Coordinates,
        place: &Place,
        limit: Option<&Limit>,
    ) {
        if let Some(limit) = limit {
            server.stop_timer(&limit.timer);
            self.limits.remove(&(limit.at, client));
        }
        let Some(line) = self.lines.get_mut(coordinates) else { return };
        if let Some(clients) = line.get_mut(place) {
            clients.retain(|other| *other != client);
            if clients.is_empty() {
                line.remove(place);
            }
        }
        if line.is_empty() {
            self.lines.remove(coordinates);
        }
    }

    /// Forgets a client, wherever it is; what it was.
    fn remove(&mut self, server: &Server, client: Blocked) -> Option<Client> {
        let was = self.clients.remove(&client)?;
        match &was {
            Client::Waiting(coordinates, place, limit) => {
                self.leave(server, client, coordinates, place, limit.as_ref())
            }
            Client::Woken(_) => self.woken.retain(|other| *other != client),
            Client::HandedBack(_) => {}
        }
        COUNT.store(self.clients.len(), Ordering::Relaxed);
        if self.clients.is_empty() {
            // The memory of the crowd goes with its last, and no timer holds up an UNLOAD.
            if let Some(round) = &self.round {
                server.stop_timer(round);
            }
            if let Some(watch) = &self.watch {
                server.stop_timer(&watch.timer);
            }
            *self = Self::default();
        }
        Some(was)
    }

    fn wake(&mut self, server: &Server, client: Blocked, elsewhere: Option<&Arc<str>>) {
        let Some(state) = self.clients.get_mut(&client) else { return };
        // Whoever is on the way out already goes on.
        if !matches!(state, Client::Waiting(..)) {
            return;
        }
        if let Client::Waiting(coordinates, place, limit) = mem::replace(state, Client::Woken(elsewhere.cloned())) {
            self.leave(server, client, &coordinates, &place, limit.as_ref());
            self.woken.push(client);
            self.call_round(server);
        }
    }
}

/// Puts a client into its coupon's line. Where `is_watched`, its coupon is looked after from time to time.
pub fn add(server: &Server, coordinates: Coordinates, place: Place, client: Blocked, limit_ms: u64, is_watched: bool) {
    let mut waiters = waiters();
    waiters.lines.entry(coordinates.clone()).or_default().entry(place.clone()).or_default().push(client);
    let limit =
        (limit_ms > 0).then(|| Limit::start(server, client.number(), Instant::now() + Duration::from_millis(limit_ms)));
    waiters.limits.extend(limit.as_ref().map(|limit| (limit.at, client)));
    waiters.clients.insert(client, Client::Waiting(coordinates, place, limit));
    COUNT.store(waiters.clients.len(), Ordering::Relaxed);
    if is_watched && waiters.watch.is_none() {
        waiters.watch(server);
    }
}

/// Forgets a client that is being answered; the error that sends it elsewhere, if it has to go there.
pub fn answered(server: &Server, client: Blocked) -> Option<Arc<str>> {
    match waiters().remove(server, client) {
        Some(Client::HandedBack(elsewhere)) => elsewhere,
        _ => None,
    }
}

/// A client is let go by the server, which answers it or closes its connection.
pub fn let_go(server: &Server, client: Blocked) {
    match waiters().remove(server, client) {
        Some(Client::Waiting(..) | Client::Woken(_)) => server.hand_back(client),
        // Between handing back and the answer: nobody can tell any more whether the client has had its answer, and one too
        // many or too few would shift all that follow on its connection.
        Some(Client::HandedBack(_)) => server.close_connection(),
        None => {}
    }
}

/// Wakes all whose outcome is final, now that the coupon has become this.
pub fn wake_final(server: &Server, coordinates: impl FnOnce() -> Coordinates, coupon: &Coupon) {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return;
    }
    let mut waiters = waiters();
    let Some(line) = waiters.lines.get(&coordinates()) else { return };
    let persisted = line.iter().take_while(|(place, _)| place.is_covered(coupon.persisted_to.as_ref()));
    // From the end, those who still wait.
    let waiting = line.iter().rev().take_while(|(place, _)| !place.is_covered(coupon.granted_to.as_ref()));
    let waiting = is_over(coupon).then_some(waiting).into_iter().flatten();
    let taken: Vec<Blocked> = persisted.chain(waiting).flat_map(|(_, clients)| clients).copied().collect();
    for client in taken {
        waiters.wake(server, client, None);
    }
}

/// Wakes who waits for a user that has left this place.
pub fn leave(server: &Server, coordinates: impl FnOnce() -> Coordinates, user: &[u8], score: f64) {
    if COUNT.load(Ordering::Relaxed) > 0 {
        move_to(server, &coordinates(), &Place::new(score, user), None);
    }
}

/// Something has happened to a coupon that only a look at its keys can tell the outcome of: in the next round.
pub fn look_again(server: &Server, database: i32, key: &[u8]) {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return;
    }
    let coordinates: Coordinates = (database, key.into());
    let mut waiters = waiters();
    if waiters.lines.contains_key(&coordinates) && waiters.doubtful.insert(coordinates) {
        waiters.call_round(server);
    }
}

/// As [`look_again`], of all coupons.
pub fn look_again_at_all(server: &Server) {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return;
    }
    let mut waiters = waiters();
    let Waiters { lines, doubtful, .. } = &mut *waiters;
    doubtful.extend(lines.keys().cloned());
    waiters.call_round(server);
}

/// What a timer has run out for.
pub enum Due {
    /// A round: these coupons are to be looked at, then [`end_round`].
    Round(BTreeSet<Coordinates>),
    /// The watch: these are all coupons with waiters, of which the slots may be lost.
    Watch(Vec<Coordinates>),
    /// A client's time is over: it is to be handed back.
    Limit(Blocked),
    /// Nothing any more.
    Nothing,
}

/// What is due by this timer.
pub fn due(server: &Server, number: usize) -> Due {
    let mut waiters = waiters();
    match number {
        ROUND => {
            waiters.round = None;
            Due::Round(mem::take(&mut waiters.doubtful))
        }
        WATCH => waiters.watch(server),
        number => {
            let client = Blocked::of_number(number);
            match waiters.clients.get_mut(&client) {
                Some(Client::Waiting(_, _, Some(limit))) if limit.at > Instant::now() => {
                    // The clock has gone ahead.
                    *limit = Limit::start(server, number, limit.at);
                    Due::Nothing
                }
                Some(Client::Waiting(..)) => Due::Limit(client),
                Some(Client::Woken(_) | Client::HandedBack(_)) | None => Due::Nothing,
            }
        }
    }
}

/// What should have been due by now, had the server's timers not been left standing by a clock that stepped back.
pub fn overdue(server: &Server) -> Vec<Due> {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return Vec::new();
    }
    let mut waiters = waiters();
    let now = Instant::now();
    let mut overdue: Vec<Due> =
        waiters.limits.iter().take_while(|(at, _)| *at <= now).map(|(_, client)| Due::Limit(*client)).collect();
    if let Some(timer) = waiters.round.take() {
        server.stop_timer(&timer);
        overdue.push(Due::Round(mem::take(&mut waiters.doubtful)));
    }
    if let Some(watch) = waiters.watch.take_if(|watch| watch.at <= now) {
        server.stop_timer(&watch.timer);
        overdue.push(waiters.watch(server));
    }
    overdue
}

/// The places of a coupon's line.
pub fn places(coordinates: &Coordinates) -> Vec<Place> {
    waiters().lines.get(coordinates).map(|line| line.keys().cloned().collect()).unwrap_or_default()
}

/// Wakes all who wait for a coupon; with the error that sends them elsewhere, if they have to go there.
pub fn wake_all(server: &Server, coordinates: &Coordinates, elsewhere: Option<&Arc<str>>) {
    let mut waiters = waiters();
    let Some(line) = waiters.lines.get(coordinates) else { return };
    let clients: Vec<Blocked> = line.values().flatten().copied().collect();
    for client in clients {
        waiters.wake(server, client, elsewhere);
    }
}

/// Whoever waits at this place waits at another one; or for nothing any more, and is woken.
pub fn move_to(server: &Server, coordinates: &Coordinates, place: &Place, score: Option<f64>) {
    let mut waiters = waiters();
    let Some(line) = waiters.lines.get_mut(coordinates) else { return };
    let Some(score) = score else {
        for client in line.get(place).cloned().unwrap_or_default() {
            waiters.wake(server, client, None);
        }
        return;
    };
    let new = Place::new(score, &place.user);
    if new == *place {
        return;
    }
    let Some(moved) = line.remove(place) else { return };
    for client in &moved {
        if let Some(Client::Waiting(_, place, _)) = waiters.clients.get_mut(client) {
            place.clone_from(&new);
        }
    }
    if let Some(line) = waiters.lines.get_mut(coordinates) {
        line.entry(new).or_default().extend(moved);
    }
}

/// Hands back whoever is woken.
pub fn end_round(server: &Server) {
    let mut waiters = waiters();
    for client in mem::take(&mut waiters.woken) {
        if let Some(Client::Woken(elsewhere)) = waiters.clients.remove(&client) {
            waiters.clients.insert(client, Client::HandedBack(elsewhere));
            server.hand_back(client);
        }
    }
}

/// Hands a client back whose time is over.
pub fn end_wait(server: &Server, client: Blocked) {
    waiters().wake(server, client, None);
    end_round(server);
}
