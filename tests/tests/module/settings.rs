//! Configs of the module: load arguments, redis.conf, CONFIG SET.

use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::expect;

#[test]
fn defaults_are_the_published_ones() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("CONFIG GET coupon.issue-max", "[coupon.issue-max 500]"),
            ("CONFIG GET coupon.request-max", "[coupon.request-max 1000]"),
            ("CONFIG GET coupon.stream-keep", "[coupon.stream-keep 0]"),
            ("CONFIG GET coupon.unpersisted-max", "[coupon.unpersisted-max 0]"),
            ("CONFIG GET coupon.waiters-max", "[coupon.waiters-max 10000]"),
        ],
    );
}

#[test]
fn load_arguments_set_them() {
    for args in ["issue-max 500 stream-keep 7", "STREAM-KEEP 7 coupon.issue-max 500"] {
        let redis = Options::shipped().module_args(args).start();
        expect(
            &mut redis.client(),
            &[
                ("CONFIG GET coupon.issue-max", "[coupon.issue-max 500]"),
                ("CONFIG GET coupon.stream-keep", "[coupon.stream-keep 7]"),
            ],
        );
    }
}

#[test]
fn redis_conf_sets_them_and_wins_over_load_arguments() {
    let redis = Options::shipped().module_args("issue-max 500").line("coupon.issue-max 600").start();
    expect(&mut redis.client(), &[("CONFIG GET coupon.issue-max", "[coupon.issue-max 600]")]);
}

#[test]
fn config_set_keeps_to_the_bounds() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("CONFIG SET coupon.issue-max 1", "+OK"),
            ("CONFIG SET coupon.issue-max 100000", "+OK"),
            ("CONFIG SET coupon.issue-max 0", "-ERR CONFIG SET failed"),
            ("CONFIG SET coupon.issue-max -1", "-ERR CONFIG SET failed"),
            ("CONFIG SET coupon.issue-max 100001", "-ERR CONFIG SET failed"),
            ("CONFIG SET coupon.issue-max many", "-ERR CONFIG SET failed"),
            ("CONFIG SET coupon.issue-max 99999999999999999999", "-ERR CONFIG SET failed"),
            ("CONFIG GET coupon.issue-max", "[coupon.issue-max 100000]"),
            ("CONFIG SET coupon.request-max 10000", "+OK"),
            ("CONFIG SET coupon.request-max 10001", "-ERR CONFIG SET failed"),
            ("CONFIG SET coupon.request-max 0", "-ERR CONFIG SET failed"),
            ("CONFIG SET coupon.stream-keep 1000000", "+OK"),
            ("CONFIG SET coupon.stream-keep -1", "-ERR CONFIG SET failed"),
            ("CONFIG GET coupon.stream-keep", "[coupon.stream-keep 1000000]"),
            ("CONFIG SET coupon.unpersisted-max 1000000", "+OK"),
            ("CONFIG SET coupon.unpersisted-max -1", "-ERR CONFIG SET failed"),
            ("CONFIG GET coupon.unpersisted-max", "[coupon.unpersisted-max 1000000]"),
            ("CONFIG SET coupon.waiters-max 0", "+OK"),
            ("CONFIG SET coupon.waiters-max 1000000", "+OK"),
            ("CONFIG SET coupon.waiters-max 1000001", "-ERR CONFIG SET failed"),
            ("CONFIG SET coupon.waiters-max -1", "-ERR CONFIG SET failed"),
            ("CONFIG GET coupon.waiters-max", "[coupon.waiters-max 1000000]"),
        ],
    );
}

#[test]
fn config_rewrite_keeps_them_over_a_restart() {
    let mut redis = Redis::start();
    expect(&mut redis.client(), &[("CONFIG SET coupon.issue-max 77", "+OK"), ("CONFIG REWRITE", "+OK")]);
    redis.stop();
    redis.start_again();
    expect(&mut redis.client(), &[("CONFIG GET coupon.issue-max", "[coupon.issue-max 77]")]);
}

#[test]
fn wrong_load_arguments_refuse_to_load_and_name_the_valid_ones() {
    for (args, said) in [
        (
            "issue-maximum 5",
            "unknown argument 'issue-maximum' of loadmodule; valid are: issue-max, request-max, stream-keep, unpersisted-max",
        ),
        (
            "issue-max 5 verbose",
            "unknown argument 'verbose' of loadmodule; valid are: issue-max, request-max, stream-keep, unpersisted-max",
        ),
        ("%n%s 5", "unknown argument '%n%s' of loadmodule"),
        ("issue-max", "argument 'issue-max' of loadmodule needs a whole number from 1 to 100000"),
        ("issue-max 0", "argument 'issue-max' of loadmodule needs a whole number from 1 to 100000"),
        ("issue-max 100001", "argument 'issue-max' of loadmodule needs a whole number from 1 to 100000"),
        ("issue-max -5", "argument 'issue-max' of loadmodule needs"),
        ("waiters-max 1000001", "argument 'waiters-max' of loadmodule needs a whole number from 0 to 1000000"),
        ("stream-keep x", "argument 'stream-keep' of loadmodule needs a whole number from 0 to"),
    ] {
        match Options::shipped().module_args(args).try_start() {
            Ok(_) => panic!("loaded with: {args}"),
            Err(log) => assert!(log.contains(said), "{args}: expected '{said}' in\n{log}"),
        }
    }
}

#[test]
fn module_load_at_run_time_refuses_the_same_and_the_server_lives() {
    let redis = Options::shipped().without_module().line("enable-module-command yes").start();
    let mut client = redis.client();
    let module = coupon_tests::artifact::module();
    expect(
        &mut client,
        &[
            (format!("MODULE LOAD {} colour red", module.display()), "-ERR Error loading the extension"),
            ("COMMAND LIST FILTERBY MODULE coupon".into(), "[]"),
            ("COUPON.INFO c".into(), "-ERR unknown command"),
            (format!("MODULE LOAD {} issue-max 5", module.display()), "+OK"),
            ("CONFIG GET coupon.issue-max".into(), "[coupon.issue-max 5]"),
            ("COUPON.OPEN c QUANTITY 1".into(), "+OK"),
        ],
    );
}
