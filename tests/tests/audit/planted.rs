//! Drift of every kind, planted by hand, alone and together: found where it is, and nothing besides.

use crate::finding::{Finding, all_left, audit, finding};
use crate::sale::{await_level, await_open, insert, key, request};
use coupon_tests::coupon::Stored;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Reconciler, command};
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::Client;

/// Units, requests that are rows, and requests that are not yet.
const QUANTITY: u64 = 100;
const ROWS: u64 = 30;
const UNPERSISTED: u64 = 6;

/// A coupon in the middle of its sale, on which drift is planted.
struct Field<'a> {
    id: String,
    postgres: &'a Postgres,
    client: Client,
}

impl Field<'_> {
    fn sql(&mut self, sql: &str) {
        self.postgres.run(&sql.replace("ID", &format!("'{}'", self.id)));
    }

    /// Sends a command in which K stands for the coupon's key.
    fn redis(&mut self, line: &str) {
        let reply = self.client.run(&line.replace('K', &key(&self.id)));
        assert!(!reply.is_error(), "{line}: {reply}");
    }

    fn stored(&mut self) -> Stored {
        Stored::read(&mut self.client, &key(&self.id))
    }

    fn score(&mut self, user: &str) -> f64 {
        let stored = self.stored();
        stored.issued.iter().find(|(name, _)| name == user).map(|(_, score)| *score).expect("the user is in")
    }
}

struct Plant {
    name: &'static str,
    plant: fn(&mut Field<'_>),
    found: Vec<Finding>,
}

fn plant(name: &'static str, plant: fn(&mut Field<'_>), found: Vec<Finding>) -> Plant {
    Plant { name, plant, found }
}

fn of_grant(kind: &str, seq: u64, user: &str) -> Finding {
    finding(kind, Some(seq), Some(user), None)
}

fn of_field(kind: &str, field: &str) -> Finding {
    finding(kind, None, None, Some(field))
}

/// A user of grant `seq` is `u<seq>`: requests begin at 1.
fn rows_missing(seqs: std::ops::RangeInclusive<u64>) -> Vec<Finding> {
    seqs.map(|seq| of_grant("row_missing", seq, &format!("u{seq}"))).collect()
}

fn of_rows() -> Vec<Plant> {
    vec![
        plant("a row", |f| f.sql("delete from user_coupon where coupon_id = ID and seq = 5"), rows_missing(5..=5)),
        plant(
            "the first row",
            |f| f.sql("delete from user_coupon where coupon_id = ID and seq = 1"),
            rows_missing(1..=1),
        ),
        plant(
            "the last row",
            |f| f.sql("delete from user_coupon where coupon_id = ID and seq = 30"),
            rows_missing(30..=30),
        ),
        plant(
            "four rows",
            |f| f.sql("delete from user_coupon where coupon_id = ID and seq between 7 and 10"),
            rows_missing(7..=10),
        ),
        plant("every row", |f| f.sql("delete from user_coupon where coupon_id = ID"), rows_missing(1..=30)),
        plant(
            "a row and its count",
            |f| {
                f.sql("delete from user_coupon where coupon_id = ID and seq = 5; update coupon_position set granted = granted - 1 where coupon_id = ID")
            },
            rows_missing(5..=5),
        ),
        plant(
            "a row whose user is gone",
            |f| {
                f.sql("delete from user_coupon where coupon_id = ID and seq = 5");
                f.redis("ZREM K:issued u5");
            },
            vec![finding("row_missing", Some(5), None, None)],
        ),
        plant(
            "another user",
            |f| f.sql("update user_coupon set user_id = 'mallory' where coupon_id = ID and seq = 5"),
            vec![of_grant("row_altered", 5, "mallory")],
        ),
        plant(
            "another time",
            |f| {
                f.sql("update user_coupon set requested_at = requested_at + interval '1 microsecond' where coupon_id = ID and seq = 5")
            },
            vec![of_grant("row_altered", 5, "u5")],
        ),
        plant(
            "another chain",
            |f| f.sql("update user_coupon set chain = chain + 1 where coupon_id = ID and seq = 5"),
            vec![of_grant("row_altered", 5, "u5")],
        ),
        plant(
            "another chain in the last row",
            |f| f.sql("update user_coupon set chain = chain + 1 where coupon_id = ID and seq = 30"),
            vec![of_grant("row_altered", 30, "u30")],
        ),
        plant(
            "two users exchanged",
            |f| {
                f.sql("update user_coupon set user_id = 'x' where coupon_id = ID and seq = 8");
                f.sql("update user_coupon set user_id = 'u8' where coupon_id = ID and seq = 9");
                f.sql("update user_coupon set user_id = 'u9' where coupon_id = ID and seq = 8");
            },
            vec![of_grant("row_altered", 8, "u9"), of_grant("row_altered", 9, "u8")],
        ),
        plant(
            "a row nobody granted",
            |f| {
                f.sql(
                    "insert into user_coupon (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain)
                     values (ID, 'mallory', 77, now(), now(), 1, 1)",
                );
            },
            vec![of_grant("row_extra", 77, "mallory")],
        ),
        plant(
            "a dead letter beside its row",
            |f| {
                f.sql(
                    "insert into coupon_dead_letter (coupon_id, seq, user_id, requested_at, granted_at, epoch, chain, sqlstate, reason)
                     select coupon_id, seq, user_id, requested_at, granted_at, epoch, chain, '23514', 'planted' from user_coupon
                     where coupon_id = ID and seq = 5; update coupon_position set granted = granted - 1 where coupon_id = ID",
                );
            },
            vec![of_grant("row_extra", 5, "u5")],
        ),
        plant(
            "the coupon's chain",
            |f| f.sql("update coupon_position set chain = chain + 1 where coupon_id = ID"),
            vec![of_field("position_wrong", "chain")],
        ),
        plant(
            "the coupon's seq, back",
            |f| {
                f.sql(
                    "update coupon_position set seq = 28, granted = 28,
                     chain = (select chain from user_coupon where coupon_id = ID and seq = 28) where coupon_id = ID",
                );
            },
            vec![of_field("position_wrong", "seq")],
        ),
    ]
}

