//! A machine of its own for one server of a test: a disk that is full, a clock that is wrong, and a memory of what was
//! synced. It is loaded before libc (`LD_PRELOAD`) and stands in for the few calls that see disk and clock; it needs no
//! root, no mount and no other program. Calls go on to the kernel by their numbers, so nothing of libc's is looked up,
//! but for the one that loads modules.
//!
//! It is led by a file that the test and the server share (see [`control`]). Without one it changes nothing.
//!
//! - [`disk`]: what a full disk refuses, as a real one does.
//! - [`clock`]: the wall clock, so many microseconds off. Clocks that only run (`CLOCK_MONOTONIC`) are right always.
//! - [`modules`]: what the server loads later is under the same clock.
//! - [`sync`]: notes how much of a file was synced, for who wants to cut the power.
#![cfg(target_os = "linux")]

mod clock;
mod control;
mod disk;
mod modules;
mod sync;
