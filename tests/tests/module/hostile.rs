//! A million calls of any kind: the server lives, and what is refused changes nothing.

use coupon_tests::coupon::Stored;
use coupon_tests::deadline::{DEADLINE, eventually_true, within};
use coupon_tests::info::{number, replication_offset, used_memory};
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::replication::ReplicationStream;
use coupon_tests::resp::{Client, Value, show};
use fastrand::Rng;
use std::thread;

const CALLS: usize = 1_000_000;
const CONNECTIONS: usize = 4;
const BATCH: usize = 100;

/// Batches after which coupons are opened anew.
const BATCHES_OF_A_SALE: usize = 10;

/// Calls before the memory is measured, so that what Redis makes once and keeps is there: its table of errors, for one.
const WARM_UP_CALLS: usize = 20_000;

/// What a million calls may leave in a server whose keys are deleted again: buffers and tables that do not shrink at once. A
/// fifth of a byte a call, so that a call that forgets to free anything at all is seen.
const LEFT_BYTES: i64 = CALLS as i64 / 5;

/// Calls of the one connection whose refusals are held against the replication stream.
const WATCHED_CALLS: usize = 100_000;

const COMMANDS: [&str; 12] =
    ["OPEN", "REQUEST", "MREQUEST", "ISSUE", "STATUS", "WAIT", "INFO", "LEAVE", "CLOSE", "ACK", "RESUME", "RESTORE"];

/// Longest time that a call waits, in milliseconds: the connection's other calls wait as long.
const WAIT_MS_MAX: u64 = 3;

/// Words that a parser may stumble over.
const WORDS: [&[u8]; 51] = [
    b"",
    b"\0",
    b"a\0b",
    b"\xff\xfe",
    b"%n%n%n%s",
    b"%x%p",
    b"\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b" ",
    b"0",
    b"-0",
    b"-1",
    b"1",
    b"2",
    b"3",
    b"7",
    b"+1",
    b"1.5",
    b"1e9",
    b"nan",
    b"inf",
    b"-inf",
    b"0x7f",
    b"1000000000",
    b"1000000001",
    b"4294967296",
    b"9007199254740993",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"340282366920938463463374607431768211456",
    b"631151999999",
    b"631152000000",
    b"253402300799999",
    b"253402300800000",
    b"QUANTITY",
    b"MODE",
    b"INSTANT",
    b"QUEUE",
    b"WAITLIST",
    b"OPENS",
    b"EXPIRES",
    b"EPOCH",
    b"REVISION",
    b"SEQ",
    b"CHAIN",
    b"COUNT",
    b"WITHRANK",
    b"GRANTS",
];

/// One connection's own coupons, so that it alone can change them.
struct Attack {
    client: Client,
    /// Its connection's number.
    id: i64,
    /// The connection from which that one is told to stop waiting.
    elsewhere: Client,
    random: Rng,
    keys: [String; 5],
    /// How often it was waiting when it was told so.
    unblocked: usize,
}

impl Attack {
    fn new(redis: &Redis, connection: usize, seed: u64) -> Self {
        let mut client = redis.client();
        let keys = ["plain", "ledger", "wrong", "hand", "missing"].map(|name| format!("{name}{connection}"));
        let id = client.run("CLIENT ID").int();
        let random = Rng::with_seed(seed + connection as u64);
        let mut attack = Self { client, id, elsewhere: redis.client(), random, keys, unblocked: 0 };
        attack.open_anew();
        attack
    }

    /// Opens coupons in the place of those before: after some batches all are sold out and nothing happens any more.
    fn open_anew(&mut self) {
        let [plain, ledger, wrong, hand, missing] = &self.keys;
        let all = [plain, ledger, wrong, hand, missing].map(|key| format!("{key} {key}:issued {key}:grants"));
        for call in [
            format!("UNLINK {}", all.join(" ")),
            format!("COUPON.OPEN {plain} QUANTITY 5 WAITLIST 3"),
            format!("COUPON.OPEN {ledger} QUANTITY 5 MODE INSTANT EPOCH 2"),
            format!("SET {wrong} x"),
            format!("HSET {hand} status AVAILABLE quantity 3"),
        ] {
            let reply = self.client.run(&call);
            assert!(!reply.is_error(), "{call}: {reply}");
        }
    }

