//! Random sequences in which others change a coupon's keys by any command there is, with clients in COUPON.WAIT in
//! between. The reference is a coupon with the same keys at a name that nobody has used yet, of which nothing can be in
//! mind: it is asked the same, and says which clients must have been answered, and what they must have been told.

use crate::changes::{Part, SOURCES, USERS, call, change, part, user};
use crate::crowd::{Crowd, Expected, Unblock};
use crate::fresh::{Fresh, Question, question};
use coupon_tests::call::words;
use coupon_tests::deadline::{DEADLINE, eventually_true};
use coupon_tests::info::number;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, Value, show};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::time::Instant;

/// Sequences played; each on a coupon of its own.
const SEQUENCES: u32 = 400;

/// Steps of a sequence.
const STEPS_MAX: usize = 60;

/// Turns of the server's event loop after which all who have to be answered are.
const TURNS: usize = 50;

/// Milliseconds until a key or a field runs out that is looked at before and after.
const RUN_OUT_MS: i64 = 10;

/// Characters that are shown of a reply.
const REPLY_SHOWN: usize = 300;

/// Bytes that are shown of a word of a call.
const WORD_SHOWN: usize = 40;

/// What is done in a step.
#[derive(Debug, Clone)]
enum Action {
    /// Calls, in the notation of [`crate::changes`].
    Calls(String),
    Ask(Question),
    /// Takes a dump of a key.
    Dump(Part),
    /// Puts the last dump back.
    PutBack(Part),
    Unblock(usize, Unblock),
}

/// What comes to its end unseen.
#[derive(Debug, Clone, Copy)]
enum Mortal {
    Key(Part),
    Field(&'static str),
}

#[derive(Debug, Clone)]
enum Step {
    Do(Action),
    /// By another connection.
    Elsewhere(Action),
    Transaction(Vec<Action>),
    Script(Vec<Action>),
    Wait(&'static str, u64),
    /// A client that waits goes away.
    Leave(usize),
    /// It is asked before something runs out and after.
    RunOut(Mortal, Question, Question),
    Reload,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => question().prop_map(Action::Ask),
        6 => change().prop_map(Action::Calls),
        6 => call().prop_map(Action::Calls),
        1 => part().prop_map(Action::Dump),
        2 => part().prop_map(Action::PutBack),
        1 => (0_usize..4, select(&[Unblock::Timeout, Unblock::Error][..])).prop_map(|(place, how)| Action::Unblock(place, how)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let mortal = || {
        prop_oneof![
            part().prop_map(Mortal::Key),
            select(&["waitlist", "status", "expires_at", "quantity", "granted_to", "fence", "refused"][..])
                .prop_map(Mortal::Field),
        ]
    };
    let together = || prop::collection::vec(action(), 1..5);
    prop_oneof![
        30 => action().prop_map(Step::Do),
        6 => action().prop_map(Step::Elsewhere),
        5 => together().prop_map(Step::Transaction),
        5 => together().prop_map(Step::Script),
        8 => (user(), select(&[0_u64, 86_400_000][..])).prop_map(|(user, timeout_ms)| Step::Wait(user, timeout_ms)),
        1 => (0_usize..4).prop_map(Step::Leave),
        2 => (mortal(), question(), question()).prop_map(|(mortal, before, after)| {
            // Who waits for somebody who leaves is answered at once, before anything runs out.
            let before = if let Question::Leave(user) = before { Question::Status(user) } else { before };
            Step::RunOut(mortal, before, after)
        }),
        1 => Just(Step::Reload),
    ]
}

/// How calls reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Elsewhere,
    Transaction,
    Script,
}

impl Way {
    /// Sends calls so, and reads what each is answered.
    fn send(self, client: &mut Client, calls: &[Vec<Vec<u8>>]) -> io::Result<Vec<Value>> {
        const SCRIPT: &str = "local at, replies = 1, {} \
             while at <= #ARGV do \
               local count = tonumber(ARGV[at]) \
               replies[#replies + 1] = redis.pcall(unpack(ARGV, at + 1, at + count)) \
               at = at + count + 1 \
             end \
             return replies";
        match self {
            Self::Plain | Self::Elsewhere => {
                calls.iter().for_each(|call| client.queue(call));
                client.replies(calls.len())
            }
            Self::Transaction => {
                client.queue_line("MULTI");
                calls.iter().for_each(|call| client.queue(call));
                client.queue_line("EXEC");
                let replies = client.replies(calls.len() + 2)?;
                Ok(replies.last().expect("the reply of EXEC").array().to_vec())
            }
            Self::Script => {
                let mut script = [&b"EVAL"[..], SCRIPT.as_bytes(), b"0"].map(<[u8]>::to_vec).to_vec();
                for call in calls {
                    script.push(call.len().to_string().into_bytes());
                    script.extend(call.iter().cloned());
                }
                Ok(client.try_call(&script)?.array().to_vec())
            }
        }
    }
}

/// What an action has to have shown, by the places of its calls' replies.
enum Check {
    Nothing,
    Same(usize, usize),
    Dumped(Part),
    Unblocked(usize, Unblock),
}

/// One sequence on its server.
struct Play<'a> {
    redis: &'a Redis,
    client: Client,
    elsewhere: Client,
    /// Commands that the server has.
    commands: HashSet<String>,
    key: String,
    away: String,
    /// Names that were used.
    names: &'a mut u64,
    dumps: [Option<Vec<u8>>; 4],
    crowd: Crowd,
    /// What was done, for whoever reads of a failure.
    told: Vec<String>,
}

type Outcome = Result<(), TestCaseError>;

impl<'a> Play<'a> {
    fn begin(redis: &'a Redis, names: &'a mut u64) -> Self {
        let mut client = redis.client();
        client.run("FLUSHALL");
        *names += 1;
        let commands = client.run("COMMAND LIST").array().iter().map(ToString::to_string).collect();
        let (key, away) = (format!("coupon:{{{names}}}"), format!("away:{{{names}}}"));
        let elsewhere = redis.client();
        let (dumps, crowd, told) = Default::default();
        Self { redis, client, elsewhere, commands, key, away, names, dumps, crowd, told }
    }

