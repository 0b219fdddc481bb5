//! Clients in COUPON.WAIT, and who of them has to have been answered.

use coupon_tests::deadline::eventually_true;
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::{Client, Value};
use std::collections::HashSet;

/// Clients that wait at a time.
const WAITERS_MAX: usize = 4;

/// How a client was told to stop waiting by somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unblock {
    /// As if its time were over.
    Timeout,
    Error,
}

/// A client that waits.
pub struct Waiter {
    pub user: &'static str,
    /// Its connection's number.
    pub id: i64,
    pub unblocked: Option<Unblock>,
    client: Client,
}

/// What a waiter may hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// This at once.
    Answer(String),
    /// This at once or, once it was unblocked, that it was. In one step with others, what held in between, too.
    AnswerOfSome,
    /// Nothing.
    Silence,
    /// Nothing, or this: something may have been final in between.
    SilenceOr(String),
}

/// All that wait.
#[derive(Default)]
pub struct Crowd {
    pub waiters: Vec<Waiter>,
}

impl Crowd {
    /// Lets one more wait, unless that would be too many. It has been heard by the server when this returns.
    pub fn join(
        &mut self,
        redis: &Redis,
        observer: &mut Client,
        key: &str,
        user: &'static str,
        timeout_ms: u64,
    ) -> bool {
        if self.waiters.len() >= WAITERS_MAX {
            return false;
        }
        let mut client = redis.client();
        let id = client.run("CLIENT ID").int();
        client.queue_line(&format!("COUPON.WAIT {key} {user} {timeout_ms}"));
        client.flush().expect("the server takes the call");
        eventually_true("the server has read the call", || {
            let list = observer.run("CLIENT LIST");
            line_of(list.text(), id).is_some_and(|line| line.contains(" cmd=coupon.wait "))
        });
        self.waiters.push(Waiter { user, id, unblocked: None, client });
        true
    }

    /// Those who still wait, as the server says.
    pub fn blocked(observer: &mut Client) -> HashSet<i64> {
        let list = observer.run("CLIENT LIST");
        let is_blocked = |line: &&str| word(line, "flags=").is_some_and(|flags| flags.contains('b'));
        list.text().lines().filter(is_blocked).filter_map(|line| word(line, "id=")?.parse().ok()).collect()
    }

    /// Checks each against what it may hear, and lets go of those who were answered.
    ///
    /// # Errors
    /// Who was told what it may not, or was told nothing.
    pub fn check(&mut self, blocked: &HashSet<i64>, expected: &[Expected]) -> Result<(), String> {
        let mut staying = Vec::new();
        for (mut waiter, expected) in self.waiters.drain(..).zip(expected) {
            let user = waiter.user;
            if blocked.contains(&waiter.id) {
                match expected {
                    Expected::Silence | Expected::SilenceOr(_) => staying.push(waiter),
                    expected => return Err(format!("who waits for {user} hears nothing: {expected:?}")),
                }
                continue;
            }
            let answer = waiter.client.read().map_err(|error| format!("no answer for {user}: {error}"))?.to_string();
            let is_right = match expected {
                Expected::Answer(answered) | Expected::SilenceOr(answered) => {
                    answer == *answered || waiter.unblocked == Some(Unblock::Error) && answer.starts_with("-UNBLOCKED ")
                }
                Expected::AnswerOfSome => true,
                Expected::Silence => false,
            };
            if !is_right {
                return Err(format!("who waits for {user} hears {answer}: {expected:?}"));
            }
            let next = waiter.client.run("PING");
            if next != Value::Simple("PONG".into()) {
                return Err(format!("who waited for {user} was answered {answer} and then {next}"));
            }
        }
        self.waiters = staying;
        Ok(())
    }
}

fn line_of(list: &str, id: i64) -> Option<&str> {
    list.lines().find(|line| word(line, "id=") == Some(&id.to_string()))
}

fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(name))
}
