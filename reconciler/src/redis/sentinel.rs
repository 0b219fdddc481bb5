//! The primary that sentinels name.
//!
//! All of them are asked, and the newest word counts: a failover makes the next configuration epoch, and a sentinel that was
//! cut off goes on naming the primary of an older one. What they name has to say itself that it is a primary.

use super::certificates::Certificates;
use super::connection::{CONNECT_TIMEOUT, addresses, away, connect, has_tls, login_and_rest, server};
use super::role;
use crate::error::{is_unknown_command, wording};
use ::redis::aio::MultiplexedConnection;
use ::redis::{ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, RedisResult, Value, cmd, from_redis_value};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use url::Url;

/// Where a sentinel listens, unless something else is said.
const PORT: u16 = 26_379;

/// How long the others have to answer when one has.
const GRACE: Duration = Duration::from_millis(500);

/// Parameters of the address: who logs in at the sentinels, which is another user than the servers'.
const USER: &str = "sentinel-user";
const PASSWORD: &str = "sentinel-password";

/// Sentinels, and the primary that they name.
pub struct Sentinel {
    /// What the primary is called among them.
    name: String,
    sentinels: Vec<Node>,
    /// How to log in at the primary, wherever it is.
    login: ConnectionInfo,
    met: Mutex<Option<Named>>,
}

/// One sentinel, connected when needed.
struct Node {
    at: ConnectionInfo,
    connection: tokio::sync::Mutex<Option<MultiplexedConnection>>,
}

/// A primary, as a sentinel names it.
#[derive(Clone)]
struct Named {
    at: ConnectionAddr,
    /// Of the configuration that says so.
    epoch: u64,
}

impl Sentinel {
    /// Reads what follows the scheme: `user:password@host:port,host:port/NAME?sentinel-user=…&sentinel-password=…`.
    pub fn parse(scheme: &str, rest: &str) -> RedisResult<Self> {
        let unreadable = || away("an address of sentinels cannot be read: is a host missing, or its port no number?");
        let read = |url: String| Url::parse(&url).map_err(|_| unreadable());
        let (login, rest) = login_and_rest(rest);
        let (nodes, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // The host is in the place of the primary's, which the sentinels say.
        let mut login = read(format!("{scheme}://{login}primary{rest}"))?;
        let name = login.path().trim_start_matches('/').to_owned();
        // The characters that Sentinel allows.
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
            return Err(away("the primary's name is missing: write redis-sentinel://host:port,host:port/NAME"));
        }
        let (mut user, mut password) = (String::new(), None);
        for (parameter, value) in login.query_pairs() {
            match &*parameter {
                USER => user = value.into_owned(),
                PASSWORD => password = Some(value.into_owned()),
                _ => return Err(away(format!("a parameter is none of {USER} and {PASSWORD}"))),
            }
        }
        login.set_path("");
        login.set_query(None);
        let node = |node: &str| {
            let mut url = read(format!("{scheme}://{node}"))?;
            let is_whole = (url.port().is_some() || url.set_port(Some(PORT)).is_ok())
                && url.set_username(&user).is_ok()
                && url.set_password(password.as_deref()).is_ok();
            let at = if is_whole { server(url)? } else { return Err(unreadable()) };
            Ok(Node { at, connection: tokio::sync::Mutex::default() })
        };
        let sentinels = nodes.split(',').map(node).collect::<RedisResult<_>>()?;
        Ok(Self { name, sentinels, login: server(login)?, met: Mutex::default() })
    }

    /// Whether connections to them and to the servers have TLS.
    pub fn has_tls(&self) -> bool {
        has_tls(&self.login)
    }

    /// Connects to the primary.
    pub async fn connect(&self, certificates: &Certificates) -> RedisResult<MultiplexedConnection> {
        let named = self.newest(certificates).await?;
        let of = |why: String| {
            away(format!("{}, which the sentinels name as the primary of {}: {why}", named.at, self.name))
        };
        let at = self.login.clone().set_addr(named.at.clone());
        let mut connection = connect(&at, certificates).await.map_err(|error| of(wording(&error)))?;
        let role = role(&mut connection).await.map_err(|error| of(wording(&error)))?;
        if role != "master" {
            return Err(of("it is a replica still, or again".to_owned()));
        }
        *self.met.lock().unwrap_or_else(PoisonError::into_inner) = Some(named);
        Ok(connection)
    }

