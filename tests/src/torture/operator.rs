//! What operators do by mistake, and what disks do: keys deleted, renamed and expired, a FLUSHALL, a lost AOF, an old
//! backup put back. The ledger's grants come back, in order, and no unit is issued twice.

use super::stack::{self, Load, Order, key};
use super::{Survived, count};
use crate::deadline::eventually_true;
use crate::postgres_server::Postgres;
use crate::reconciler::Reconciler;
use crate::redis_server::{Options, Redis};
use crate::resp::Value;
use std::fs;
use std::path::Path;

/// Mistakes of a round.
const MISTAKES: u64 = 6;

/// Plays one round.
///
/// # Panics
/// If a promise is broken.
pub fn round(random: &mut fastrand::Rng) -> Survived {
    let mut survived = Survived::new();
    let mut redis = Options::shipped().line("appendfsync always").line("auto-aof-rewrite-percentage 0").start();
    let postgres = Postgres::start();
    let _reconciler = Reconciler::start(&redis, &postgres);
    stack::insert(&postgres, random);
    stack::await_level(redis.port, &postgres);
    let backup = tempfile::tempdir().expect("temporary directory");

    for mistake in 0..MISTAKES {
        if random.u8(0..3) == 0 {
            count(&mut survived, while_it_sells(&redis, &postgres, mistake, random), 1);
            continue;
        }
        let load = Load::new(redis.port, &format!("m{mistake}"));
        load.during(|| load.await_answers(random.u64(20..400)));
        load.check(&postgres);
        // Users who only wait are in Redis alone; some of what follows loses them.
        load.forget_unpersisted();
        let mut client = redis.client();
        let mut run = |line: String| {
            let reply = client.run(&line);
            assert!(!reply.is_error(), "{line}: {reply}");
        };
        let kind = match random.u8(0..7) {
            0 => {
                run("FLUSHALL".into());
                "FLUSHALL"
            }
            1 => {
                run(format!("DEL {}", key()));
                "DEL of the status hash"
            }
            2 => {
                run(format!("DEL {0} {0}:issued {0}:grants", key()));
                "DEL of all three keys"
            }
            3 => {
                run(format!("RENAME {} {{{}}}:elsewhere{mistake}", key(), stack::ID));
                "RENAME of the status hash"
            }
            4 => {
                run(format!("PEXPIRE {} 1", key()));
                "EXPIRE of the status hash"
            }
            5 => {
                redis.kill();
                fs::remove_dir_all(redis.directory().join("appendonlydir")).expect("the AOF can be removed");
                redis.start_again();
                "the AOF lost"
            }
            _ => {
                // The AOF as it is now is put back after some more of the sale.
                redis.stop();
                copy(&redis.directory().join("appendonlydir"), &backup.path().join(mistake.to_string()));
                redis.start_again();
                stack::await_level(redis.port, &postgres);
                let more = Load::new(redis.port, &format!("b{mistake}"));
                more.during(|| more.await_answers(random.u64(20..400)));
                more.check(&postgres);
                redis.kill();
                fs::remove_dir_all(redis.directory().join("appendonlydir")).expect("the AOF can be removed");
                copy(&backup.path().join(mistake.to_string()), &redis.directory().join("appendonlydir"));
                redis.start_again();
                more.forget_unpersisted();
                stack::await_level(redis.port, &postgres);
                more.check_on(redis.port, &postgres, Order::PerEpoch);
                "an old backup put back"
            }
        };
        count(&mut survived, kind, 1);
        stack::await_level(redis.port, &postgres);
        load.check_on(redis.port, &postgres, Order::PerEpoch);
        all_rows_are_persisted(&redis, &postgres);
    }
    survived
}

/// One of the keys goes while requests come in. Nothing is decided until it is back, or until the operator has brought
/// back what the ledger holds.
fn while_it_sells(redis: &Redis, postgres: &Postgres, mistake: u64, random: &mut fastrand::Rng) -> &'static str {
    let load = Load::new(redis.port, &format!("s{mistake}")).expecting(&["WRONGTYPE "]);
    let part = format!("{}{}", key(), ["", ":issued", ":grants"][random.usize(0..3)]);
    let elsewhere = format!("{{{}}}:elsewhere", stack::ID);
    let mut client = redis.client();
    let damage = random.u8(0..3);
    let mut is_there = false;
    load.during(|| {
        load.await_answers(random.u64(1..300));
        // Of a coupon that is new there is no grant yet, and so no stream.
        is_there = client.run(&format!("EXISTS {part}")).int() == 1;
        match damage {
            0 => client.run(&format!("RENAME {part} {elsewhere}")),
            1 => client.run(&format!("PEXPIRE {part} 1")),
            _ => client.run(&format!("SET {part} {mistake}")),
        };
        load.await_answers(random.u64(1..300));
        match damage {
            // Had a coupon been begun anew in the meantime, this would throw it away.
            0 => client.run(&format!("RENAME {elsewhere} {part}")),
            1 => Value::Null,
            _ => client.run(&format!("DEL {part}")),
        };
        load.await_answers(random.u64(1..300));
    });
    let kind = ["RENAME of a key, and back, under load", "EXPIRE of a key under load", "SET over a key under load"];
    let is_back = damage == 0 && part != key();
    if is_there && !is_back {
        stack::bring_back(redis, postgres);
        load.forget_unpersisted();
    }
    load.check_on(redis.port, postgres, Order::PerEpoch);
    all_rows_are_persisted(redis, postgres);
    kind[usize::from(damage)]
}

/// Every user of a row is told so.
fn all_rows_are_persisted(redis: &Redis, postgres: &Postgres) {
    let mut client = redis.client();
    for row in crate::ledger::rows(postgres, stack::ID) {
        eventually_true("a row's user is told PERSISTED", || {
            client.call(&["COUPON.STATUS", &key(), &row.user]).to_string() == "PERSISTED"
        });
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for file in fs::read_dir(from).expect("the AOF's directory").flatten() {
        fs::copy(file.path(), to.join(file.file_name())).expect("a file can be copied");
    }
}
