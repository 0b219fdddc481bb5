//! Commands, as described to the server and to clients.

use redis_module::raw;
use std::ffi::CStr;

/// A command, as described to the server and to clients.
pub struct Command<C> {
    /// Its name.
    pub name: &'static CStr,
    /// Arguments with the name: exactly so many, or at least so many if negative. The server turns away others.
    pub arity: i32,
    /// Flags of RM_CreateCommand. `deny-oom` is missing where a command must go on when memory is full.
    pub flags: &'static CStr,
    /// What it does to its key, the first argument.
    pub effect: Effect,
    /// For COMMAND DOCS.
    pub summary: &'static CStr,
    /// For COMMAND DOCS.
    pub complexity: &'static CStr,
    /// For COMMAND DOCS and the hints of redis-cli.
    pub args: &'static [Argument],
    /// What carries it out.
    pub call: C,
}

/// What a command does to its key.
#[derive(Clone, Copy)]
pub enum Effect {
    /// It reads it.
    Reads,
    /// It changes it.
    Updates,
    /// It changes it, and answers by what it holds.
    ReadsAndUpdates,
}

impl Effect {
    pub(super) const fn flags(self) -> u32 {
        const UPDATES: u32 = raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_UPDATE;
        match self {
            Self::Reads => raw::REDISMODULE_CMD_KEY_RO | raw::REDISMODULE_CMD_KEY_ACCESS,
            Self::Updates => UPDATES,
            Self::ReadsAndUpdates => UPDATES | raw::REDISMODULE_CMD_KEY_ACCESS,
        }
    }
}

/// An argument, as described to clients.
pub struct Argument {
    /// Its name.
    pub name: &'static CStr,
    /// What it is.
    pub kind: Kind,
    /// The word before it.
    pub token: Option<&'static CStr>,
    /// Whether it may be left out.
    pub is_optional: bool,
}

/// What an argument is.
#[derive(Clone, Copy)]
pub enum Kind {
    /// The key.
    Key,
    /// Text.
    Text,
    /// Text, once or more.
    Texts,
    /// A whole number.
    Integer,
    /// Unix milliseconds.
    Time,
    /// The token alone.
    Flag,
}