    fn fail<T>(&self, what: &str) -> Result<T, TestCaseError> {
        Err(TestCaseError::fail(format!("{what}\n{}", self.told.join("\n"))))
    }

    fn fresh(&mut self) -> Fresh {
        *self.names += 1;
        Fresh::numbered(*self.names)
    }

    fn step(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Do(action) => self.together(Way::Plain, std::slice::from_ref(action)),
            Step::Elsewhere(action) => self.together(Way::Elsewhere, std::slice::from_ref(action)),
            Step::Transaction(actions) => self.together(Way::Transaction, actions),
            Step::Script(actions) => self.together(Way::Script, actions),
            Step::Wait(user, timeout_ms) => {
                if self.crowd.join(self.redis, &mut self.client, &self.key, user, *timeout_ms) {
                    self.told.push(format!("COUPON.WAIT {} {user} {timeout_ms}", self.key));
                }
                self.settle(false, false)
            }
            Step::Leave(place) => {
                if *place < self.crowd.waiters.len() {
                    let waiter = self.crowd.waiters.remove(*place);
                    self.told.push(format!("who waits for {} goes away", waiter.user));
                }
                self.settle(false, false)
            }
            Step::RunOut(mortal, before, after) => self.run_out(*mortal, before, after),
            Step::Reload => {
                let reply = self.client.run("DEBUG RELOAD");
                self.told.push(format!("DEBUG RELOAD => {reply}"));
                // Meanwhile there was nothing.
                self.settle(false, true)
            }
        }
    }

