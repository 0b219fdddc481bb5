//! A crowd of users behind programs in Python and Node, and the page that is watched meanwhile.

use coupon_tests::artifact;
use coupon_tests::browser::{Browser, Page, Viewport};
use coupon_tests::process::{Process, Program};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What a crowd needs at most, a hundred times over.
const TIME_MAX: Duration = Duration::from_secs(120);

/// How often each outcome was heard.
pub type Heard = BTreeMap<String, u64>;

/// A crowd behind one program.
struct Crowd {
    name: &'static str,
    process: Process,
    _directory: TempDir,
}

impl Crowd {
    fn start(name: &'static str, redis_url: &str, key: &str, users: &std::ops::Range<u32>) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let script = |file: &str| artifact::workspace().join("tests/clients").join(file);
        let (interpreter, mut args) = match name {
            "python" => ("python3", vec![script("crowd.py")]),
            client => ("node", vec![script("crowd.cjs"), client.into()]),
        };
        args.extend([key, &users.start.to_string(), &users.end.to_string()].map(PathBuf::from));
        let packages =
            |language: &str, folder: &str| artifact::client_packages(language).join(folder).display().to_string();
        let program = Program {
            name,
            file: artifact::on_path(interpreter).unwrap_or_else(|| panic!("{interpreter} is missing")),
            args: args.into_iter().map(Into::into).collect(),
            env: vec![
                ("REDIS_URL".into(), redis_url.into()),
                ("PYTHONPATH".into(), packages("python", "")),
                ("NODE_PATH".into(), packages("node", "node_modules")),
            ],
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            account: None,
        };
        Self { name, process: program.start(), _directory: directory }
    }

    /// What it has heard, if it has ended.
    fn heard(&mut self) -> Option<Heard> {
        let ended = self.process.ended()?;
        let said = self.process.log();
        assert!(ended.success(), "{} ended with {ended}: {said}", self.name);
        let count = |pair: &str| {
            let (outcome, count) = pair.split_once('=')?;
            Some((outcome.to_owned(), count.parse().ok()?))
        };
        let heard = said.split_whitespace().map(|pair| count(pair).unwrap_or_else(|| panic!("{}: {said}", self.name)));
        Some(heard.collect())
    }
}

/// What the crowds have heard together, and what was seen of the coupon on the page meanwhile: granted, and whether it said
/// how many requests come in.
pub struct Watched {
    pub heard: Heard,
    pub granted: Vec<u64>,
    pub is_rate_shown: bool,
}

/// The text of a cell of the coupon with this id.
fn cell(page: &mut Page<'_>, id: &str, name: &str) -> String {
    let row =
        format!("[...document.querySelectorAll('tbody tr')].find((row) => row.firstChild.textContent === {id:?})");
    let text = page.evaluate(&format!("{row}?.querySelector('[data-name=\"{name}\"]')?.textContent ?? ''"));
    text.as_str().expect("text").replace(',', "")
}

/// Sends three crowds at once, whose users are in part the same, and watches the page until all is persisted.
pub fn watch(page_port: u16, redis_url: &str, id: &str, key: &str, quantity: u64) -> Watched {
    let mut browser = Browser::start();
    let mut page = browser.open(&format!("http://127.0.0.1:{page_port}/"), Viewport::DESKTOP);
    let mut watched = Watched { heard: Heard::new(), granted: Vec::new(), is_rate_shown: false };
    let crowds = [("python", 0..1000), ("redis", 500..1500), ("ioredis", 1000..2000)];
    let mut running: Vec<Crowd> =
        crowds.iter().map(|(name, users)| Crowd::start(name, redis_url, key, users)).collect();
    let started = Instant::now();
    while !running.is_empty() || cell(&mut page, id, "Persisted") != quantity.to_string() {
        assert!(
            started.elapsed() < TIME_MAX,
            "{} crowds are still there; granted: {:?}",
            running.len(),
            watched.granted
        );
        running.retain_mut(|crowd| {
            let heard = crowd.heard();
            for (outcome, count) in heard.iter().flatten() {
                *watched.heard.entry(outcome.clone()).or_default() += count;
            }
            heard.is_none()
        });
        let granted = cell(&mut page, id, "Granted").parse().unwrap_or(0);
        if watched.granted.last() != Some(&granted) {
            watched.granted.push(granted);
            page.keep_screenshot(&format!("sale-{granted:04}"));
        }
        watched.is_rate_shown |= !["", "0/s"].contains(&cell(&mut page, id, "Requests").as_str());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(page.evaluate("violations"), serde_json::json!([]), "scripts failed, or broke the page's policy");
    watched
}
