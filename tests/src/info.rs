//! Numbers that a server says of itself.

use crate::resp::Client;

/// A number out of INFO.
///
/// # Panics
/// If INFO does not have it.
#[must_use]
pub fn number(client: &mut Client, name: &str) -> i64 {
    let info = client.run("INFO everything");
    let value = info.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no number {name} in INFO"))
}

/// Bytes in use, without what the allocator keeps for later.
#[must_use]
pub fn used_memory(client: &mut Client) -> i64 {
    number(client, "used_memory")
}

/// How far the replication stream has come: it moves with every write, and with nothing else but the link's own talk
/// (`repl-ping-replica-period`). It stands still as long as no replica has ever asked.
#[must_use]
pub fn replication_offset(client: &mut Client) -> i64 {
    number(client, "master_repl_offset")
}