    /// Plays actions, and compares what they were answered.
    fn together(&mut self, way: Way, actions: &[Action]) -> Outcome {
        let mut calls = Vec::new();
        let mut checks = Vec::new();
        for action in actions {
            let (parts, check) = self.calls(action);
            checks.push((calls.len(), check));
            calls.extend(parts.into_iter().filter(|call| self.has(call)));
        }
        if calls.is_empty() {
            return Ok(());
        }
        let replies = self.play(way, &calls)?;
        let restores = calls.iter().any(|call| call.contains(&b"GRANTS".to_vec()));
        let mut unblocks = false;
        for (start, check) in checks {
            match check {
                Check::Nothing => {}
                Check::Same(left, right) => {
                    let [known, read] = [start + left, start + right].map(|place| &replies[place]);
                    if known != read {
                        return self.fail(&format!("answered {known}, and with nothing in mind {read}"));
                    }
                }
                Check::Dumped(part) => {
                    if let Value::Bulk(dump) = &replies[start] {
                        self.dumps[part as usize] = Some(dump.clone());
                    }
                }
                Check::Unblocked(place, how) => {
                    // Scripts may not.
                    if replies[start] == Value::Int(1) {
                        self.crowd.waiters[place].unblocked = Some(how);
                        unblocks = true;
                    } else if matches!(way, Way::Plain | Way::Elsewhere) {
                        return self.fail("who waits cannot be unblocked");
                    }
                }
            }
        }
        let is_one = actions.len() == 1 && !restores;
        // Who was unblocked amid other changes was told what held then.
        if unblocks && !is_one {
            return self.settle_as(false, true, true);
        }
        self.settle(false, !is_one)
    }

    /// The calls of an action.
    fn calls(&mut self, action: &Action) -> (Vec<Vec<Vec<u8>>>, Check) {
        let lines = |lines: &[String]| lines.iter().map(|line| words(line)).collect();
        match action {
            Action::Calls(line) => {
                let line = line.replace('$', &self.key).replace('@', &self.away);
                let sources = if line.contains("users:") { &SOURCES[..] } else { &[] };
                (sources.iter().copied().chain(line.split('|')).map(words).collect(), Check::Nothing)
            }
            Action::Ask(question) => {
                let fresh = self.fresh();
                let (known, read) = (question.of(&self.key), question.of(&fresh.key));
                let [first, second, third, fourth] = fresh.copies(&self.key);
                let removal = fresh.removal();
                if question.may_write() {
                    (lines(&[first, second, third, fourth, known, read, removal]), Check::Same(4, 5))
                } else {
                    // To copy a key that has run out removes it, and is noticed.
                    (lines(&[known, first, second, third, fourth, read, removal]), Check::Same(0, 5))
                }
            }
            Action::Dump(part) => (lines(&[format!("DUMP {}{}", self.key, part.suffix())]), Check::Dumped(*part)),
            Action::PutBack(part) => {
                let Some(dump) = &self.dumps[*part as usize] else { return (Vec::new(), Check::Nothing) };
                let key = format!("{}{}", self.key, part.suffix());
                let call = [&b"RESTORE"[..], key.as_bytes(), b"0", dump, b"REPLACE"].map(<[u8]>::to_vec);
                (vec![call.to_vec()], Check::Nothing)
            }
            Action::Unblock(place, how) => {
                let Some(waiter) = self.crowd.waiters.get(*place) else { return (Vec::new(), Check::Nothing) };
                let how_word = if *how == Unblock::Error { "ERROR" } else { "TIMEOUT" };
                (lines(&[format!("CLIENT UNBLOCK {} {how_word}", waiter.id)]), Check::Unblocked(*place, *how))
            }
        }
    }

    /// Whether this server has the command: an unknown one would end a whole transaction.
    fn has(&self, call: &[Vec<u8>]) -> bool {
        let name = String::from_utf8_lossy(&call[0]).to_lowercase();
        self.commands.contains(&name)
    }

    fn play(&mut self, way: Way, calls: &[Vec<Vec<u8>>]) -> Result<Vec<Value>, TestCaseError> {
        let client = if way == Way::Elsewhere { &mut self.elsewhere } else { &mut self.client };
        let replies = way.send(client, calls);
        for (place, call) in calls.iter().enumerate() {
            // A dump would fill the page.
            let call = call.iter().map(|word| show(&word[..word.len().min(WORD_SHOWN)])).collect::<Vec<_>>().join(" ");
            if !call.contains(Fresh::PREFIX) {
                let reply = replies.as_ref().map_or("?".into(), |replies| replies[place].to_string());
                self.told.push(format!("{way:?}: {call} => {}", reply.chars().take(REPLY_SHOWN).collect::<String>()));
            }
        }
        replies.or_else(|error| self.fail(&format!("no replies: {error}")))
    }

