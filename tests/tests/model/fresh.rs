//! What is answered where nothing is in mind: the keys are copied to a name that nobody has used yet, and the same
//! question is asked there.

use crate::changes::{Part, USERS, user};
use proptest::prelude::*;

/// A question to a coupon.
#[derive(Debug, Clone)]
pub enum Question {
    Status(&'static str),
    Info,
    Request(&'static str),
    RequestAll(Vec<&'static str>),
    Leave(&'static str),
}

impl Question {
    /// The call.
    pub fn of(&self, key: &str) -> String {
        match self {
            Self::Status(user) => format!("COUPON.STATUS {key} {user} WITHRANK"),
            Self::Info => format!("COUPON.INFO {key}"),
            Self::Request(user) => format!("COUPON.REQUEST {key} {user} WITHRANK"),
            Self::RequestAll(users) => format!("COUPON.MREQUEST {key} {}", users.join(" ")),
            Self::Leave(user) => format!("COUPON.LEAVE {key} {user}"),
        }
    }

    /// Whether the answer may be a change.
    pub const fn may_write(&self) -> bool {
        matches!(self, Self::Request(_) | Self::RequestAll(_) | Self::Leave(_))
    }

    /// All that can be asked without changing anything.
    pub fn all_that_only_read() -> impl Iterator<Item = Self> {
        USERS.into_iter().map(Self::Status).chain([Self::Info])
    }
}

pub fn question() -> impl Strategy<Value = Question> {
    prop_oneof![
        2 => user().prop_map(Question::Status),
        1 => Just(Question::Info),
        5 => user().prop_map(Question::Request),
        1 => prop::collection::vec(user(), 1..4).prop_map(Question::RequestAll),
        1 => user().prop_map(Question::Leave),
    ]
}

/// A name that nobody has used yet.
pub struct Fresh {
    pub key: String,
}

impl Fresh {
    /// How all of them begin.
    pub const PREFIX: &str = "fresh:{";

    pub fn numbered(number: u64) -> Self {
        Self { key: format!("{}{number}}}", Self::PREFIX) }
    }

    /// The calls that copy a coupon's keys there; those that are missing stay missing.
    pub fn copies(&self, of: &str) -> [String; 4] {
        Part::ALL.map(|part| self.copy(of, part))
    }

    /// The call that copies one of the keys.
    pub fn copy(&self, of: &str, part: Part) -> String {
        let suffix = part.suffix();
        format!("COPY {of}{suffix} {}{suffix}", self.key)
    }

    /// The call that removes them again.
    pub fn removal(&self) -> String {
        let names = Part::ALL.map(|part| format!("{}{}", self.key, part.suffix()));
        format!("UNLINK {}", names.join(" "))
    }
}
