//! A command that is written out once, with gaps for what differs from call to call. Every number that goes into a gap has
//! a fixed number of digits, so that filling one is a copy, and the client stays cheaper than the server.

use crate::connection::{Reply, command};
use crate::load::Caller;

/// What stands before a user's number, so that all ids have ten digits.
pub const USER_BASE: u64 = 1_000_000_000;
/// Arrival times of the bare commands: microseconds, sixteen digits, increasing with the call.
pub const SCORE_BASE: u64 = 1_700_000_000_000_000;
/// Numbers of the bare stream's entries: seven digits, increasing with the call.
const ENTRY_BASE: u64 = 1_000_000;
/// An odd number near 2^64 / golden ratio: spreads calls over all chains of nineteen digits.
const CHAIN_FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
const CHAIN_SPAN: u64 = 8_000_000_000_000_000_000;
const CHAIN_BASE: u64 = 1_000_000_000_000_000_000;
/// Coupons or sets over which calls are spread, where one is too small for a slice.
pub const SHARDS: u32 = 50;

/// A command; words in braces are gaps: {user}, {score}, {entry}, {chain}, {shard}, and {user:i/n}, the i-th of n users of
/// one call.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    gaps: Vec<(usize, Gap)>,
}

#[derive(Debug, Clone, Copy)]
enum Gap {
    User { place: u64, of: u64 },
    Score,
    Entry,
    Chain,
    Shard,
}

impl Gap {
    /// Reads what stands between the braces; none if it is no gap, as in the key bench:{c}.
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "user" => Self::User { place: 0, of: 1 },
            "score" => Self::Score,
            "entry" => Self::Entry,
            "chain" => Self::Chain,
            "shard" => Self::Shard,
            _ => {
                let (place, of) = text.strip_prefix("user:")?.split_once('/')?;
                Self::User { place: place.parse().ok()?, of: of.parse().ok()? }
            }
        })
    }

    const fn digits(self) -> usize {
        match self {
            Self::User { .. } => 10,
            Self::Score => 16,
            Self::Entry => 7,
            Self::Chain => 19,
            Self::Shard => 2,
        }
    }

    fn value(self, call: u32) -> u64 {
        let call = u64::from(call);
        match self {
            Self::User { place, of } => USER_BASE + call * of + place,
            Self::Score => SCORE_BASE + call,
            Self::Entry => ENTRY_BASE + call,
            Self::Chain => CHAIN_BASE + call.wrapping_mul(CHAIN_FACTOR) % CHAIN_SPAN,
            Self::Shard => 10 + call % u64::from(SHARDS),
        }
    }
}

impl Template {
    /// Of a command's words.
    #[must_use]
    pub fn new<W: AsRef<str>>(words: &[W]) -> Self {
        let mut gaps = Vec::new();
        let filled: Vec<Vec<u8>> = words.iter().map(|word| Self::widen(word.as_ref())).collect();
        let slices: Vec<&[u8]> = filled.iter().map(Vec::as_slice).collect();
        let bytes = command(&slices);
        // The words stand in the command one after the other, so each is found behind the one before.
        let mut from = 0;
        for (word, widened) in words.iter().zip(&filled) {
            let start = from + find(bytes.get(from..).unwrap_or_default(), widened);
            let mut at = start;
            for (text, gap) in Self::pieces(word.as_ref()) {
                if let Some(gap) = gap {
                    gaps.push((at, gap));
                }
                at += gap.map_or(text.len(), Gap::digits);
            }
            from = start + widened.len();
        }
        Self { bytes, gaps }
    }

    /// The word with each gap as wide as what will stand there.
    fn widen(word: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for (text, gap) in Self::pieces(word) {
            match gap {
                Some(gap) => out.resize(out.len() + gap.digits(), b'_'),
                None => out.extend_from_slice(text.as_bytes()),
            }
        }
        out
    }

