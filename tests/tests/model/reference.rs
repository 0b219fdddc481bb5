//! What a coupon is, in the plainest way: a list of users, and how many of them are granted.

use std::collections::BTreeSet;

/// Grants of the ledger to restore: user and arrival.
pub type Ledger = Vec<(u8, u64)>;

/// When requests are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    Always,
    Early,
    Over,
}

impl Window {
    /// Options of OPEN, with instants long gone or far away.
    pub const fn options(self) -> &'static str {
        match self {
            Self::Always => " OPENS 0 EXPIRES 0",
            Self::Early => " OPENS 99999999999999 EXPIRES 0",
            Self::Over => " OPENS 0 EXPIRES 631152000000",
        }
    }
}

/// A coupon.
#[derive(Debug, Clone)]
pub struct Coupon {
    status: &'static str,
    mode: &'static str,
    quantity: u64,
    waitlist: u64,
    window: Window,
    epoch: u64,
    is_open: bool,
    /// Whether the gate was shut on purpose, which no restart does.
    is_shut: bool,
    /// Who is granted, in the order of grants, with the arrival where it is the ledger's.
    granted: Vec<(u8, Option<u64>)>,
    /// Who waits, in order.
    waiting: Vec<u8>,
    persisted: usize,
    /// Number of the first entry in the stream.
    first_entry: usize,
    /// Whether the ledger's users were put before others who arrived earlier: then their order among themselves is the
    /// ledger's business.
    is_mixed: bool,
    revision: u64,
    /// Whose rows the ledger refused, as it said.
    refused: BTreeSet<u8>,
}

fn error(code: &str) -> Vec<String> {
    vec![format!("-{code}")]
}

fn ok() -> Vec<String> {
    vec!["+OK".into()]
}

impl Coupon {
    pub fn open(
        slot: &mut Option<Self>,
        quantity: u64,
        status: Option<&'static str>,
        mode: Option<&'static str>,
        waitlist: Option<u64>,
        window: Option<Window>,
        [epoch, revision]: [Option<u64>; 2],
    ) -> Vec<String> {
        if revision.is_some() && epoch.is_none() {
            return error("ERR");
        }
        let mut coupon = slot.clone().unwrap_or(Self {
            status: "AVAILABLE",
            mode: "QUEUE",
            quantity,
            waitlist: 0,
            window: Window::Always,
            epoch: epoch.unwrap_or(0),
            is_open: false,
            is_shut: false,
            granted: Vec::new(),
            waiting: Vec::new(),
            persisted: 0,
            first_entry: 0,
            is_mixed: false,
            revision: 0,
            refused: BTreeSet::new(),
        });
        if coupon.has_passed(epoch, revision) {
            return error("STALEEPOCH");
        }
        if quantity < coupon.granted.len() as u64 {
            return error("ERR");
        }
        coupon.revision = revision.unwrap_or(coupon.revision);
        coupon.quantity = quantity;
        coupon.mode = mode.unwrap_or(coupon.mode);
        coupon.waitlist = waitlist.unwrap_or(coupon.waitlist);
        coupon.window = window.unwrap_or(coupon.window);
        coupon.status = if status.unwrap_or(coupon.status) == "STANDARD" {
            "STANDARD"
        } else if coupon.remaining() == 0 {
            "ISSUED"
        } else if coupon.status == "EXPIRED" && coupon.window == Window::Over {
            "EXPIRED"
        } else {
            "AVAILABLE"
        };
        *slot = Some(coupon);
        ok()
    }

    /// Whether whoever calls has missed a later epoch or a newer definition.
    fn has_passed(&self, epoch: Option<u64>, revision: Option<u64>) -> bool {
        epoch.is_some_and(|epoch| epoch < self.epoch) || revision.is_some_and(|revision| revision < self.revision)
    }

    /// After a restart or a failover.
    pub fn fenced(mut self) -> Self {
        self.is_open = false;
        self
    }

    fn is_fenced(&self) -> bool {
        self.epoch > 0 && !self.is_open
    }

    fn requested(&self) -> u64 {
        (self.granted.len() + self.waiting.len()) as u64
    }

    fn take(&mut self, user: u8) {
        self.granted.push((user, None));
        if self.status == "AVAILABLE" && self.remaining() == 0 {
            self.status = "ISSUED";
        }
    }

