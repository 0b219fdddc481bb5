//! The live page in a real browser.

use crate::sale::{await_open, insert, request, servers};
use coupon_tests::browser::{Browser, Page, Viewport};
use coupon_tests::deadline::eventually_true;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::resp::expect;
use serde_json::Value;

fn url(reconciler: &Reconciler) -> String {
    format!("http://127.0.0.1:{}/", reconciler.listen_port)
}

/// Puts coupons `c-1` to `c-n` on offer.
fn insert_many(postgres: &Postgres, coupons: u32) {
    postgres.run(&format!(
        "insert into coupon(id, name, quantity, status, mode)
         select 'c-' || n, 'Test', 50, 'AVAILABLE', 'INSTANT' from generate_series(1, {coupons}) n"
    ));
}

/// The text of a coupon's cell.
fn cell(id: &str, name: &str) -> String {
    format!(
        "[...document.querySelectorAll('tbody tr')].find((row) => row.firstChild.textContent === {id:?})
            ?.querySelector('[data-name=\"{name}\"]').textContent"
    )
}

fn assert_harmless(page: &mut Page<'_>) {
    let violations = page.evaluate("violations");
    assert_eq!(violations, Value::Array(Vec::new()), "scripts failed, or broke the page's policy");
}

#[test]
fn a_thousand_coupons_are_shown_live_and_found() {
    let (redis, postgres) = servers();
    insert_many(&postgres, 1000);
    let reconciler = Options::between(&redis, &postgres).start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "c-1000");
    let mut browser = Browser::start();
    let mut page = browser.open(&url(&reconciler), Viewport::DESKTOP);
    page.await_true("document.querySelectorAll('tbody tr:not(.problem)').length === 1000");
    page.await_true(&format!("{} === 'open'", cell("c-7", "Fence")));
    // Numbers change where they stand: the rows stay the same elements.
    page.evaluate("window.before = [...document.querySelectorAll('tbody tr')]");
    request(&mut client, "c-7", "u", 0..30);
    page.await_true(&format!("{} === '30'", cell("c-7", "Persisted")));
    for (name, text) in
        [("Status", "AVAILABLE"), ("Quantity", "50"), ("Granted", "30"), ("Remaining", "20"), ("Lag", "0")]
    {
        assert_eq!(page.evaluate(&cell("c-7", name)), text, "{name}");
    }
    let drawn = "[...document.querySelectorAll('polyline')].filter((line) => line.getAttribute('points')).length";
    assert_eq!(page.evaluate(drawn), 1, "a line is drawn for the one that sold");
    for name in ["Requests", "Grants"] {
        assert_ne!(page.evaluate(&cell("c-7", name)), "0/s", "{name}");
    }
    let moved = "[...document.querySelectorAll('tbody tr')].filter((row, n) => row !== before[n]).length";
    assert_eq!(page.evaluate(moved), 0);
    page.keep_screenshot("desktop");
    // Sorted by a column, as numbers, and back; the first click shows the largest.
    let click = |name: &str| {
        format!("[...document.querySelectorAll('th button')].find((button) => button.textContent === '{name}').click()")
    };
    page.evaluate(&click("Granted"));
    let first = "document.querySelector('tbody tr td').textContent";
    assert_eq!(page.evaluate(first), "c-7");
    page.evaluate(&click("Coupon"));
    let ids = "[...document.querySelectorAll('tbody tr')].slice(0, 3).map((row) => row.firstChild.textContent)";
    assert_eq!(page.evaluate(ids), serde_json::json!(["c-1", "c-2", "c-3"]), "as people count");
    // Searched.
    let search = |text: &str| {
        format!(
            "byId('search').value = '{text}'; byId('search').dispatchEvent(new Event('input')); document.querySelectorAll('tbody tr').length"
        )
    };
    assert_eq!(page.evaluate(&search("c-99")), 11, "c-99 and c-990 to c-999");
    assert_eq!(page.evaluate(&search("available")), 1000);
    assert_eq!(page.evaluate(&search("no such")), 0);
    assert_harmless(&mut page);
}

