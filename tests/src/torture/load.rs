//! Load on one coupon, and what its clients were told.

use crate::coupon::Stored;
use crate::redis_server::Redis;
use crate::resp::{Client, Value};
use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The coupon.
pub const KEY: &str = "coupon:{torture}";

/// What a fenced or broken coupon answers.
pub const FENCED: &[&str] = &["TRYAGAIN "];

/// Requests that a client has under way at once.
const PIPELINE: usize = 8;

/// What clients have heard from the server; nothing of it may ever become untrue.
#[derive(Debug, Default)]
pub struct Told {
    /// Each user's outcome of REQUEST.
    pub outcomes: HashMap<String, String>,
    /// Users who were refused, each of whom asked once, and with what: of none of them may anything be kept.
    pub refused: HashMap<String, String>,
    /// Grants that ISSUE calls have named, together.
    pub issued: i64,
}

impl Told {
    /// Notes a reply to REQUEST. A refusal, which begins with one of these codes, tells that nothing was done.
    ///
    /// # Panics
    /// If the reply is none that can be, or a user is let in twice.
    pub fn hear(&mut self, user: &str, reply: &Value, refusals: &[&str]) {
        match reply {
            Value::Bulk(word) => {
                let word = String::from_utf8_lossy(word).into_owned();
                let before = self.outcomes.insert(user.to_owned(), word.clone());
                assert!(before.is_none(), "user {user} was told {before:?} and then {word}");
            }
            Value::Error(error) => {
                assert!(refusals.iter().any(|code| error.starts_with(code)), "REQUEST answered {error}");
                self.refused.insert(user.to_owned(), error.clone());
            }
            other => panic!("REQUEST answered {other}"),
        }
    }

    /// Checks the server's data against what was told, and the promises.
    ///
    /// # Panics
    /// If an acknowledged outcome is lost, or a promise is broken.
    pub fn check(&self, client: &mut Client) {
        let stored = Stored::read(client, KEY);
        stored.assert_promises();
        let place: HashMap<&str, usize> =
            stored.issued.iter().enumerate().map(|(place, (user, _))| (user.as_str(), place)).collect();
        let seq = usize::try_from(stored.number("seq")).expect("seq is not negative");
        for (user, outcome) in &self.outcomes {
            let place = place.get(user.as_str());
            let is_kept = match outcome.as_str() {
                "GRANTED" => place.is_some_and(|place| *place < seq),
                "QUEUED" => place.is_some(),
                "SOLDOUT" => place.is_none(),
                other => panic!("user {user} was told {other}"),
            };
            assert!(
                is_kept,
                "an acknowledged outcome is lost: {user} was told {outcome}, and stands at {place:?} of {seq}"
            );
        }
        let kept = self.refused.keys().find(|user| place.contains_key(user.as_str()));
        assert_eq!(kept, None, "a user was refused and let in all the same");
        assert!(
            stored.number("seq") >= self.issued,
            "acknowledged grants are lost: ISSUE named {}, seq is {seq}",
            self.issued
        );
    }
}

/// Sends requests over several connections until the server is gone, and notes what is told. `acknowledged` counts replies.
pub fn request_until_gone(redis_port: u16, clients: usize, prefix: &str, told: &Mutex<Told>, acknowledged: &AtomicU64) {
    std::thread::scope(|scope| {
        for number in 0..clients {
            scope.spawn(move || {
                let Ok(mut client) = Client::connect(redis_port) else { return };
                // The end of the server is what this waits for.
                let _ = request_forever(&mut client, &format!("{prefix}-{number}"), told, acknowledged);
            });
        }
        scope.spawn(move || {
            let Ok(mut client) = Client::connect(redis_port) else { return };
            while let Ok(reply) = client.try_call(&["COUPON.ISSUE", KEY, "COUNT", "7"]) {
                if let Value::Int(granted) = reply {
                    told.lock().expect("not poisoned").issued += granted;
                }
            }
        });
    });
}

fn request_forever(client: &mut Client, prefix: &str, told: &Mutex<Told>, acknowledged: &AtomicU64) -> io::Result<()> {
    for batch in 0.. {
        let users: Vec<String> = (0..PIPELINE).map(|number| format!("{prefix}-{batch}-{number}")).collect();
        for user in &users {
            client.queue(&["COUPON.REQUEST", KEY, user]);
        }
        client.flush()?;
        for user in &users {
            let reply = client.read()?;
            told.lock().expect("not poisoned").hear(user, &reply, FENCED);
            acknowledged.fetch_add(1, Ordering::Release);
        }
    }
    Ok(())
}

/// Opens the coupon as a random one of the kinds there are.
///
/// # Panics
/// If it cannot be opened.
pub fn open(redis: &Redis, random: &mut fastrand::Rng) -> Kind {
    let kind = Kind { is_instant: random.bool(), epoch: u64::from(random.bool()), quantity: random.u32(20..3000) };
    let mut client = redis.client();
    let mode = if kind.is_instant { "INSTANT" } else { "QUEUE" };
    let waitlist = random.u32(0..500);
    let epoch = if kind.epoch > 0 { " EPOCH 1" } else { "" };
    let line = format!("COUPON.OPEN {KEY} QUANTITY {} MODE {mode} WAITLIST {waitlist}{epoch}", kind.quantity);
    assert_eq!(client.run(&line).to_string(), "+OK", "{line}");
    kind.resume(&mut client, 1);
    kind
}

/// What coupon it is.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Whether requests are granted at once.
    pub is_instant: bool,
    /// Whether the ledger knows it, so that it is fenced after each restart.
    pub epoch: u64,
    /// Units.
    pub quantity: u32,
}

impl Kind {
    /// What the reconciler does after a restart, for a ledger that holds nothing yet: the gate has to be shut before.
    ///
    /// # Panics
    /// If the gate was open, or does not open.
    pub fn resume(&self, client: &mut Client, epoch: u64) {
        if self.epoch == 0 {
            return;
        }
        let reply = client.run(&format!("COUPON.REQUEST {KEY} too-early"));
        assert!(reply.to_string().starts_with("-TRYAGAIN"), "the fence is open after a restart: {reply}");
        let reply = client.run(&format!("COUPON.RESUME {KEY} EPOCH {epoch} SEQ 0 CHAIN 0"));
        assert_eq!(reply.to_string(), "+OK");
    }
}
