//! The reconciler between a real Redis and a real PostgreSQL.

mod acl;
mod adopt;
mod clock;
mod cluster;
mod daemon;
mod dead_letter;
mod dead_letters_command;
mod disk_full;
mod faults;
mod fire;
mod http;
mod leases;
mod old_scheduler;
mod outage;
mod page;
mod publish;
mod relay;
mod replay;
mod restore;
mod sale;
mod secrets;
mod settings;
mod status_watch;
mod subcommands;
mod tampering;
mod verify;