    pub fn request(&mut self, user: u8) -> Vec<String> {
        let reply = |word: &str, rank: usize| vec![word.to_owned(), rank.to_string()];
        if self.is_fenced() {
            return error("TRYAGAIN");
        }
        if let Some(place) = self.line().iter().position(|other| *other == user) {
            return reply("DUPLICATE", place + 1);
        }
        if self.status == "EXPIRED" || self.window == Window::Over {
            return reply("CLOSED", 0);
        }
        if self.status == "STANDARD" || self.window == Window::Early {
            return reply("NOTOPEN", 0);
        }
        if self.requested() >= self.quantity + self.waitlist {
            return reply("SOLDOUT", 0);
        }
        if self.mode == "INSTANT" && self.status == "AVAILABLE" && self.waiting.is_empty() && self.remaining() > 0 {
            self.take(user);
            return reply("GRANTED", self.granted.len());
        }
        self.waiting.push(user);
        reply("QUEUED", self.line().len())
    }

    pub fn request_all(&mut self, users: &[u8]) -> Vec<String> {
        if self.is_fenced() {
            return error("TRYAGAIN");
        }
        users.iter().map(|user| self.request(*user).swap_remove(0)).collect()
    }

    pub fn issue(&mut self, count: Option<u64>) -> Vec<String> {
        if self.is_fenced() {
            return error("TRYAGAIN");
        }
        if self.status != "AVAILABLE" || self.window == Window::Early {
            return vec!["0".into()];
        }
        let mut granted = 0;
        while granted < count.unwrap_or(u64::MAX) && self.remaining() > 0 && !self.waiting.is_empty() {
            let user = self.waiting.remove(0);
            self.take(user);
            granted += 1;
        }
        if self.status == "AVAILABLE" && self.window == Window::Over && self.waiting.is_empty() {
            self.status = "EXPIRED";
        }
        vec![granted.to_string()]
    }

    pub fn status(&self, user: u8) -> Vec<String> {
        let Some(place) = self.line().iter().position(|other| *other == user) else {
            return ["NONE", "0", "0"].map(String::from).to_vec();
        };
        let (word, ahead) = if place < self.granted.len() && self.refused.contains(&user) {
            ("REFUSED", 0)
        } else if place < self.persisted {
            ("PERSISTED", 0)
        } else if place < self.granted.len() {
            ("GRANTED", 0)
        } else {
            ("WAITING", place - self.granted.len())
        };
        vec![word.into(), (place + 1).to_string(), ahead.to_string()]
    }

    pub fn leave(&mut self, user: u8) -> Vec<String> {
        if self.is_fenced() {
            return error("TRYAGAIN");
        }
        let before = self.waiting.len();
        self.waiting.retain(|other| *other != user);
        let is_granted = self.granted.iter().any(|(other, _)| *other == user);
        let word = if self.waiting.len() < before {
            "LEFT"
        } else if is_granted {
            "GRANTED"
        } else {
            "NONE"
        };
        vec![word.into()]
    }

