//! A harness for end-to-end tests: real servers, each in a directory and on a port of its own.
//!
//! Nothing here knows how the product works inside. Servers are started as an operator would start them, and
//! spoken to as a client would: [`redis_server`] and [`postgres_server`] own the processes, [`resp`] is a
//! client that shows every byte, [`replication`] sees what a replica sees, [`reconciler`] runs the daemon, and
//! [`machine`] fills a server's disk and moves its clock, [`network`] puts them on hosts of their own. All three can run in a [`container`] instead of on this machine.
//! A test waits by [`deadline::eventually`] and never by sleeping.

pub mod artifact;
pub mod browser;
pub mod call;
pub mod certificates;
pub mod container;
pub mod coupon;
pub mod deadline;
pub mod deliberate;
pub mod dump;
pub mod http;
pub mod info;
pub mod ledger;
pub mod loss;
pub mod machine;
pub mod network;
pub mod open_files;
pub mod pgbouncer;
pub mod port;
pub mod postgres_server;
pub mod process;
pub mod proxy;
pub mod reconciler;
pub mod redis_cluster;
pub mod redis_sentinel;
pub mod redis_server;
pub mod refusal;
pub mod replication;
pub mod resp;
pub mod torture;
pub mod waiting;