    /// The primary that was connected to last.
    fn last(&self) -> Option<Named> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How to connect to that.
    pub fn met(&self) -> RedisResult<ConnectionInfo> {
        let named = self.last().ok_or_else(|| away("no primary was met yet"))?;
        Ok(self.login.clone().set_addr(named.at))
    }

    /// An error if a newer configuration names another primary than the one that was met. Sentinels that are away say
    /// nothing about a primary that is there.
    pub async fn check(&self, certificates: &Certificates) -> RedisResult<()> {
        let Some(met) = self.last() else { return Ok(()) };
        match self.newest(certificates).await {
            Ok(named) if named.epoch > met.epoch && named.at != met.at => {
                let (now, before, name) = (named.at, met.at, &self.name);
                Err(away(format!("the sentinels name {now} as the primary of {name} now, instead of {before}")))
            }
            _ => Ok(()),
        }
    }

    /// The primary, or the sentinels until it is met, for people.
    pub fn place(&self) -> String {
        self.last().map_or_else(|| addresses(self.sentinels.iter().map(|node| &node.at)), |met| met.at.to_string())
    }

    /// What the newest configuration says, of those that can be heard.
    async fn newest(&self, certificates: &Certificates) -> RedisResult<Named> {
        let ask = async |node: &Node| (node.at.addr().to_string(), node.ask(&self.name, certificates).await);
        let mut asked: FuturesUnordered<_> = self.sentinels.iter().map(ask).collect();
        let mut end = Instant::now() + CONNECT_TIMEOUT;
        let (mut newest, mut refusals): (Option<Named>, Vec<String>) = (None, Vec::new());
        while let Ok(Some((sentinel, answer))) = timeout_at(end, asked.next()).await {
            let why = match answer {
                Ok(Some(named)) => {
                    end = end.min(Instant::now() + GRACE);
                    if newest.as_ref().is_none_or(|newest| newest.epoch < named.epoch) {
                        newest = Some(named);
                    }
                    continue;
                }
                Ok(None) => {
                    format!("it knows no primary called {}; SENTINEL MASTERS lists those that it knows", self.name)
                }
                Err(error) if is_about_login(&error) => format!(
                    "{}; it has a login of its own, which {USER} and {PASSWORD} in --redis-url give",
                    wording(&error)
                ),
                Err(error) if is_unknown_command(&error) => "it is no sentinel".to_owned(),
                Err(error) => wording(&error),
            };
            refusals.push(format!("{sentinel}: {why}"));
        }
        newest.ok_or_else(|| {
            refusals.extend((!asked.is_empty()).then(|| "no answer from the others".to_owned()));
            away(format!("no sentinel names a primary: {}", refusals.join(" · ")))
        })
    }
}

impl Node {
    /// What this sentinel says; none if it does not know the name.
    async fn ask(&self, name: &str, certificates: &Certificates) -> RedisResult<Option<Named>> {
        let mut slot = self.connection.lock().await;
        // It is put back only once it has answered: a connection that failed, or was given up, is not used again.
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => connect(&self.at, certificates).await?,
        };
        let named = ask(&mut connection, name).await?;
        *slot = Some(connection);
        Ok(named.map(|(host, port, epoch)| {
            let at = if has_tls(&self.at) {
                ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            } else {
                ConnectionAddr::Tcp(host, port)
            };
            Named { at, epoch }
        }))
    }
}

fn is_about_login(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}

/// Where the primary is, and the configuration epoch.
async fn ask(connection: &mut MultiplexedConnection, name: &str) -> RedisResult<Option<(String, u16, u64)>> {
    // While a failover is under way this names the new primary already, and SENTINEL MASTER the old one.
    let place: Option<(String, u16)> =
        cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).query_async(connection).await?;
    let Some((host, port)) = place else { return Ok(None) };
    let mut known: HashMap<String, Value> = cmd("SENTINEL").arg("MASTER").arg(name).query_async(connection).await?;
    let epoch = known.remove("config-epoch").map(from_redis_value).transpose()?.unwrap_or(0);
    Ok(Some((host, port, epoch)))
}