    /// A key or a field runs out between two questions, and the server does not look by itself.
    fn run_out(&mut self, mortal: Mortal, before: &Question, after: &Question) -> Outcome {
        let fresh = self.fresh();
        let mut calls = vec!["DEBUG SET-ACTIVE-EXPIRE 0".to_owned()];
        let given = calls.len();
        calls.push(match mortal {
            Mortal::Key(part) => format!("PEXPIRE {}{} {RUN_OUT_MS}", self.key, part.suffix()),
            Mortal::Field(field) if self.has(&words("HPEXPIRE")) => {
                format!("HPEXPIRE {} {RUN_OUT_MS} FIELDS 1 {field}", self.key)
            }
            Mortal::Field(_) => return Ok(()),
        });
        calls.push(before.of(&self.key));
        let left = calls.len();
        calls.push(match mortal {
            Mortal::Key(part) => format!("PTTL {}{}", self.key, part.suffix()),
            Mortal::Field(field) => format!("HPTTL {} FIELDS 1 {field}", self.key),
        });
        match mortal {
            Mortal::Key(mortal) => {
                calls.extend(
                    Part::ALL.into_iter().filter(|part| *part != mortal).map(|part| fresh.copy(&self.key, part)),
                );
            }
            Mortal::Field(field) => {
                calls.extend(fresh.copies(&self.key));
                calls.push(format!("HDEL {} {field}", fresh.key));
            }
        }
        let calls: Vec<_> = calls.iter().map(|line| words(line)).collect();
        let replies = self.play(Way::Plain, &calls)?;
        // Else there was nothing that could run out, or the question has written it anew, for good.
        let is_mortal = matches!(&*replies[given].to_string(), ":1" | "[:1]")
            && !matches!(&*replies[left].to_string(), ":-1" | "[:-1]");
        let start = server_ms(&mut self.client);
        eventually_true("the clock goes on", || server_ms(&mut self.client) > start + RUN_OUT_MS);
        let calls = [after.of(&self.key), after.of(&fresh.key), fresh.removal(), "DEBUG SET-ACTIVE-EXPIRE 1".into()];
        let replies = self.play(Way::Plain, &calls.map(|line| words(&line)))?;
        if is_mortal && replies[0] != replies[1] {
            return self.fail(&format!("answered {}, and with nothing in mind {}", replies[0], replies[1]));
        }
        // A field is removed, and whoever waits is told, when the server comes by.
        self.settle(matches!(mortal, Mortal::Field(_)), true)
    }

    /// Whoever has to be answered is, with what holds now, and nobody else. `in_time`: not at once, but soon. `is_free`:
    /// things may have been different in between, so that who has nothing to hear may have heard all the same.
    fn settle(&mut self, in_time: bool, is_free: bool) -> Outcome {
        self.settle_as(in_time, is_free, false)
    }

    fn settle_as(&mut self, in_time: bool, is_free: bool, is_any_unblocked: bool) -> Outcome {
        if self.crowd.waiters.is_empty() {
            return Ok(());
        }
        let expected = self.expected(is_free, is_any_unblocked);
        let must: Vec<i64> = self
            .crowd
            .waiters
            .iter()
            .zip(&expected)
            .filter(|(_, expected)| matches!(expected, Expected::Answer(_) | Expected::AnswerOfSome))
            .map(|(waiter, _)| waiter.id)
            .collect();
        let begin = Instant::now();
        let mut turns = 0;
        let blocked = loop {
            let blocked = Crowd::blocked(&mut self.client);
            turns += 1;
            let is_over = turns >= TURNS && (!in_time || begin.elapsed() > DEADLINE);
            if is_over || must.iter().all(|id| !blocked.contains(id)) {
                break blocked;
            }
        };
        self.crowd.check(&blocked, &expected).or_else(|what| self.fail(&what))
    }

