//! The one place that calls Redis, and the one that may hold `unsafe`.
//!
//! What it hands out is safe to use: handles borrow the [`Server`] of the command they were opened in, so none can
//! outlive it; strings are freed when dropped; no key stays open across [`Server::rank`]. It goes straight to the
//! low-level API (`redis_module::raw`) for speed: the crate's own command wrapper copies every argument, and
//! `ctx.call` costs about twice the direct call.
//!
//! Soundness, in common to all blocks below: Redis runs commands and events on one thread, under its own lock;
//! function pointers of the API are set once, before the first of our functions runs; every pointer handed to
//! Redis is alive for the call, and Redis copies or counts references to what it keeps.
#![allow(unsafe_code)]

mod api;
mod door;
mod event;
mod key;
mod load;
mod replicate;
mod reply;
mod server;
mod string;

pub use key::{Access, Entry, Hash, Member, SortedSet, Stream, WrongType};
pub use load::{Config, at_load, load};
pub use reply::{Reply, Value};
pub use server::{Blocked, Event, Level, Server};
pub use string::{Arg, AsRedis, Text};
