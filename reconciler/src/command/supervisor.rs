//! What the service manager that started the process is told, in systemd's protocol (sd_notify(3)): that it is ready, what
//! it is at, that it lives, that it ends. Most are started without one, and nothing happens then.
//!
//! Ready means that the settings are valid, the port is open and the work has begun. It does not mean that both servers are
//! there: waiting for them is part of the work, and a manager that gave up over it, or kept the machine from booting, would
//! bring neither back. Whom it waits for is its status.

use crate::model::standing::{Source, Standing};
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Between two looks at what it is at.
const BEAT: Duration = Duration::from_secs(1);

/// Signs of life within the time after which the manager ends the process.
const BEATS_PER_WATCHDOG: u32 = 3;

/// Tells the manager that has started this process how things stand, until the daemon stops.
pub async fn attend(daemon: &impl Source, stop: &CancellationToken) {
    let Some(socket) = connect() else { return stop.cancelled().await };
    let variable = |name| env::var(name).ok();
    let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
    let mut beat = interval(watchdog.map_or(BEAT, |time| BEAT.min(time / BEATS_PER_WATCHDOG)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = beat.tick() => {}
        }
        // A sign of life says that tasks still get their turn, and that nobody keeps the catalogue that all work
        // goes through to himself. A server that is away or slow is no reason to end the process.
        let status = describe(&daemon.standing());
        let ready = said.is_none().then(|| "READY=1\n".to_owned());
        let news = (said.as_ref() != Some(&status)).then(|| format!("STATUS={status}\n"));
        let alive = watchdog.map(|_| "WATCHDOG=1\n".to_owned());
        let message: String = [ready, news, alive].into_iter().flatten().collect();
        if !message.is_empty() {
            tell(&socket, &message).await;
        }
        said = Some(status);
    }
    tell(&socket, "STOPPING=1\nSTATUS=ending the batches at hand\n").await;
}

async fn tell(socket: &tokio::net::UnixDatagram, message: &str) {
    if let Err(error) = socket.send(message.as_bytes()).await {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// What it is at, in one line.
fn describe(standing: &Standing) -> String {
    let away = [("Redis", &standing.redis_away), ("PostgreSQL", &standing.postgresql_away)];
    let mut waits: Vec<String> =
        away.iter().filter_map(|(side, why)| Some(format!("waiting for {side}: {}", why.as_deref()?))).collect();
    if waits.is_empty() {
        waits.push(format!("relaying, with {} of {} shards", standing.shards_held, standing.shards));
    }
    if standing.stopped > 0 {
        waits.push(format!("coupons that wait for an operator: {}", standing.stopped));
    }
    waits.join("; ").replace(char::is_control, " ")
}

/// The manager's socket, if there is a manager that wants to be told.
fn connect() -> Option<tokio::net::UnixDatagram> {
    let address = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())?;
    let connect = || -> io::Result<_> {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&parse(&address)?)?;
        socket.set_nonblocking(true)?;
        tokio::net::UnixDatagram::from_std(socket)
    };
    // The work does not depend on it.
    let warn = |error: &io::Error| {
        tracing::warn!(%error, "the service manager cannot be told anything: NOTIFY_SOCKET is of no use");
    };
    connect().inspect_err(warn).ok()
}

/// A path, or a name in Linux's own space for sockets.
fn parse(address: &OsStr) -> io::Result<SocketAddr> {
    match address.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(address),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "only a path, or @ and a name on Linux, can be told")),
    }
}

/// The time between two signs of life, if the manager wants any, and of this very process.
fn watchdog(microseconds: Option<String>, pid: Option<String>) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid == std::process::id().to_string());
    let microseconds = microseconds?.parse().ok().filter(|microseconds| *microseconds > 0);
    // A beat cannot be nothing at all.
    microseconds.filter(|_| is_ours).map(|time| Duration::from_micros(time).max(Duration::from_millis(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_are_for_who_asks_this_process_for_them() {
        let own = std::process::id().to_string();
        for (microseconds, pid, expected) in [
            (None, None, None),
            (Some("30000000"), None, Some(30_000)),
            (Some("30000000"), Some(&*own), Some(30_000)),
            (Some("30000000"), Some("0"), None),
            (Some("1"), None, Some(1)),
            (Some("0"), None, None),
            (Some("soon"), None, None),
        ] {
            let found = watchdog(microseconds.map(str::to_owned), pid.map(str::to_owned));
            assert_eq!(found, expected.map(Duration::from_millis), "{microseconds:?} {pid:?}");
        }
    }

    #[test]
    fn an_address_is_a_path_or_a_name() {
        assert!(parse(OsStr::new("/run/systemd/notify")).is_ok_and(|address| address.as_pathname().is_some()));
        assert_eq!(
            parse(OsStr::new("@name")).is_ok_and(|address| address.is_unnamed() || address.as_pathname().is_none()),
            cfg!(target_os = "linux")
        );
        for bad in ["vsock:2:1", "name", ""] {
            assert!(parse(OsStr::new(bad)).is_err(), "{bad:?}");
        }
    }
}