    /// What each who waits may hear, as a coupon says that has the same keys and is not known.
    fn expected(&mut self, is_free: bool, is_any_unblocked: bool) -> Vec<Expected> {
        let fresh = self.fresh();
        let mut calls = vec!["MULTI".to_owned()];
        calls.extend(fresh.copies(&self.key));
        calls.push(format!("COUPON.INFO {}", fresh.key));
        calls.extend(self.crowd.waiters.iter().map(|waiter| format!("COUPON.WAIT {} {} 0", fresh.key, waiter.user)));
        calls.push(fresh.removal());
        calls.push("EXEC".into());
        let replies = self.client.pipeline(&calls);
        let replies = replies.last().expect("the reply of EXEC").array();
        let is_over = match &replies[4] {
            Value::Error(_) => true,
            info => matches!(info.field("status").text(), "ISSUED" | "EXPIRED"),
        };
        let expect = |(waiter, reply): (&crate::crowd::Waiter, &Value)| {
            let answer = reply.to_string();
            let is_final = match &*answer {
                "GRANTED" => false,
                "WAITING" => is_over,
                _ => true,
            };
            match waiter.unblocked {
                Some(_) if is_any_unblocked => Expected::AnswerOfSome,
                Some(_) => Expected::Answer(answer),
                None if is_final => Expected::Answer(answer),
                None if is_free => Expected::SilenceOr(answer),
                None => Expected::Silence,
            }
        };
        self.crowd.waiters.iter().zip(&replies[5..]).map(expect).collect()
    }

    /// The coupon goes, and with it all who wait.
    fn end(mut self) -> Outcome {
        for question in Question::all_that_only_read() {
            self.together(Way::Plain, &[Action::Ask(question)])?;
        }
        for part in Part::ALL {
            self.together(Way::Plain, &[Action::Calls(format!("DEL ${}", part.suffix()))])?;
        }
        if !self.crowd.waiters.is_empty() {
            return self.fail("the coupon is gone, and some still wait");
        }
        let left = |client: &mut Client, name| {
            eventually_true(name, || number(client, name) == 0);
        };
        left(&mut self.client, "blocked_clients");
        left(&mut self.client, "coupon_waiting_clients");
        Ok(())
    }
}

fn server_ms(client: &mut Client) -> i64 {
    let time = client.run("TIME");
    let [seconds, us] = [0, 1].map(|part| time.array()[part].text().parse::<i64>().expect("a number"));
    seconds * 1000 + us / 1000
}

#[test]
fn whoever_changes_the_keys_all_are_told_what_they_say() {
    crate::in_lanes(SEQUENCES, play_beside_a_fresh_coupon);
}

fn play_beside_a_fresh_coupon(mut runner: TestRunner) {
    // A server that has failed a sequence is not asked again.
    let server: RefCell<Option<Redis>> = RefCell::new(None);
    let names = RefCell::new(0_u64);
    let steps = prop::collection::vec(step(), 1..STEPS_MAX);
    let opening = (1_u64..4, 0_u64..2, select(&["QUEUE", "INSTANT"][..]), prop::bool::ANY);
    let played = runner.run(&(opening, steps), |((quantity, waitlist, mode, is_full), steps)| {
        let redis = server.borrow_mut().take().unwrap_or_else(|| Options::shipped().start());
        let mut names = names.borrow_mut();
        let mut play = Play::begin(&redis, &mut names);
        for call in [
            format!("COUPON.OPEN $ QUANTITY {quantity} WAITLIST {waitlist} MODE {mode} EPOCH 1"),
            "COUPON.RESUME $ EPOCH 1 SEQ 0 CHAIN 0".into(),
        ] {
            play.together(Way::Plain, &[Action::Calls(call)])?;
        }
        if is_full {
            // Somebody is turned away, and who is in is learned with it.
            play.together(Way::Plain, &[Action::Calls(format!("COUPON.MREQUEST $ {}", USERS[1..].join(" ")))])?;
        }
        for step in &steps {
            play.step(step)?;
        }
        play.end()?;
        *server.borrow_mut() = Some(redis);
        Ok(())
    });
    if let Err(error) = played {
        panic!("{error}");
    }
}
