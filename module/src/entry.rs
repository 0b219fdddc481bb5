//! Where the server comes in: commands, events, timers and INFO, wired in one place.

mod load;

use crate::cache;
use crate::commands::{Call, TABLE};
use crate::counters::{self, Counter};
use crate::redis::{Answer, Blocked, Change, Command, KeyChange, Module, Report, Server, Str, Text};
use crate::{event, fence, sale, wait, waiters};
use coupon_core::key::coupon_of;
use coupon_core::refusal::Refusal;

pub use load::{load, unload};

/// Counts a refusal, and says it.
fn refuse(refusal: &Refusal) -> String {
    counters::add(if matches!(refusal, Refusal::TryAgain(_)) { Counter::TryAgain } else { Counter::Refused }, 1);
    refusal.to_string()
}

/// The module, as the server calls it.
pub enum Coupons {}

impl Module for Coupons {
    type Call = Call;

    const COMMANDS: &'static [Command<Call>] = TABLE;

    fn run(call: &Call, server: &Server, args: &[Str]) -> Answer {
        let Some((key, args)) = args.split_first() else { return Err(Refusal::arity().to_string()) };
        let answer = call(server, key, args);
        // All keys are closed.
        event::tell(server, key);
        answer.map_err(|refusal| refuse(&refusal))
    }

    fn answer(server: &Server, client: Blocked, args: &[Str]) -> Answer {
        match waiters::answered(server, client) {
            Some(elsewhere) => Err(elsewhere.to_string()),
            None => wait::answer(server, args).map_err(|refusal| refuse(&refusal)),
        }
    }

    fn let_go(server: &Server, client: Blocked, args: &[Str]) -> Answer {
        waiters::let_go(server, client);
        wait::answer(server, args).map_err(|refusal| refuse(&refusal))
    }

    fn on_disconnect(server: &Server, client: Blocked) {
        waiters::let_go(server, client);
    }

    fn on_timer(server: &Server, number: usize) {
        wait::on_timer(server, number);
    }

    fn on_key(server: &Server, key: &Str, what: KeyChange) {
        let database = server.database();
        cache::forget(database, key.bytes());
        waiters::look_again(server, database, key.bytes());
        if let Some(coupon) = coupon_of(key.bytes()) {
            // Whoever caches has asked by the coupon's key, and was answered from its companions too.
            server.signal_modified(&Text::new(coupon));
            waiters::look_again(server, database, coupon);
        }
        // A coupon that comes back with this process's own token would be open, whatever it has missed meanwhile.
        if what == KeyChange::Arrived && sale::carries(server, key, fence::token()) {
            fence::draw(server);
        }
    }

    fn on_change(server: &Server, change: Change) {
        if change == Change::History {
            fence::draw(server);
        }
        cache::forget_all();
        waiters::look_again_at_all(server);
    }

    fn on_beat(server: &Server) {
        wait::on_beat(server);
    }

    fn report(report: &mut Report, is_crashing: bool) {
        report.text(c"version", load::VERSION);
        for (name, count) in counters::all() {
            report.count(name, count);
        }
        report.count(c"waiting_clients", waiters::count());
        // The crash may have come while these were being counted, with the lock held.
        if !is_crashing {
            let cache::Count { hashes, sets } = cache::count();
            report.count(c"hashes_in_mind", hashes);
            report.count(c"sets_in_mind", sets);
        }
    }
}