    fn word(&mut self) -> Vec<u8> {
        match self.random.u8(0..40) {
            0 => vec![b'x'; self.random.usize(120..140)],
            1 => vec![b'\xe4'; self.random.usize(0..3000)],
            2 => (0..self.random.usize(0..40)).map(|_| self.random.u8(..)).collect(),
            3..10 => format!("user{}", self.random.u8(0..20)).into_bytes(),
            _ => WORDS[self.random.usize(0..WORDS.len())].to_owned(),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        self.keys[self.random.usize(0..self.keys.len())].clone().into_bytes()
    }

    /// A call that makes sense, more or less.
    fn sensible(&mut self) -> Vec<Vec<u8>> {
        let key = String::from_utf8(self.key()).expect("a key");
        let (small, user) = (self.random.u8(0..8), self.random.u8(0..20));
        let line = match self.random.u8(0..16) {
            0 => format!(
                "COUPON.OPEN {key} QUANTITY {small} WAITLIST {small} MODE {} STATUS {}",
                ["QUEUE", "INSTANT"][usize::from(user % 2)],
                ["STANDARD", "AVAILABLE", "AVAILABLE"][usize::from(user % 3)]
            ),
            1 if small < 4 => format!("COUPON.CLOSE {key}"),
            1 => format!("COUPON.CLOSE {key} EPOCH {small} REVISION {user}"),
            2 => format!("COUPON.ISSUE {key} COUNT {small}"),
            3 => format!("COUPON.RESUME {key} EPOCH {small} SEQ 0 CHAIN 0"),
            4 => format!("COUPON.ACK {key} EPOCH {small} SEQ {small}"),
            5 => format!("COUPON.INFO {key}"),
            6 => format!("COUPON.STATUS {key} user{user} WITHRANK"),
            7 => {
                // Of a time in the wrong unit, of one long over, and of one that never comes.
                let expires = [u64::from(small), 631_152_000_000 + u64::from(small), 253_402_300_799_999];
                let expires = expires[self.random.usize(0..expires.len())];
                format!("COUPON.OPEN {key} QUANTITY {small} EPOCH {small} REVISION {user} EXPIRES {expires}")
            }
            8 | 9 => format!("COUPON.WAIT {key} user{user} {}", self.random.u64(1..=WAIT_MS_MAX)),
            10 => {
                let users: Vec<String> = (0..=small).map(|next| format!("user{}", (user + next) % 20)).collect();
                format!("COUPON.MREQUEST {key} {}", users.join(" "))
            }
            11 => format!("COUPON.LEAVE {key} user{user}"),
            _ => format!("COUPON.REQUEST {key} user{user} WITHRANK"),
        };
        coupon_tests::call::words(&line)
    }

    /// A call of random words.
    fn nonsense(&mut self) -> Vec<Vec<u8>> {
        let command = COMMANDS[self.random.usize(0..COMMANDS.len())];
        let mut call = vec![format!("COUPON.{command}").into_bytes()];
        if self.random.u8(0..20) > 0 {
            call.push(self.key());
        }
        for _ in 0..self.random.usize(1..10) {
            call.push(self.word());
        }
        if command == "WAIT" && call.len() == 4 {
            // Some wait in earnest; none so long that nobody would live to see the answer.
            let waits = self.random.u8(0..4) == 0;
            let number = str::from_utf8(&call[3]).ok().and_then(|word| word.parse::<u64>().ok());
            if waits || number.is_some_and(|ms| ms == 0 || (WAIT_MS_MAX..=86_400_000).contains(&ms)) {
                call[2] = format!("user{}", self.random.u8(0..20)).into_bytes();
                call[3] = self.random.u64(1..=WAIT_MS_MAX).to_string().into_bytes();
            }
        }
        call
    }

    /// The digest of all keys of all coupons of this connection.
    fn digest(&mut self) -> Value {
        let mut call = vec!["DEBUG".to_owned(), "DIGEST-VALUE".to_owned()];
        for key in &self.keys {
            call.extend(["", ":issued", ":grants"].map(|suffix| format!("{key}{suffix}")));
        }
        self.client.call(&call)
    }

    /// Ends a wait of the batch that was just sent, if there is one at this moment.
    fn unblock(&mut self) {
        let how = ["", "TIMEOUT", "ERROR"][self.random.usize(0..3)];
        let reply = self.elsewhere.run(&format!("CLIENT UNBLOCK {} {how}", self.id));
        self.unblocked += usize::try_from(reply.int()).expect("0 or 1");
    }

    /// Sends one batch, and sees to it that a batch of refusals leaves everything as it was. How many were accepted.
    fn batch(&mut self, is_nonsense: bool) -> usize {
        let before = self.digest();
        let calls: Vec<_> = (0..BATCH).map(|_| if is_nonsense { self.nonsense() } else { self.sensible() }).collect();
        for call in &calls {
            self.client.queue(call);
        }
        self.client.queue(&["ECHO", "the end"]);
        self.client.flush().expect("the server takes calls");
        self.unblock();
        let mut replies = self.client.replies(BATCH + 1).expect("the server lives and answers every call");
        let end = replies.pop();
        assert_eq!(end, Some(Value::Bulk(b"the end".into())), "not one reply each: {}", shown(&calls, &replies));
        if let Some(place) = (0..BATCH).find(|place| !fits(&calls[*place], &replies[*place])) {
            panic!("no reply to such a call: {}", shown(&calls[place..=place], &replies[place..=place]));
        }
        let accepted = calls.iter().zip(&replies).filter(|(call, reply)| may_have_written(call, reply)).count();
        if accepted == 0 {
            assert_eq!(self.digest(), before, "something was written by {}", shown(&calls, &replies));
        }
        accepted
    }
}

/// Whether a reply leaves room for a change. An ISSUE that grants nothing may still end a coupon.
fn may_have_written(call: &[Vec<u8>], reply: &Value) -> bool {
    let command = call[0].to_ascii_uppercase();
    let word = match reply {
        Value::Error(_) => return false,
        Value::Array(elements) if command == b"COUPON.REQUEST" => &elements[0],
        reply => reply,
    };
    let has_joined = |word: &Value| matches!(word.text(), "QUEUED" | "GRANTED");
    match &command[b"COUPON.".len()..] {
        b"STATUS" | b"WAIT" | b"INFO" => false,
        b"REQUEST" => has_joined(word),
        b"LEAVE" => word.text() == "LEFT",
        b"MREQUEST" => reply.array().iter().any(has_joined),
        _ => true,
    }
}

/// Whether this can be the reply to that call, and is not another's.
fn fits(call: &[Vec<u8>], reply: &Value) -> bool {
    if let Value::Error(error) = reply {
        let is_unblocked = error.starts_with("UNBLOCKED ");
        return !is_unblocked || call[0] == b"COUPON.WAIT";
    }
    let is_one_of = |word: &Value, words: &[&str]| matches!(word, Value::Bulk(_)) && words.contains(&word.text());
    let is_outcome =
        |word: &Value| is_one_of(word, &["QUEUED", "GRANTED", "DUPLICATE", "SOLDOUT", "NOTOPEN", "CLOSED"]);
    let is_state = |word: &Value| is_one_of(word, &["NONE", "WAITING", "GRANTED", "PERSISTED"]);
    // WITHRANK makes an array of a word and so many numbers.
    let is_ranked = |is_word: &dyn Fn(&Value) -> bool, numbers: usize| match reply {
        Value::Array(parts) => parts.len() == 1 + numbers && is_word(&parts[0]),
        word => is_word(word),
    };
    match &call[0][b"COUPON.".len()..] {
        b"REQUEST" => is_ranked(&is_outcome, 1),
        b"MREQUEST" => reply.array().len() == call.len() - 2 && reply.array().iter().all(is_outcome),
        b"STATUS" => is_ranked(&is_state, 2),
        b"WAIT" => is_state(reply),
        b"LEAVE" => is_one_of(reply, &["LEFT", "GRANTED", "NONE"]),
        b"ISSUE" => matches!(reply, Value::Int(_)),
        b"INFO" => reply.pairs().first().is_some_and(|(name, _)| *name == "status"),
        _ => *reply == Value::Simple("OK".into()),
    }
}

fn shown(calls: &[Vec<Vec<u8>>], replies: &[Value]) -> String {
    let line = |(call, reply): (&Vec<Vec<u8>>, &Value)| {
        format!("{} => {reply}", call.iter().map(|word| show(word)).collect::<Vec<_>>().join(" "))
    };
    calls.iter().zip(replies).map(line).collect::<Vec<_>>().join("\n")
}

fn seed() -> u64 {
    let given = std::env::var("COUPON_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..1 << 40));
    println!("COUPON_SEED={seed}");
    seed
}

/// What an attack has met.
#[derive(Default)]
struct Met {
    /// Batches that were refused as a whole.
    refused: usize,
    /// Waits that were ended from elsewhere.
    unblocked: usize,
}

/// So many calls over all connections.
fn attack(redis: &Redis, calls: usize, seed: u64) -> Met {
    thread::scope(|scope| {
        let attacks: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                scope.spawn(move || {
                    let mut attack = Attack::new(redis, connection, seed);
                    let batches = calls / CONNECTIONS / BATCH;
                    // Sense and nonsense in turn, so that nonsense meets coupons in every state.
                    let play = |number: &usize| {
                        if number.is_multiple_of(BATCHES_OF_A_SALE) {
                            attack.open_anew();
                        }
                        attack.batch(!number.is_multiple_of(4)) == 0
                    };
                    let refused = (0..batches).filter(play).count();
                    Met { refused, unblocked: attack.unblocked }
                })
            })
            .collect();
        let add =
            |sum: Met, met: Met| Met { refused: sum.refused + met.refused, unblocked: sum.unblocked + met.unblocked };
        attacks.into_iter().map(|attack| attack.join().expect("an attack")).fold(Met::default(), add)
    })
}

