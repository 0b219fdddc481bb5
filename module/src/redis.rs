//! The server as a typed API, and the one place that may hold `unsafe`. It knows nothing of coupons, and imports nothing
//! of this crate: what the server calls is a [`Module`].
//!
//! What it hands out is safe to use: handles borrow the [`Server`] of the command they were opened in, so none can
//! outlive it; what writes needs a key that was opened to be written; strings are freed when dropped; no key stays open
//! while the server runs a command on it. It goes straight to the low-level API (`redis_module::raw`) for speed: the
//! crate's own command wrapper copies every argument, and `ctx.call` costs about twice the direct call.
//!
//! Soundness, in common to all blocks below: the server runs commands and events on one thread, under its own lock;
//! function pointers of the API are set once, before the first of our functions runs; every pointer handed to the
//! server is alive for the call, and the server copies or counts references to what it keeps.
#![allow(unsafe_code)]

mod api;
mod call;
mod client;
mod command;
mod key;
mod load;
mod module;
mod reply;
mod server;
mod string;

pub use call::Cluster;
pub use client::Timer;
pub use command::{Argument, Command, Effect, Kind};
pub use key::{Access, Hash, Read, SortedSet, Stream, StreamId, Write, WrongType};
pub use load::{Config, KeyEvent, ServerEvent};
pub use module::{Change, KeyChange, Module};
pub use reply::{Answer, Reply, Report, Value};
pub use server::{Blocked, Level, Server};
pub use string::{Static, Str, Text};
