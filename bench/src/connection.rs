//! One pipelined connection to Redis, as thin as can be: what is measured is the server, not the client.

use anyhow::{Context, Result, bail};
use redis::{ConnectionAddr, IntoConnectionInfo};
use std::io::Write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Room for one read from the socket.
const READ_BYTES: usize = 64 * 1024;

/// A server, and what it takes to be let in.
#[derive(Debug, Clone)]
pub struct Target {
    host: String,
    port: u16,
    greeting: Vec<Vec<u8>>,
}

impl Target {
    /// Reads a Redis URL.
    pub fn parse(url: &str) -> Result<Self> {
        let info = url.into_connection_info().context("the Redis URL cannot be read")?;
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            bail!("the load generator speaks plain TCP only; give a URL like redis://127.0.0.1:6379");
        };
        let settings = info.redis_settings();
        let mut greeting = Vec::new();
        if let Some(password) = settings.password() {
            let user = settings.username().unwrap_or("default");
            greeting.push(command(&[b"AUTH", user.as_bytes(), password.as_bytes()]));
        }
        if settings.db() != 0 {
            greeting.push(command(&[b"SELECT", settings.db().to_string().as_bytes()]));
        }
        Ok(Self { host: host.clone(), port: *port, greeting })
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

/// A reply, as far as the load generator looks into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A string or an integer.
    Text(&'a [u8]),
    /// An error, with its code.
    Error(&'a [u8]),
    /// An array or nothing.
    Other,
}

/// An open connection.
pub struct Connection {
    stream: TcpStream,
    inbox: Vec<u8>,
}

impl Connection {
    /// Connects and logs in.
    pub async fn open(target: &Target) -> Result<Self> {
        let address = target.address();
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("no connection to {}:{}", address.0, address.1))?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream, inbox: Vec::with_capacity(READ_BYTES) };
        for call in &target.greeting {
            let mut refused = None;
            connection
                .exchange(call, 1, |_, reply| {
                    if let Reply::Error(text) = reply {
                        refused = Some(String::from_utf8_lossy(text).into_owned());
                    }
                })
                .await?;
            if let Some(text) = refused {
                bail!("Redis refused the login: {text}");
            }
        }
        Ok(connection)
    }

    /// Sends commands and reads as many replies, each handed over with its number as soon as it is there.
    pub async fn exchange(
        &mut self,
        commands: &[u8],
        replies: usize,
        mut each: impl FnMut(usize, Reply<'_>),
    ) -> Result<()> {
        self.stream.write_all(commands).await?;
        let mut seen = 0;
        while seen < replies {
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                bail!("Redis closed the connection");
            }
            let mut start = 0;
            while let Some((reply, length)) = parse(self.inbox.get(start..).unwrap_or_default())? {
                each(seen, reply);
                seen += 1;
                start += length;
            }
            self.inbox.drain(..start);
        }
        Ok(())
    }
}

/// A command as it goes over the wire.
#[must_use]
pub fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    push_command(&mut out, words);
    out
}

/// Appends a command to what is to be sent.
pub fn push_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    push_header(out, b'*', words.len());
    for word in words {
        push_header(out, b'$', word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn push_header(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    // Writing to a vector cannot fail.
    let _ = write!(out, "{length}\r\n");
}

/// The first reply in the bytes and its length; none if it is not whole yet.
fn parse(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>> {
    let (mut at, mut missing, mut first) = (0, 1_usize, None);
    while missing > 0 {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        let Some((kind, line)) = rest.get(..end).and_then(<[u8]>::split_first) else {
            bail!("Redis sent an empty line where a reply should be");
        };
        missing -= 1;
        at += end + 2;
        let reply = match kind {
            b'+' | b':' => Reply::Text(line),
            b'-' => Reply::Error(line),
            b'$' => match usize::try_from(length(line)?) {
                // Nil.
                Err(_) => Reply::Other,
                Ok(length) => {
                    let Some(text) = bytes.get(at..at + length) else { return Ok(None) };
                    at += length + 2;
                    Reply::Text(text)
                }
            },
            b'*' => {
                missing += usize::try_from(length(line)?).unwrap_or(0);
                Reply::Other
            }
            other => bail!("Redis sent a reply of unknown kind {:?}", char::from(*other)),
        };
        first = first.or(Some(reply));
    }
    Ok(first.filter(|_| at <= bytes.len()).map(|reply| (reply, at)))
}

fn length(line: &[u8]) -> Result<i64> {
    str::from_utf8(line).ok().and_then(|text| text.parse().ok()).context("Redis sent a length that is no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_only_when_it_is_whole() -> Result<()> {
        let whole: [(&[u8], Reply<'_>); 6] = [
            (b"$6\r\nQUEUED\r\n", Reply::Text(b"QUEUED")),
            (b"$4\r\n\r\n\r\n\r\n", Reply::Text(b"\r\n\r\n")),
            (b":12\r\n", Reply::Text(b"12")),
            (b"-TRYAGAIN later\r\n", Reply::Error(b"TRYAGAIN later")),
            (b"$-1\r\n", Reply::Other),
            (b"*2\r\n$1\r\na\r\n*1\r\n$-1\r\n", Reply::Other),
        ];
        for (bytes, reply) in whole {
            assert_eq!(parse(bytes)?, Some((reply, bytes.len())));
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut])?, None, "cut at {cut}");
            }
        }
        Ok(())
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        assert_eq!(command(&[b"GET", b"k\r\n"]), b"*2\r\n$3\r\nGET\r\n$3\r\nk\r\n\r\n");
    }

    #[test]
    fn credentials_of_the_url_become_a_greeting() -> Result<()> {
        let target = Target::parse("redis://app:secret@localhost:7000/2")?;
        assert_eq!(target.greeting, [command(&[b"AUTH", b"app", b"secret"]), command(&[b"SELECT", b"2"])]);
        Ok(())
    }
}
