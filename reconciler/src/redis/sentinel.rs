//! The primary that sentinels name.
//!
//! All of them are asked, and the newest word counts: a failover makes the next configuration epoch, and a sentinel that was
//! cut off goes on naming the primary of an older one. What they name has to say itself that it is a primary.

use super::server::{CONNECT_TIMEOUT, Certificates, Server, away, login_and_rest};
use crate::error::{is_unknown_command, wording};
use ::redis::aio::MultiplexedConnection;
use ::redis::{ErrorKind, RedisError, RedisResult, Role, Value, cmd, from_redis_value};
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
    login: Server,
    /// The primary that was connected to last.
    met: Mutex<Option<Named>>,
}

/// One sentinel, connected when needed.
struct Node {
    server: Server,
    connection: tokio::sync::Mutex<Option<MultiplexedConnection>>,
}

/// A primary, as a sentinel names it.
#[derive(Clone)]
struct Named {
    primary: Server,
    /// Of the configuration that says so.
    epoch: u64,
}

impl Sentinel {
    /// Reads what follows the scheme: `user:password@host:port,host:port/NAME?sentinel-user=…&sentinel-password=…`.
    pub fn parse(scheme: &str, rest: &str, certificates: &Certificates) -> RedisResult<Self> {
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
            let port = url.port().unwrap_or(PORT);
            let login = url.set_port(Some(port)).and_then(|()| url.set_username(&user));
            login.and_then(|()| url.set_password(password.as_deref())).map_err(|()| unreadable())?;
            Ok(Node { server: Server::parse(url, certificates)?, connection: tokio::sync::Mutex::default() })
        };
        let sentinels = nodes.split(',').map(node).collect::<RedisResult<_>>()?;
        Ok(Self { name, sentinels, login: Server::parse(login, certificates)?, met: Mutex::default() })
    }

    /// The primary, or the sentinels until it is met.
    pub fn servers(&self) -> Vec<Server> {
        match self.met() {
            Some(named) => vec![named.primary],
            None => self.sentinels.iter().map(|node| node.server.clone()).collect(),
        }
    }

    /// Connects to the primary.
    pub async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let named = self.newest().await?;
        let met = async {
            let mut connection = named.primary.connect().await?;
            let role = cmd("ROLE").query_async(&mut connection).await?;
            let refusal = || away("it is a replica still, or again");
            matches!(role, Role::Primary { .. }).then_some(connection).ok_or_else(refusal)
        };
        let connection = met.await.map_err(|error: RedisError| {
            let (primary, why) = (&named.primary, wording(&error));
            away(format!("{primary}, which the sentinels name as the primary of {}: {why}", self.name))
        })?;
        *self.met.lock().unwrap_or_else(PoisonError::into_inner) = Some(named);
        Ok(connection)
    }

    /// An error if a newer configuration names another primary than the one that was met. Sentinels that are away say
    /// nothing about a primary that is there.
    pub async fn check(&self) -> RedisResult<()> {
        let Some(met) = self.met() else { return Ok(()) };
        match self.newest().await {
            Ok(named) if named.epoch > met.epoch && named.primary.info.addr() != met.primary.info.addr() => {
                let (now, before, name) = (named.primary, met.primary, &self.name);
                Err(away(format!("the sentinels name {now} as the primary of {name} now, instead of {before}")))
            }
            _ => Ok(()),
        }
    }

    fn met(&self) -> Option<Named> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the newest configuration says, of those that can be heard.
    async fn newest(&self) -> RedisResult<Named> {
        let mut asked: FuturesUnordered<_> = self.sentinels.iter().map(|node| node.ask(&self.name)).collect();
        let mut end = Instant::now() + CONNECT_TIMEOUT;
        let (mut newest, mut refusals): (Option<Named>, Vec<String>) = (None, Vec::new());
        while let Ok(Some(answer)) = timeout_at(end, asked.next()).await {
            match answer {
                Ok((host, port, epoch)) => {
                    end = end.min(Instant::now() + GRACE);
                    let named = Named { primary: self.login.moved(host, port), epoch };
                    newest = newest.filter(|newest| newest.epoch >= epoch).or(Some(named));
                }
                Err(why) => refusals.push(why),
            }
        }
        newest.ok_or_else(|| {
            refusals.extend((!asked.is_empty()).then(|| "no answer from the others".to_owned()));
            away(format!("no sentinel names a primary: {}", refusals.join(" · ")))
        })
    }
}

impl Node {
    /// What this sentinel says, or why it says nothing.
    async fn ask(&self, name: &str) -> Result<(String, u16, u64), String> {
        let mut slot = self.connection.lock().await;
        let answer = async {
            // It is put back only once it has answered: a connection that failed, or was given up, is not used again.
            let mut connection = match slot.take() {
                Some(connection) => connection,
                None => self.server.connect().await?,
            };
            let named = ask(&mut connection, name).await?;
            *slot = Some(connection);
            Ok(named)
        };
        let why = match answer.await {
            Ok(Some(named)) => return Ok(named),
            Ok(None) => format!("it knows no primary called {name}; SENTINEL MASTERS lists those that it knows"),
            Err(error) if is_about_login(&error) => {
                format!("{}; its own login goes into --redis-url as {USER} and {PASSWORD}", wording(&error))
            }
            Err(error) if is_unknown_command(&error) => "it is no sentinel".to_owned(),
            Err(error) => wording(&error),
        };
        Err(format!("{}: {why}", self.server))
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