fn delete_all(client: &mut Client) {
    for key in client.run("KEYS *").array() {
        client.call(&[b"DEL", key.bytes()]);
    }
    // What it remembers of slow calls is their arguments.
    client.run("SLOWLOG RESET");
}

/// Once its keys are deleted and the attackers gone, the server holds what it held before.
fn assert_memory_returns(client: &mut Client, before: i64) {
    delete_all(client);
    let mut left = 0;
    let is_back = within(DEADLINE, || {
        left = used_memory(client) - before;
        (number(client, "connected_clients") == 1 && left < LEFT_BYTES).then_some(())
    });
    println!("{left} bytes are left of {CALLS} calls");
    assert!(is_back.is_some(), "{left} bytes are left of {CALLS} calls, whose keys are deleted");
}

#[test]
fn what_is_refused_reaches_no_replica() {
    let redis = Options::shipped().line("repl-ping-replica-period 3600").start();
    let _replica = ReplicationStream::attach(&redis);
    let mut attack = Attack::new(&redis, 0, seed());
    let mut client = redis.client();
    let mut refused = 0;
    for batch in 0..WATCHED_CALLS / BATCH {
        if batch % BATCHES_OF_A_SALE == 0 {
            attack.open_anew();
        }
        let before = replication_offset(&mut client);
        let accepted = attack.batch(batch % 4 != 0);
        let after = replication_offset(&mut client);
        if accepted == 0 {
            assert_eq!(after, before, "a batch of refusals was replicated");
            refused += 1;
        }
    }
    assert!(refused > 10, "only {refused} batches were refused as a whole: the test shows too little");
}