    /// Text and gaps in turn.
    fn pieces(word: &str) -> Vec<(&str, Option<Gap>)> {
        let mut pieces = Vec::new();
        let mut rest = word;
        while let Some(open) = rest.find('{') {
            let (before, braced) = rest.split_at(open);
            let Some(close) = braced.find('}') else { break };
            let (inner, behind) =
                (braced.get(1..close).unwrap_or_default(), braced.get(close + 1..).unwrap_or_default());
            pieces.push((before, None));
            let gap = Gap::parse(inner);
            pieces.push((braced.get(..=close).unwrap_or_default(), gap));
            rest = behind;
        }
        pieces.push((rest, None));
        pieces
    }

    /// Writes the command of a call.
    pub fn fill(&self, call: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for (at, gap) in &self.gaps {
            let mut value = gap.value(call);
            let from = start + at;
            if let Some(digits) = out.get_mut(from..from + gap.digits()) {
                for digit in digits.iter_mut().rev() {
                    *digit = b'0' + (value % 10) as u8;
                    value /= 10;
                }
            }
        }
    }
}

fn find(bytes: &[u8], word: &[u8]) -> usize {
    bytes.windows(word.len().max(1)).position(|window| window == word).unwrap_or_default()
}

/// Sends one command for every call, and hears whether the answer is what it has to be.
#[derive(Debug, Clone)]
pub struct Repeat {
    template: Template,
    expected: Option<&'static str>,
    /// The first answer that was another.
    pub surprise: Option<String>,
}

impl Repeat {
    /// Expects any answer that is no error.
    #[must_use]
    pub const fn new(template: Template) -> Self {
        Self { template, expected: None, surprise: None }
    }

    /// Expects this very answer.
    #[must_use]
    pub const fn expecting(template: Template, answer: &'static str) -> Self {
        Self { template, expected: Some(answer), surprise: None }
    }
}

impl Caller for Repeat {
    fn encode(&self, call: u32, out: &mut Vec<u8>) {
        self.template.fill(call, out);
    }

    fn take(&mut self, _call: u32, reply: Reply<'_>) {
        let is_expected = match (reply, self.expected) {
            (Reply::Error(_), _) => false,
            (_, None) => true,
            (Reply::Text(text), Some(expected)) => text == expected.as_bytes(),
            (Reply::Other, Some(_)) => false,
        };
        if !is_expected {
            self.surprise.get_or_insert_with(|| match reply {
                Reply::Text(text) | Reply::Error(text) => String::from_utf8_lossy(text).into_owned(),
                Reply::Other => "an array or nothing".to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(words: &[&str], call: u32) -> Vec<u8> {
        let mut out = b"before".to_vec();
        Template::new(words).fill(call, &mut out);
        out.split_off(6)
    }

    #[test]
    fn gaps_are_filled_and_keys_with_braces_stay() {
        let out = filled(&["ZADD", "bench:{c}:{shard}", "NX", "{score}", "{user}"], 7);
        assert_eq!(out, command(&[b"ZADD", b"bench:{c}:17", b"NX", b"1700000000000007", b"1000000007"]));
        let out = filled(&["XADD", "k", "1-{entry}", "{chain}"], 3);
        let chain = (CHAIN_BASE + 3_u64.wrapping_mul(CHAIN_FACTOR) % CHAIN_SPAN).to_string();
        assert_eq!(out, command(&[b"XADD", b"k", b"1-1000003", chain.as_bytes()]));
    }

    #[test]
    fn the_users_of_one_call_follow_each_other() {
        let words = ["COUPON.MREQUEST", "k", "{user:0/2}", "{user:1/2}"];
        assert_eq!(filled(&words, 3), command(&[b"COUPON.MREQUEST", b"k", b"1000000006", b"1000000007"]));
    }

    #[test]
    fn an_answer_that_was_not_expected_is_kept() {
        let mut caller = Repeat::expecting(Template::new(&["PING"]), "PONG");
        caller.take(1, Reply::Text(b"PONG"));
        assert_eq!(caller.surprise, None);
        caller.take(2, Reply::Text(b"DING"));
        caller.take(3, Reply::Error(b"ERR"));
        assert_eq!(caller.surprise.as_deref(), Some("DING"));
    }
}
