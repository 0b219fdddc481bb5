//! The reconciler between a real Redis and a real PostgreSQL.

mod adopt;
mod clock;
mod daemon;
mod dead_letter;
mod disk_full;
mod old_scheduler;
mod outage;
mod publish;
mod relay;
mod replay;
mod sale;
mod secrets;
mod subcommands;
mod tampering;
