//! What an application's triggers, rules and policies do to rows: a row that does not come in as it was granted is refused, whatever
//! the error is, and alone where others come in.

use crate::sale::{await_level, await_open, insert, key, request, servers};
use coupon_tests::deadline::eventually_true;
use coupon_tests::ledger::{self, await_coupon};
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler, command};
use coupon_tests::redis_server::Redis;

/// A trigger that does this with each row before it is inserted.
fn before_insert(postgres: &Postgres, body: &str) {
    postgres.run(&format!(
        "create or replace function meddle() returns trigger language plpgsql as
           $$ begin {body} return new; end $$;
         create or replace trigger meddle before insert on user_coupon for each row execute function meddle()"
    ));
}

/// Coupons with so many grants each, none of which is a row; no reconciler runs.
fn granted(ids: &[&str], grants: u64) -> (Redis, Postgres) {
    let (redis, postgres) = servers();
    ids.iter().for_each(|id| insert(&postgres, id, 5000, &[("mode", "'INSTANT'")]));
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    ids.iter().for_each(|id| await_open(&mut client, id));
    reconciler.kill();
    ids.iter().for_each(|id| request(&mut client, id, "u", 0..grants));
    (redis, postgres)
}

/// The coupon waits for an operator, who is told this; nothing of it is a row or a dead letter, and nobody hears PERSISTED.
fn assert_stopped(redis: &Redis, postgres: &Postgres, reconciler: &Reconciler, id: &str, advice: &str) {
    reconciler.await_log(advice);
    eventually_true("an operator is asked for", || reconciler.metric("coupon_fenced") == Some(1.0));
    assert_eq!(ledger::coupon(postgres, id, "granted, seq"), "0|0");
    assert_eq!((ledger::rows(postgres, id), ledger::dead_letters(postgres, id)), (vec![], vec![]));
    assert_eq!(redis.client().run(&format!("COUPON.STATUS {} u3", key(id))).to_string(), "GRANTED");
}

#[test]
fn a_row_that_is_swallowed_or_changed_is_a_dead_letter() {
    let swallowed = "if new.user_id = 'u3' then return null; end if;";
    let user = "if new.user_id = 'u3' then new.user_id := 'U3'; end if;";
    let number = "if new.user_id = 'u3' then new.seq := 4711; end if;";
    let time = "if new.user_id = 'u3' then new.granted_at := now(); end if;";
    for (body, said) in [(swallowed, "swallows"), (user, "changes"), (number, "changes"), (time, "changes")] {
        let (redis, postgres) = granted(&["a"], 10);
        before_insert(&postgres, body);
        let _reconciler = Reconciler::start(&redis, &postgres);
        await_level(&redis, &postgres, "a", 10);
        let letters = postgres.rows("select user_id, sqlstate, reason from coupon_dead_letter");
        assert!(letters.len() == 1 && letters[0].starts_with("u3|RC001|"), "{body}: {letters:?}");
        assert!(letters[0].contains("trigger") && letters[0].contains(said), "{body}: {letters:?}");
        await_coupon(&postgres, "a", "granted, seq", "9|10");

        // A retry is one only if the row is there then.
        let retry = || command(&redis, &postgres, &["dead-letters", "retry", "a", "4"]);
        let said = String::from_utf8_lossy(&retry().stdout).into_owned();
        assert!(said.contains("seq 4: refused again: "), "{body}: {said}");
        assert_eq!(ledger::dead_letters(&postgres, "a").len(), 1, "{body}");
        ledger::assert_whole(&postgres, "a");
        postgres.run("drop trigger meddle on user_coupon");
        assert!(retry().status.success(), "{body}");
        await_coupon(&postgres, "a", "granted, seq", "10|10");
        ledger::assert_whole(&postgres, "a");
    }
}

#[test]
fn where_every_row_is_swallowed_the_coupon_stops() {
    let rule = "create rule swallow as on insert to user_coupon do instead nothing";
    let trigger = "create function swallow() returns trigger language plpgsql as $$ begin return null; end $$;
                   create trigger swallow before insert on user_coupon for each row execute function swallow()";
    for (sql, kind) in [(rule, "rule"), (trigger, "trigger")] {
        let (redis, postgres) = granted(&["a"], 10);
        postgres.run(sql);
        let reconciler = Reconciler::start(&redis, &postgres);
        assert_stopped(&redis, &postgres, &reconciler, "a", "a trigger or a rule on the table keeps rows out");
        postgres.run(&format!("drop {kind} swallow on user_coupon"));
        await_level(&redis, &postgres, "a", 10);
        assert_eq!(ledger::rows(&postgres, "a").len(), 10, "{kind}");
    }
}

