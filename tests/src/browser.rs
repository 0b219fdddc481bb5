//! A real browser without a window: Chromium, told what to do through its DevTools protocol.
//!
//! The protocol goes over two pipes, so no driver and no port is needed.

use crate::artifact;
use crate::deadline::{DEADLINE, eventually};
use crate::process::{Process, Program};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;
use tempfile::TempDir;

/// Where screenshots are kept, if anywhere.
const SCREENSHOTS: &str = "COUPON_TEST_SCREENSHOTS";

/// Ends each message of the protocol.
const END: u8 = 0;

/// What a page is looked at with.
#[derive(Debug, Clone, Copy)]
pub struct Viewport {
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// Whether it is a phone.
    pub is_phone: bool,
    /// Whether its owner prefers dark colours.
    pub is_dark: bool,
}

impl Viewport {
    /// A desktop's.
    pub const DESKTOP: Self = Self { width: 1280, height: 800, is_phone: false, is_dark: false };
    /// A phone's, held upright.
    pub const PHONE: Self = Self { width: 390, height: 844, is_phone: true, is_dark: false };

    /// The same in dark colours.
    #[must_use]
    pub const fn dark(self) -> Self {
        Self { is_dark: true, ..self }
    }
}

/// A running browser.
pub struct Browser {
    tell: File,
    hear: Receiver<Value>,
    calls: u64,
    // Dropped in this order: it lives in the directory.
    _process: Process,
    _directory: TempDir,
}

impl Browser {
    /// Starts it.
    ///
    /// # Panics
    /// If it is not installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        let chromium = artifact::chromium();
        let directory = tempfile::Builder::new().prefix("coupon-browser-").tempdir().expect("temporary directory");
        let pipe = |name: &str| -> PathBuf {
            let path = directory.path().join(name);
            assert!(Command::new("mkfifo").arg(&path).status().is_ok_and(|made| made.success()), "mkfifo {name}");
            path
        };
        let (calls, answers) = (pipe("calls"), pipe("answers"));
        let profile = format!("--user-data-dir={}", directory.path().join("profile").display());
        let mut args = vec!["-c".into(), r#"exec "$0" "$@" 3<"$CALLS" 4>"$ANSWERS""#.into(), chromium.into_os_string()];
        args.extend(
            [
                "--headless",
                // Tests may run as root, where there is no sandbox; what is looked at is our own page.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--remote-debugging-pipe",
                &profile,
            ]
            .map(Into::into),
        );
        let program = Program {
            name: "chromium",
            file: "/bin/sh".into(),
            args,
            env: [("CALLS", &calls), ("ANSWERS", &answers)]
                .map(|(name, path)| (name.to_owned(), path.display().to_string()))
                .to_vec(),
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            account: None,
        };
        let process = program.start();
        // In the order in which the shell opens them.
        let tell = File::options().write(true).open(calls).expect("the browser reads its calls");
        let heard = File::open(answers).expect("the browser answers");
        Self { tell, hear: listen(heard), calls: 0, _process: process, _directory: directory }
    }

    /// Opens a page.
    ///
    /// # Panics
    /// If the browser refuses.
    #[must_use]
    pub fn open(&mut self, url: &str, viewport: Viewport) -> Page<'_> {
        let target = self.call(None, "Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.call(None, "Target.attachToTarget", attach)["sessionId"].clone();
        let mut page = Page { browser: self, session };
        let Viewport { width, height, is_phone, is_dark } = viewport;
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone});
        page.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = json!({"name": "prefers-color-scheme", "value": if is_dark { "dark" } else { "light" }});
        page.call("Emulation.setEmulatedMedia", json!({"features": [scheme]}));
        page.call("Page.enable", json!({}));
        let watch = "window.violations = [];
            document.addEventListener('securitypolicyviolation', (event) => violations.push(event.violatedDirective));
            window.addEventListener('error', (event) => violations.push(event.message));";
        page.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": watch}));
        page.call("Page.navigate", json!({"url": url}));
        page
    }

    fn call(&mut self, session: Option<&Value>, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": params});
        if let Some(session) = session {
            call["sessionId"] = session.clone();
        }
        let message = [call.to_string().as_bytes(), &[END]].concat();
        self.tell.write_all(&message).expect("the browser listens");
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut answer = self.hear.recv_timeout(left).unwrap_or_else(|_| panic!("no answer to {method}"));
            // Events come in between.
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
        }
    }
}

fn listen(answers: File) -> Receiver<Value> {
    let (send, hear) = channel();
    thread::spawn(move || {
        let mut answers = BufReader::new(answers);
        let mut message = Vec::new();
        while answers.read_until(END, &mut message).is_ok_and(|read| read > 0) {
            message.pop();
            let Ok(answer) = serde_json::from_slice(&message) else { break };
            if send.send(answer).is_err() {
                break;
            }
            message.clear();
        }
    });
    hear
}

/// An open page.
pub struct Page<'b> {
    browser: &'b mut Browser,
    session: Value,
}

impl Page<'_> {
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.browser.call(Some(&self.session), method, params)
    }

    /// The value of a JavaScript expression, as JSON.
    ///
    /// # Panics
    /// If it throws.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// At the deadline.
    pub fn await_true(&mut self, expression: &str) {
        eventually(&format!("in the page: {expression}"), || (self.evaluate(expression) == true).then_some(()));
    }

    /// Keeps a picture of what is seen, if somebody asked for pictures.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn keep_screenshot(&mut self, name: &str) {
        let Some(directory) = env::var_os(SCREENSHOTS) else { return };
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let png = STANDARD.decode(answer["data"].as_str().expect("base64")).expect("base64");
        fs::write(Path::new(&directory).join(format!("{name}.png")), png).expect("a screenshot can be written");
    }
}