fn of_redis() -> Vec<Plant> {
    vec![
        plant("a user removed", |f| f.redis("ZREM K:issued u5"), vec![of_grant("member_missing", 5, "u5")]),
        plant("the last user removed", |f| f.redis("ZREM K:issued u30"), vec![of_grant("member_missing", 30, "u30")]),
        plant(
            "a user removed who is no row yet",
            |f| f.redis("ZREM K:issued u33"),
            vec![of_grant("member_missing", 33, "u33")],
        ),
        plant(
            "a user added among the granted",
            |f| {
                let between = f.score("u5") + 0.5;
                f.redis(&format!("ZADD K:issued {between} mallory"));
            },
            vec![finding("member_foreign", None, Some("mallory"), None)],
        ),
        plant(
            "a later score",
            |f| {
                let later = f.score("u5") + 0.5;
                f.redis(&format!("ZADD K:issued {later} u5"));
            },
            vec![of_grant("score_wrong", 5, "u5")],
        ),
        plant(
            "a score behind everybody",
            |f| {
                let last = f.score("u36") + 1.0;
                f.redis(&format!("ZADD K:issued {last} u5"));
            },
            vec![of_grant("score_wrong", 5, "u5")],
        ),
        plant("a score before everybody", |f| f.redis("ZADD K:issued 1 u5"), vec![of_grant("score_wrong", 5, "u5")]),
        plant("seq, up", |f| f.redis("HINCRBY K seq 1"), vec![of_field("counter_wrong", "seq")]),
        plant("seq, down", |f| f.redis("HINCRBY K seq -1"), vec![of_field("counter_wrong", "seq")]),
        plant("chain", |f| f.redis("HINCRBY K chain 1"), vec![of_field("counter_wrong", "chain")]),
        plant("chain that is none", |f| f.redis("HSET K chain x"), vec![of_field("counter_wrong", "hash")]),
        plant("persisted", |f| f.redis("HSET K persisted 34"), vec![of_field("counter_wrong", "persisted")]),
        plant(
            "persisted beyond all",
            |f| f.redis("HSET K persisted 1000"),
            vec![of_field("counter_wrong", "persisted")],
        ),
        plant(
            "persisted_to",
            |f| f.redis("HSET K persisted_to 9007199254740991"),
            vec![of_field("counter_wrong", "persisted_to")],
        ),
        plant("remaining", |f| f.redis("HINCRBY K remaining 5"), vec![of_field("counter_wrong", "remaining")]),
        plant(
            "granted_to, up",
            |f| f.redis("HSET K granted_to 9007199254740991"),
            vec![of_field("counter_wrong", "granted_to")],
        ),
        plant(
            "granted_to, down",
            |f| {
                let fifth = f.score("u5");
                f.redis(&format!("HSET K granted_to {fifth}"));
            },
            vec![of_field("counter_wrong", "granted_to")],
        ),
        plant(
            "an entry removed that is no row yet",
            |f| {
                let id = f.stored().grants[3].id;
                f.redis(&format!("XDEL K:grants {id}"));
            },
            vec![finding("entry_wrong", Some(33), None, None)],
        ),
        plant(
            "the newest entry removed",
            |f| {
                let id = f.stored().grants.last().expect("an entry").id;
                f.redis(&format!("XDEL K:grants {id}"));
            },
            vec![finding("entry_wrong", Some(36), None, None)],
        ),
        plant(
            "the newest persisted entry removed",
            |f| {
                let id = f.stored().grants[0].id;
                f.redis(&format!("XDEL K:grants {id}"));
            },
            vec![finding("entry_wrong", Some(30), None, None)],
        ),
        plant(
            "a foreign entry",
            |f| f.redis("XADD K:grants * name mallory"),
            vec![finding("entry_wrong", Some(0), None, None)],
        ),
        plant(
            "a forged entry",
            |f| f.redis("XADD K:grants 9-37 user mallory requested_at 5 granted_at 5 chain 5"),
            vec![of_grant("entry_wrong", 37, "mallory")],
        ),
        plant(
            "an altered entry",
            |f| {
                // Written anew from the start: newer servers let no ID be given again that was deleted.
                let grants = f.stored().grants;
                f.redis("DEL K:grants");
                for (place, grant) in grants.iter().enumerate() {
                    let user = if place == 3 { "mallory" } else { &grant.user };
                    let (at, granted_at, chain) = (grant.requested_at, grant.granted_at_ms, grant.chain);
                    f.redis(&format!(
                        "XADD K:grants {} user {user} requested_at {at} granted_at {granted_at} chain {chain}",
                        grant.id
                    ));
                }
            },
            vec![of_grant("entry_wrong", 33, "mallory")],
        ),
    ]
}

