//! The Rust program of docs/clients.md.

include!(concat!(env!("OUT_DIR"), "/page_client.rs"));