    pub fn info(&self) -> Vec<String> {
        let (opens_at, expires_at) = match self.window {
            Window::Always => (0, 0),
            Window::Early => (99_999_999_999_999_u64, 0_u64),
            Window::Over => (0, 631_152_000_000_u64),
        };
        let number = |n: usize| n.to_string();
        let fields: [(&str, String); 15] = [
            ("status", self.status.into()),
            ("mode", self.mode.into()),
            ("quantity", self.quantity.to_string()),
            ("remaining", self.remaining().to_string()),
            ("requested", self.requested().to_string()),
            ("waiting", number(self.waiting.len())),
            ("granted", number(self.granted.len())),
            ("persisted", number(self.persisted)),
            ("waitlist", self.waitlist.to_string()),
            ("opens_at", opens_at.to_string()),
            ("expires_at", expires_at.to_string()),
            ("epoch", self.epoch.to_string()),
            ("fenced", u8::from(self.is_fenced()).to_string()),
            ("revision", self.revision.to_string()),
            ("refused", number(self.refused.len())),
        ];
        fields.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    /// By hand, or by the reconciler under an epoch and a revision.
    pub fn close(&mut self, published: Option<(u64, u64)>) -> Vec<String> {
        let (epoch, revision) = published.unzip();
        if self.has_passed(epoch, revision) {
            return error("STALEEPOCH");
        }
        self.revision = revision.unwrap_or(self.revision);
        self.status = "EXPIRED";
        ok()
    }

    /// Whether the chain at this number can still be known: at the start, at the end, or from an entry.
    fn is_known(&self, seq: u64) -> bool {
        seq == 0 || seq == self.granted.len() as u64 || seq > self.first_entry as u64
    }

    pub fn resume(&mut self, epoch: u64, seq: u64, is_true: bool) -> Vec<String> {
        if epoch < self.epoch {
            return error("STALEEPOCH");
        }
        if seq > self.granted.len() as u64 {
            return error("BEHIND");
        }
        if !is_true || !self.is_known(seq) {
            return error("DIVERGED");
        }
        self.epoch = epoch;
        (self.is_open, self.is_shut) = (true, false);
        ok()
    }

    /// Whether a user stands twice in these lists.
    pub fn names_twice(refused: &[u8], persisted: &[u8]) -> bool {
        let mut named = BTreeSet::new();
        refused.iter().chain(persisted).any(|user| !named.insert(user))
    }

    pub fn ack(&mut self, epoch: u64, seq: u64, refused: &[u8], persisted: &[u8]) -> Vec<String> {
        if Self::names_twice(refused, persisted) {
            return error("ERR");
        }
        if self.is_fenced() {
            return error("TRYAGAIN");
        }
        if epoch != self.epoch {
            return error("STALEEPOCH");
        }
        if seq > self.granted.len() as u64 {
            return error("BEHIND");
        }
        let seq = usize::try_from(seq).unwrap_or(usize::MAX);
        if seq > self.persisted {
            self.persisted = seq;
            self.first_entry = seq - 1;
        }
        self.refused.extend(refused);
        self.refused.retain(|user| !persisted.contains(user));
        ok()
    }

    pub fn shut(&mut self, epoch: u64) -> Vec<String> {
        if epoch < self.epoch {
            return error("STALEEPOCH");
        }
        self.epoch = epoch;
        (self.is_open, self.is_shut) = (false, true);
        ok()
    }

    /// Whether a user stands twice in a batch.
    pub fn repeats(ledger: &Ledger) -> bool {
        ledger.iter().enumerate().any(|(place, (user, _))| ledger[..place].iter().any(|(other, _)| other == user))
    }

    /// `issued` is the sorted set before: only it knows the places of grants whose order is the ledger's business.
    pub fn restore(
        &mut self,
        epoch: u64,
        after: u64,
        is_true: bool,
        ledger: &Ledger,
        refused: &[u8],
        issued: &[(String, f64)],
    ) -> Vec<String> {
        if Self::repeats(ledger) {
            return error("ERR");
        }
        if epoch < self.epoch {
            return error("STALEEPOCH");
        }
        if epoch != self.epoch || !self.is_shut {
            return error("TRYAGAIN");
        }
        if after > self.granted.len() as u64 {
            return error("BEHIND");
        }
        if !is_true || !self.is_known(after) {
            return error("DIVERGED");
        }
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        if self.granted[..after].iter().any(|(user, _)| ledger.iter().any(|(other, _)| other == user)) {
            return error("ERR");
        }
        let mut dropped: Vec<u8> = self.granted.drain(after..).map(|(user, _)| user).collect();
        if self.is_mixed {
            dropped.sort_by_key(|user| issued.iter().position(|(name, _)| *name == format!("u{user}")));
        }
        self.is_mixed |= !self.waiting.is_empty() || !dropped.is_empty();
        self.waiting.splice(0..0, dropped);
        self.waiting.retain(|user| ledger.iter().all(|(other, _)| other != user));
        if after == 0 {
            self.refused.clear();
        }
        self.refused.extend(refused);
        self.granted.extend(ledger.iter().map(|(user, arrival)| (*user, Some(*arrival))));
        self.persisted = self.granted.len();
        self.first_entry = self.persisted - 1;
        self.status = match self.status {
            "AVAILABLE" | "ISSUED" if self.remaining() == 0 => "ISSUED",
            "ISSUED" => "AVAILABLE",
            status => status,
        };
        ok()
    }

    /// Everybody who is in, in order.
    pub fn line(&self) -> Vec<u8> {
        self.granted.iter().map(|(user, _)| *user).chain(self.waiting.iter().copied()).collect()
    }

    pub const fn is_mixed(&self) -> bool {
        self.is_mixed
    }

    /// The grants, with the arrival that the ledger gave, or else the score.
    pub fn grants_with_arrivals(&self, issued: &[(String, f64)]) -> Vec<(u8, u64)> {
        let score = |user: u8| {
            issued.iter().find(|(name, _)| *name == format!("u{user}")).map_or(0, |(_, score)| *score as u64)
        };
        self.granted.iter().map(|(user, arrival)| (*user, arrival.unwrap_or_else(|| score(*user)))).collect()
    }

    /// Users of the stream's entries.
    pub fn entries(&self) -> Vec<u8> {
        self.granted.iter().skip(self.first_entry).map(|(user, _)| *user).collect()
    }

    pub fn granted(&self) -> usize {
        self.granted.len()
    }

    pub const fn refused(&self) -> &BTreeSet<u8> {
        &self.refused
    }

    pub const fn persisted(&self) -> usize {
        self.persisted
    }

    pub fn remaining(&self) -> u64 {
        self.quantity.saturating_sub(self.granted.len() as u64)
    }

    pub const fn status_word(&self) -> &'static str {
        self.status
    }
}
