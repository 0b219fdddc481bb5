//! The module on a real Redis: every command, and what a server does around it.

mod ack;
mod close;
mod cluster;
mod command_table;
mod copies;
mod fairness;
mod faults;
mod fence;
mod hostile;
mod info;
mod issue;
mod known;
mod message;
mod mrequest;
mod old_pattern;
mod open;
mod replication_stream;
mod request;
mod restore;
mod settings;
mod status;
mod transaction;
mod tripwire;
mod user_id;
mod wait;
mod window;
