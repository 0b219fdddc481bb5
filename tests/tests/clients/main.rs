//! The pages of the documentation that clients read, with everything on them run as it stands there, on real servers.

mod from_zadd;
mod go_toolchain;
mod page;
mod program;
mod shown;