#[test]
fn the_page_fits_a_phone_and_a_desktop_in_light_and_dark() {
    let (redis, postgres) = servers();
    insert_many(&postgres, 30);
    let long = "x".repeat(200);
    insert(&postgres, &long, 1_000_000_000, &[]);
    let reconciler = Reconciler::start(&redis, &postgres);
    await_open(&mut redis.client(), "c-30");
    let mut browser = Browser::start();
    for (name, viewport) in [
        ("phone", Viewport::PHONE),
        ("phone-dark", Viewport::PHONE.dark()),
        ("narrow", Viewport { width: 320, ..Viewport::PHONE }),
        ("desktop-dark", Viewport::DESKTOP.dark()),
        ("wide", Viewport { width: 1920, ..Viewport::DESKTOP }),
        ("tablet", Viewport { width: 900, ..Viewport::DESKTOP }),
    ] {
        let mut page = browser.open(&url(&reconciler), viewport);
        page.await_true("document.querySelectorAll('tbody tr').length === 31");
        page.keep_screenshot(name);
        let sideways = page.evaluate("document.documentElement.scrollWidth - innerWidth");
        assert!(sideways.as_i64() <= Some(0), "{name} scrolls sideways by {sideways} px");
        // The ids alone may be cut, where there is a table.
        let cut = "[...document.querySelectorAll('td:not(:first-child), th:not(:first-child) button')]
            .filter((cell) => cell.offsetParent && cell.scrollWidth > cell.clientWidth).map((cell) => cell.textContent)";
        assert_eq!(page.evaluate(cut), Value::Array(Vec::new()), "{name} cuts text off");
        // As the WCAG count it: 4.5 is what text needs.
        let contrast = "(() => {
            const light = (color) => color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
                .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
                .reduce((sum, part, n) => sum + part * [0.2126, 0.7152, 0.0722][n], 0);
            const ground = light(getComputedStyle(document.body).backgroundColor);
            const texts = ['h1', '#sides', 'td', 'td.good', 'footer', '#sums span']
                .map((text) => light(getComputedStyle(document.querySelector(text)).color));
            return [ground, Math.min(...texts.map((text) => (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05)))];
        })()";
        let contrast = page.evaluate(contrast);
        assert_eq!(contrast[0].as_f64() < Some(0.2), viewport.is_dark, "{name} has another ground: {contrast}");
        assert!(contrast[1].as_f64() >= Some(4.5), "{name} is hard to read: {contrast}");
        assert_harmless(&mut page);
    }
}

#[test]
fn what_needs_attention_is_red_and_what_users_wrote_is_text() {
    let (redis, postgres) = servers();
    let hostile = "<img src=x onerror=alert(1)>&amp;</script><script>alert(1)</script>";
    for id in ["well", "letter", "drifted", hostile] {
        insert(&postgres, id, 20, &[("mode", "'INSTANT'")]);
    }
    postgres.run("alter table user_coupon add constraint not_that_one check (user_id <> 'refused')");
    let reconciler = Options::between(&redis, &postgres).args(&["--audit-interval", "200ms"]).start().await_ready();
    let mut client = redis.client();
    for id in ["well", "letter", "drifted"] {
        await_open(&mut client, id);
    }
    expect(&mut client, &[("COUPON.REQUEST coupon:{letter} refused", "GRANTED")]);
    request(&mut client, "drifted", "u", 0..3);
    let mut browser = Browser::start();
    let mut page = browser.open(&url(&reconciler), Viewport::DESKTOP);
    page.await_true(&format!("{} === '1'", cell("letter", "Dead letters")));
    page.await_true(&format!("{} === '3'", cell("drifted", "Persisted")));
    expect(&mut client, &[("ZREM coupon:{drifted}:issued u1", ":1")]);
    page.await_true(&format!("Number({}) > 0", cell("drifted", "Drift")));
    let red = "[...document.querySelectorAll('tbody tr.alarm')].map((row) => row.firstChild.textContent).sort()";
    assert_eq!(page.evaluate(red), serde_json::json!(["drifted", "letter"]));
    page.keep_screenshot("alarms");
    page.evaluate("document.getElementById('alarms').click()");
    assert_eq!(page.evaluate("document.querySelectorAll('tbody tr.alarm').length"), 2);
    page.evaluate("document.getElementById('alarms').click()");
    let shown = "[...document.querySelectorAll('tbody td:first-child')].map((cell) => cell.textContent)";
    assert!(page.evaluate(shown).as_array().is_some_and(|ids| ids.iter().any(|id| id == hostile)));
    assert_eq!(page.evaluate("document.images.length + document.scripts.length"), 1, "the page's own script alone");
    assert_harmless(&mut page);
}

#[test]
fn the_page_says_who_is_away() {
    let (redis, mut postgres) = servers();
    insert(&postgres, "a", 20, &[("mode", "'INSTANT'")]);
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    let mut browser = Browser::start();
    let mut page = browser.open(&url(&reconciler), Viewport::PHONE);
    page.await_true(&format!("{} === 'open'", cell("a", "Fence")));
    assert_eq!(page.evaluate("document.getElementById('trouble').textContent"), "");
    postgres.stop();
    page.await_true("document.getElementById('trouble').textContent.startsWith('PostgreSQL is away: ')");
    // What Redis says is still of this moment.
    request(&mut client, "a", "u", 0..5);
    page.await_true(&format!("{} === '5'", cell("a", "Granted")));
    page.await_true(&format!("{}.startsWith('5 · ')", cell("a", "Lag")));
    postgres.start_again();
    page.await_true(&format!("{} === '5'", cell("a", "Persisted")));
    page.await_true("document.getElementById('trouble').textContent === ''");
    reconciler.kill();
    page.await_true("document.getElementById('trouble').textContent.startsWith('The reconciler cannot be reached')");
    page.keep_screenshot("unreachable");
    eventually_true("it keeps what it knew", || page.evaluate(&cell("a", "Granted")) == "5");
    assert_harmless(&mut page);
}
