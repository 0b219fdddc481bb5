//! Clients that wait in COUPON.WAIT, and the proof that none of them has left anything.

use crate::deadline::eventually_true;
use crate::info::number;
use crate::redis_server::{Options, Redis};
use crate::resp::Client;

/// Longer than any test waits, as an argument of COUPON.WAIT.
pub const LONG: &str = "86400000";

/// A client that was sent into COUPON.WAIT.
pub struct Waiter {
    /// Its connection.
    pub client: Client,
    /// Its number at the server.
    pub id: i64,
}

impl Waiter {
    /// Sends a call that may block.
    ///
    /// # Panics
    /// If the server does not take it.
    #[must_use]
    pub fn begin(redis: &Redis, call: &str) -> Self {
        let mut client = redis.client();
        let id = client.run("CLIENT ID").int();
        client.queue_line(call);
        client.flush().expect("the server takes the call");
        Self { client, id }
    }

    /// The answer.
    ///
    /// # Panics
    /// If there is none.
    pub fn answer(&mut self) -> String {
        self.client.read().expect("an answer").to_string()
    }

    /// The answer, after which the connection goes on: a second one would stand in the place of the next call's.
    ///
    /// # Panics
    /// If there is none, or more than one.
    pub fn only_answer(&mut self) -> String {
        let answer = self.answer();
        assert_eq!(self.client.run("ECHO next").to_string(), "next", "after {answer}");
        answer
    }

    /// Whether the connection has ended without an answer.
    pub fn is_cut_off(&mut self) -> bool {
        self.client.read().is_err_and(|error| {
            matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset)
        })
    }
}

/// A server of which the module can be unloaded.
#[must_use]
pub fn unloadable() -> Redis {
    Options::shipped().line("enable-module-command yes").start()
}

/// Clients that make these calls, once all of them are blocked.
///
/// # Panics
/// If one of them is answered instead.
#[must_use]
pub fn blocked<C: AsRef<str>>(redis: &Redis, calls: &[C]) -> Vec<Waiter> {
    let mut client = redis.client();
    let before = number(&mut client, "blocked_clients");
    let waiters = calls.iter().map(|call| Waiter::begin(redis, call.as_ref())).collect();
    let all = before + i64::try_from(calls.len()).expect("a count");
    eventually_true("all of them wait", || number(&mut client, "blocked_clients") == all);
    waiters
}

/// Nobody waits any more, neither for the server nor for the module.
///
/// # Panics
/// If somebody does.
pub fn assert_nobody_waits(client: &mut Client) {
    for count in ["blocked_clients", "coupon_waiting_clients"] {
        eventually_true("nobody waits", || number(client, count) == 0);
    }
}

/// Nobody waits any more, and nothing holds the module.
///
/// # Panics
/// If somebody does, or something.
pub fn assert_nothing_is_left(client: &mut Client) {
    assert_nobody_waits(client);
    assert_eq!(client.run("MODULE UNLOAD coupon").to_string(), "+OK");
}