#[test]
fn a_million_calls_neither_end_the_server_nor_change_what_they_may_not() {
    let mut redis = Redis::start();
    let seed = seed();
    let mut client = redis.client();
    attack(&redis, WARM_UP_CALLS, seed);
    delete_all(&mut client);
    eventually_true("the attackers are gone", || number(&mut client, "connected_clients") == 1);
    let before = used_memory(&mut client);
    let Met { refused, unblocked } = attack(&redis, CALLS, seed);
    assert!(redis.is_alive(), "the server ended");
    assert!(refused > 100, "only {refused} batches were refused as a whole: the test shows too little");
    assert!(unblocked > 100, "only {unblocked} waits were ended from elsewhere: the test shows too little");
    eventually_true("nobody is blocked", || number(&mut client, "blocked_clients") == 0);
    eventually_true("nobody waits", || number(&mut client, "coupon_waiting_clients") == 0);
    let log = redis.log();
    assert!(!log.contains("panic") && !log.contains("REPORT"), "{log}");
    for connection in 0..CONNECTIONS {
        for name in ["plain", "ledger", "hand"] {
            let stored = Stored::read(&mut client, &format!("{name}{connection}"));
            let users: std::collections::HashSet<_> = stored.granted().into_iter().collect();
            assert_eq!(users.len(), stored.grants.len(), "{name}{connection}: a user has two grants");
            if stored.hash.contains_key("seq") {
                assert!(stored.number("seq") <= stored.number("quantity"), "{name}{connection}: more than there are");
            }
        }
    }
    println!("{refused} batches were refused as a whole, {unblocked} waits were ended from elsewhere");
    assert_memory_returns(&mut client, before);
}

#[test]
fn a_torn_or_lying_protocol_ends_the_connection_and_not_the_server() {
    let mut redis = Redis::start();
    redis.client().run("COUPON.OPEN c QUANTITY 5");
    for bytes in [
        &b"*3\r\n$14\r\nCOUPON.REQUEST\r\n$1\r\nc\r\n$5\r\nab"[..],
        b"*3\r\n$14\r\nCOUPON.REQUEST\r\n$1\r\nc\r\n$-1\r\n",
        b"*1000000000\r\n",
        b"*3\r\n$14\r\nCOUPON.REQUEST\r\n$1\r\nc\r\n$99999999999\r\nab\r\n",
        b"COUPON.REQUEST c \"a\r\n",
        b"COUPON.REQUEST c inline\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ] {
        let mut client = redis.client();
        client.send_bytes(bytes).expect("the server takes bytes");
        drop(client);
    }
    let mut client = redis.client();
    assert_eq!(client.run("PING").to_string(), "+PONG");
    assert_eq!(client.run("COUPON.REQUEST c a").to_string(), "QUEUED");
    assert!(redis.is_alive());
}