/// Coupons in the middle of their sales: rows, grants that are none yet, and nobody else at work.
fn fields(ids: &[String]) -> (Redis, Postgres) {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    assert!(command(&redis, &postgres, &["migrate"]).status.success());
    for id in ids {
        insert(&postgres, id, QUANTITY, &[("mode", "'INSTANT'")]);
    }
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    for id in ids {
        await_open(&mut client, id);
        request(&mut client, id, "u", 1..ROWS + 1);
    }
    for id in ids {
        coupon_tests::ledger::await_coupon(&postgres, id, "seq", &ROWS.to_string());
        coupon_tests::deadline::eventually_true("all is acknowledged", || {
            client.run(&format!("COUPON.INFO {}", key(id))).field("persisted").int() == ROWS as i64
        });
    }
    reconciler.kill();
    for id in ids {
        request(&mut client, id, "u", ROWS + 1..ROWS + UNPERSISTED + 1);
    }
    (redis, postgres)
}

fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort();
    findings
}

#[test]
fn each_plant_is_found_where_it_is_and_nothing_else() {
    let plants: Vec<Plant> = of_rows().into_iter().chain(of_redis()).collect();
    let ids: Vec<String> = (0..plants.len()).map(|n| format!("c{n:02}")).chain(["untouched".into()]).collect();
    let (redis, postgres) = fields(&ids);
    let (code, coupons) = audit(&redis, &postgres, &[]);
    assert_eq!(code, Some(0), "before anything is planted: {coupons:?}");
    for (plant, id) in plants.iter().zip(&ids) {
        (plant.plant)(&mut Field { id: id.clone(), postgres: &postgres, client: redis.client() });
    }
    let (code, coupons) = audit(&redis, &postgres, &[]);
    assert_eq!(code, Some(1));
    assert_eq!(coupons.len(), ids.len());
    let mut wrong = Vec::new();
    for (coupon, id) in coupons.into_iter().zip(&ids) {
        assert_eq!(&coupon.id, id);
        let plant = plants.iter().zip(&ids).find(|(_, of)| *of == id).map(|(plant, _)| plant);
        let (name, expected) = plant.map_or(("untouched", vec![]), |plant| (plant.name, plant.found.clone()));
        if coupon.skipped.is_some() || sorted(coupon.left.clone()) != sorted(expected.clone()) {
            wrong.push(format!("{name}: {:?} {:?} instead of {expected:?}", coupon.skipped, coupon.left));
        }
        assert_eq!(coupon.repaired, [], "without --repair nothing is touched");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn eight_kinds_on_one_coupon_are_all_found() {
    let (redis, postgres) = fields(&["a".into()]);
    let mut field = Field { id: "a".into(), postgres: &postgres, client: redis.client() };
    let between = field.score("u20") + 0.5;
    let later = field.score("u23") + 0.5;
    let entry = field.stored().grants[3].id;
    field.sql("delete from user_coupon where coupon_id = ID and seq = 5");
    field.sql("update user_coupon set user_id = 'eve' where coupon_id = ID and seq = 10");
    field.sql(
        "insert into user_coupon (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain)
         values (ID, 'trudy', 77, now(), now(), 1, 1)",
    );
    field.redis("ZREM K:issued u15");
    field.redis(&format!("ZADD K:issued {between} mallory"));
    field.redis(&format!("ZADD K:issued {later} u23"));
    field.redis("HINCRBY K remaining 5");
    field.redis(&format!("XDEL K:grants {entry}"));
    let expected = vec![
        of_grant("row_missing", 5, "u5"),
        of_grant("row_altered", 10, "eve"),
        of_grant("row_extra", 77, "trudy"),
        of_grant("member_missing", 15, "u15"),
        finding("member_foreign", None, Some("mallory"), None),
        of_grant("score_wrong", 23, "u23"),
        of_field("counter_wrong", "remaining"),
        finding("entry_wrong", Some(33), None, None),
    ];
    let (code, coupons) = audit(&redis, &postgres, &["a"]);
    assert_eq!(code, Some(1));
    assert_eq!(sorted(coupons[0].left.clone()), sorted(expected), "{:?}", coupons[0].skipped);
}

#[test]
fn a_line_names_coupon_user_reason_and_what_to_do() {
    let (redis, postgres) = fields(&["a".into()]);
    postgres.run("update user_coupon set user_id = 'mallory' where coupon_id = 'a' and seq = 5");
    let output = command(&redis, &postgres, &["audit", "a"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let line = text.lines().next().unwrap_or_default();
    for word in
        ["a  row_altered  seq 5  user mallory", "the chain proves user u5", "->  set the row to what was granted"]
    {
        assert!(line.contains(word), "{word}: {text}");
    }
    assert!(text.ends_with("1 coupon(s): 1 finding(s) left, 0 repaired, 0 not compared\n"), "{text}");
}

#[test]
fn a_coupon_that_is_not_open_is_not_called_clean() {
    let (mut redis, postgres) = fields(&["a".into()]);
    redis.stop();
    redis.start_again();
    let (code, coupons) = audit(&redis, &postgres, &["a"]);
    assert_eq!((code, coupons[0].left.len()), (Some(1), 0));
    assert!(coupons[0].skipped.as_ref().is_some_and(|why| why.contains("coupon-reconciler run")), "{coupons:?}");
    let _reconciler = Reconciler::start(&redis, &postgres);
    coupon_tests::ledger::await_coupon(&postgres, "a", "seq", &(ROWS + UNPERSISTED).to_string());
    let (code, coupons) = audit(&redis, &postgres, &["a"]);
    assert_eq!((code, all_left(&coupons)), (Some(0), vec![]));
}

#[test]
fn wrong_use_and_missing_servers_have_their_codes() {
    let (mut redis, postgres) = fields(&[]);
    let output = command(&redis, &postgres, &["audit", "nobody"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no coupon nobody"));
    assert_eq!(command(&redis, &postgres, &["audit", "--mend"]).status.code(), Some(2));
    redis.stop();
    assert_eq!(command(&redis, &postgres, &["audit"]).status.code(), Some(3));
}

#[test]
fn a_kept_stream_is_compared_too() {
    let (redis, postgres) = crate::sale::servers();
    insert(&postgres, "a", QUANTITY, &[("mode", "'INSTANT'")]);
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 1..ROWS + 1);
    await_level(&redis, &postgres, "a", ROWS);
    let (code, coupons) = audit(&redis, &postgres, &[]);
    assert_eq!((code, all_left(&coupons)), (Some(0), vec![]));
}