#[test]
fn a_swallowed_dead_letter_or_position_stops_the_coupon() {
    for table in ["coupon_dead_letter", "coupon_position"] {
        let (redis, postgres) = granted(&["a"], 10);
        before_insert(&postgres, "if new.user_id = 'u3' then raise exception 'not this one'; end if;");
        let when = if table == "coupon_position" { "update" } else { "insert" };
        postgres.run(&format!(
            "create function swallow() returns trigger language plpgsql as $$ begin return null; end $$;
             create trigger swallow before {when} on {table} for each row execute function swallow()"
        ));
        let reconciler = Reconciler::start(&redis, &postgres);
        let said = if when == "update" {
            "a trigger or a rule on table coupon_position"
        } else {
            "on its way into coupon_dead_letter"
        };
        reconciler.await_log(said);
        ledger::assert_whole(&postgres, "a");
        postgres.run(&format!("drop trigger swallow on {table}"));
        await_level(&redis, &postgres, "a", 10);
        assert_eq!(ledger::dead_letters(&postgres, "a").len(), 1, "{table}");
    }
}

/// Each of these codes is raised for rows of the coupon that is called so.
const CODES: [&str; 9] = ["45000", "42501", "54000", "0A000", "42P01", "55000", "XX000", "57000", "22023"];

#[test]
fn an_error_of_any_code_is_the_rows_own() {
    let (redis, postgres) = granted(&CODES, 40);
    // The first, the last and one between: of a batch, and of each half of it.
    before_insert(
        &postgres,
        "if new.user_id in ('u0', 'u3', 'u39') then raise exception 'not this one' using errcode = new.coupon_id; end if;",
    );
    let _reconciler = Reconciler::start(&redis, &postgres);
    for code in CODES {
        await_level(&redis, &postgres, code, 40);
        let letters = postgres
            .rows(&format!("select user_id, sqlstate from coupon_dead_letter where coupon_id = '{code}' order by seq"));
        assert_eq!(letters, ["u0", "u3", "u39"].map(|user| format!("{user}|{code}")));
        await_coupon(&postgres, code, "granted, seq", "37|40");
    }
}

#[test]
fn a_policy_that_hides_a_user_refuses_that_row_alone() {
    let (redis, postgres) = granted(&["a"], 10);
    postgres.run(
        "create role keeper login;
         grant all on all tables in schema public to keeper;
         alter table user_coupon enable row level security;
         create policy all_but_one on user_coupon using (true) with check (user_id <> 'u3')",
    );
    let url = postgres.url().replacen("//postgres", "//keeper", 1);
    assert!(url.contains("keeper"), "{url}");
    let _reconciler =
        Options::between(&redis, &postgres).database_url(url).args(&["--no-migrate"]).start().await_ready();
    await_level(&redis, &postgres, "a", 10);
    assert_eq!(postgres.rows("select user_id, sqlstate from coupon_dead_letter"), ["u3|42501"]);
}

#[test]
fn where_every_row_is_refused_for_what_may_be_no_rows_fault_the_coupon_stops() {
    let (redis, postgres) = granted(&["a"], 40);
    // After the rows are in: a trial that does not wait for the end of its statement sees nothing of it.
    postgres.run(
        "create function no() returns trigger language plpgsql as
           $$ begin raise exception 'permission denied for table audit' using errcode = '42501'; end $$;
         create constraint trigger no after insert on user_coupon deferrable initially deferred
         for each row execute function no()",
    );
    let reconciler = Reconciler::start(&redis, &postgres);
    assert_stopped(&redis, &postgres, &reconciler, "a", "permission denied for table audit");
    postgres.run("drop trigger no on user_coupon");
    await_level(&redis, &postgres, "a", 40);
    assert_eq!(ledger::rows(&postgres, "a").len(), 40);
}

#[test]
fn a_batch_that_never_fits_a_statements_time_goes_in_smaller_ones() {
    let (redis, postgres) = granted(&["a"], 1000);
    // As PostgreSQL says it when a statement's time is over; so that the test need not wait for that.
    postgres.run(
        "create function slow() returns trigger language plpgsql as $$ begin
             if (select count(*) from batch) > 100 then
                 raise exception 'canceling statement due to statement timeout' using errcode = '57014';
             end if;
             return null;
         end $$;
         create trigger slow after insert on user_coupon referencing new table as batch
         for each statement execute function slow()",
    );
    let reconciler = Reconciler::start(&redis, &postgres);
    await_level(&redis, &postgres, "a", 1000);
    assert_eq!(ledger::dead_letters(&postgres, "a"), []);
    assert!(reconciler.log().contains("takes too long, and is halved"), "it is said aloud");
}

#[test]
fn one_row_that_never_fits_is_said_aloud_and_no_dead_letter() {
    let (redis, postgres) = granted(&["a"], 10);
    before_insert(&postgres, "if new.user_id = 'u3' then raise exception 'too slow' using errcode = '57014'; end if;");
    let reconciler = Reconciler::start(&redis, &postgres);
    await_coupon(&postgres, "a", "granted, seq", "3|3");
    eventually_true("an operator is asked for", || reconciler.metric("coupon_fenced") == Some(1.0));
    assert!(reconciler.log().contains("too slow"));
    assert_eq!(ledger::dead_letters(&postgres, "a"), []);
    postgres.run("drop trigger meddle on user_coupon");
    await_level(&redis, &postgres, "a", 10);
}
