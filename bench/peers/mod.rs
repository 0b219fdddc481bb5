//! What ours is compared with, each as good as we know how to make it. The Lua scripts and the SQL lie beside this file;
//! bare Redis commands need no code of their own.

pub mod old_pattern;
pub mod postgres_alone;
