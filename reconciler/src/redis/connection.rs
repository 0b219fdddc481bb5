//! The way to Redis: one server, a cluster whose slots may move, or the primary that sentinels name; with TLS or without.

use super::certificates::Certificates;
use super::sentinel::Sentinel;
use super::unexpected;
use ::redis::aio::{MultiplexedConnection, PubSub};
use ::redis::cluster::ClusterClient;
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo, Pipeline,
    RedisError, RedisResult, Value, cmd, from_redis_value,
};
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

/// A server that does not accept within this time is away.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A command that is not answered within this time failed. Far above the longest ISSUE or a page of the stream.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the scheme of a cluster's address ends with; several nodes follow, with commas between them.
const CLUSTER_SUFFIX: &str = "-cluster";

/// The same where sentinels follow.
const SENTINEL_SUFFIX: &str = "-sentinel";

/// What such a scheme may begin with: without TLS, and with it.
const SCHEMES: [&str; 4] = ["redis", "rediss", "valkey", "valkeys"];

/// Times that a command is sent again because a slot has moved, or a node is not ready. The module's own TRYAGAIN is among
/// what is tried again, so there are few, and soon.
const CLUSTER_RETRIES: u32 = 3;
const CLUSTER_RETRY_WAIT_MS: u64 = 50;

/// Where Redis is.
pub struct Address {
    way: Way,
    certificates: Certificates,
}

enum Way {
    Server(ConnectionInfo),
    /// The nodes that were named.
    Cluster(Vec<ConnectionInfo>),
    Sentinel(Sentinel),
}

/// A connection, shared by all who clone it.
#[derive(Clone)]
pub enum Connection {
    /// To one server.
    Server(MultiplexedConnection),
    /// To all nodes of a cluster.
    Cluster(ClusterConnection),
}

/// Where a walk over all keys stands: nodes one after the other, none at the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanCursor {
    node: usize,
    cursor: u64,
}

impl Address {
    /// Reads an address; nothing is connected yet.
    pub fn parse(url: &str, certificates: Certificates) -> RedisResult<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let of = |suffix| scheme.strip_suffix(suffix).filter(|scheme| SCHEMES.contains(scheme));
        let way = if let Some(scheme) = of(CLUSTER_SUFFIX) {
            let (login, nodes) = login_and_rest(rest);
            let nodes = nodes.split(',').map(|node| server(format!("{scheme}://{login}{node}")));
            let nodes = nodes.collect::<RedisResult<Vec<_>>>()?;
            cluster(&nodes, &Certificates::default())?;
            Way::Cluster(nodes)
        } else if let Some(scheme) = of(SENTINEL_SUFFIX) {
            Way::Sentinel(Sentinel::parse(scheme, rest)?)
        } else {
            Way::Server(server(url)?)
        };
        let address = Self { way, certificates };
        if address.certificates != Certificates::default() && !address.has_tls() {
            return Err(away("--redis-tls-ca, --redis-tls-cert and --redis-tls-key are for TLS; write rediss://"));
        }
        Ok(address)
    }

    /// Connects.
    pub async fn connect(&self) -> RedisResult<Connection> {
        match &self.way {
            Way::Server(server) => connect(server, &self.certificates).await.map(Connection::Server),
            Way::Cluster(nodes) => {
                cluster(nodes, &self.certificates)?.get_async_connection().await.map(Connection::Cluster)
            }
            Way::Sentinel(sentinel) => sentinel.connect(&self.certificates).await.map(Connection::Server),
        }
    }

    /// A connection for messages, to where [`Address::connect`] went last. In a cluster any node has them all, so the first
    /// that answers will do.
    pub async fn listen(&self) -> RedisResult<PubSub> {
        let nodes = match &self.way {
            Way::Server(server) => vec![server.clone()],
            Way::Cluster(nodes) => nodes.clone(),
            Way::Sentinel(sentinel) => vec![sentinel.met()?],
        };
        let mut refusal = unexpected("no node of the cluster is named");
        for node in nodes {
            match client(&node, &self.certificates)?.get_async_pubsub().await {
                Ok(messages) => return Ok(messages),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// Whether the server that is connected is still the one to be connected to.
    pub async fn check(&self) -> RedisResult<()> {
        match &self.way {
            Way::Server(_) | Way::Cluster(_) => Ok(()),
            Way::Sentinel(sentinel) => sentinel.check(&self.certificates).await,
        }
    }

    /// Whether a server that takes no writes is a matter of time: others find the primary.
    pub const fn finds_primary(&self) -> bool {
        !matches!(self.way, Way::Server(_))
    }

    /// Whether connections have TLS.
    pub fn has_tls(&self) -> bool {
        match &self.way {
            Way::Server(server) => has_tls(server),
            Way::Cluster(nodes) => nodes.iter().any(has_tls),
            Way::Sentinel(sentinel) => sentinel.has_tls(),
        }
    }

    /// Where a connection goes, for people.
    pub fn place(&self) -> String {
        match &self.way {
            Way::Server(server) => addresses([server]),
            Way::Cluster(nodes) => addresses(nodes),
            Way::Sentinel(sentinel) => sentinel.place(),
        }
    }
}

/// Reads the address of one server.
pub fn server(url: impl IntoConnectionInfo) -> RedisResult<ConnectionInfo> {
    let write = "write redis://host:port, or rediss://host:port for TLS";
    let server = url.into_connection_info().map_err(|error| away(format!("{error}; {write}")))?;
    // A connection that anybody can sit in the middle of is worse than one that says that it has no TLS.
    if matches!(server.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
        return Err(away("#insecure is not to be had: name the file of the server's CA with --redis-tls-ca"));
    }
    Ok(server.set_tcp_settings(tcp()))
}

fn tcp() -> TcpSettings {
    // Without it, a small command waits for the acknowledgement of the one before.
    TcpSettings::default().set_nodelay(true)
}

pub fn has_tls(server: &ConnectionInfo) -> bool {
    matches!(server.addr(), ConnectionAddr::TcpTls { .. })
}

/// For people.
pub fn addresses<'a>(servers: impl IntoIterator<Item = &'a ConnectionInfo>) -> String {
    servers.into_iter().map(|server| server.addr().to_string()).collect::<Vec<_>>().join(", ")
}

/// Who logs in is said once, before the first node: `user:password@`, and the rest.
pub fn login_and_rest(rest: &str) -> (&str, &str) {
    rest.split_at(rest.rfind('@').map_or(0, |at| at + 1))
}

fn cluster(nodes: &[ConnectionInfo], certificates: &Certificates) -> RedisResult<ClusterClient> {
    let builder = ClusterClient::builder(nodes.iter().cloned())
        .tcp_settings(tcp())
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(RESPONSE_TIMEOUT)
        .retries(CLUSTER_RETRIES)
        .min_retry_wait(CLUSTER_RETRY_WAIT_MS)
        .max_retry_wait(CLUSTER_RETRY_WAIT_MS * 4);
    if nodes.iter().any(has_tls) { builder.certs(certificates.read()?) } else { builder }.build()
}

/// Connects to one server.
pub async fn connect(server: &ConnectionInfo, certificates: &Certificates) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    client(server, certificates)?.get_multiplexed_async_connection_with_config(&config).await
}

fn client(server: &ConnectionInfo, certificates: &Certificates) -> RedisResult<Client> {
    if has_tls(server) {
        Client::build_with_tls(server.clone(), certificates.read()?)
    } else {
        Client::open(server.clone())
    }
}

/// The error of a server that is away, in our words.
pub fn away(text: impl Into<String>) -> RedisError {
    RedisError::from(io::Error::other(text.into()))
}

impl Connection {
    /// Sends one command, in a cluster to where its key is.
    pub async fn call<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Server(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }

    /// Sends several at once.
    pub async fn pipeline<T: FromRedisValue>(&mut self, pipeline: &Pipeline) -> RedisResult<T> {
        match self {
            Self::Server(connection) => pipeline.query_async(connection).await,
            Self::Cluster(connection) => pipeline.query_async(connection).await,
        }
    }

    /// Asks one server, in a cluster any primary, for what it says of itself; the client would ask all.
    pub async fn ask_one<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Server(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => {
                let routing = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
                Ok(from_redis_value(connection.route_command(command.clone(), routing).await?)?)
            }
        }
    }

    /// One step of a walk over all keys with `scan`, a SCAN that lacks its cursor: where it goes on, none at the end, and
    /// the keys.
    pub async fn scan(
        &mut self,
        at: ScanCursor,
        scan: impl Fn(u64) -> Cmd,
    ) -> RedisResult<(Option<ScanCursor>, Vec<Vec<u8>>)> {
        let ScanCursor { node, cursor } = at;
        match self {
            Self::Server(connection) => {
                let (next, keys) = scan(cursor).query_async(connection).await?;
                Ok(((next != 0).then_some(ScanCursor { node, cursor: next }), keys))
            }
            Self::Cluster(connection) => {
                let primaries = primaries(connection).await?;
                // The list may have become shorter since the last step; the next walk sees what this one misses.
                let Some((host, port)) = primaries.get(node).cloned() else { return Ok((None, Vec::new())) };
                let routing = RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress { host, port });
                let reply = connection.route_command(scan(cursor), routing).await?;
                let (next, keys): (u64, Vec<Vec<u8>>) = from_redis_value(reply)?;
                let next = match next {
                    0 if node + 1 == primaries.len() => None,
                    0 => Some(ScanCursor { node: node + 1, cursor: 0 }),
                    cursor => Some(ScanCursor { node, cursor }),
                };
                Ok((next, keys))
            }
        }
    }
}

/// The addresses of all primaries that serve slots, in a fixed order.
async fn primaries(connection: &mut ClusterConnection) -> RedisResult<Vec<(String, u16)>> {
    let slots: Vec<Vec<Value>> = cmd("CLUSTER").arg("SLOTS").query_async(connection).await?;
    let mut primaries = BTreeSet::new();
    for range in slots {
        let primary: Option<Vec<Value>> = range.into_iter().nth(2).map(from_redis_value).transpose()?;
        let mut parts = primary.into_iter().flatten();
        let (Some(host), Some(port)) = (parts.next(), parts.next()) else {
            return Err(unexpected("CLUSTER SLOTS names no primary"));
        };
        primaries.insert((from_redis_value(host)?, from_redis_value(port)?));
    }
    Ok(primaries.into_iter().collect())
}

/// The error of a connection that took too long.
pub fn timed_out() -> RedisError {
    RedisError::from(io::Error::from(io::ErrorKind::TimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Result<(String, bool), String> {
        Address::parse(url, Certificates::default())
            .map(|address| (address.place(), address.has_tls()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_scheme_says_which_way_to_go_and_whether_by_tls() {
        for (url, at, has_tls) in [
            ("redis://127.0.0.1:6379", "127.0.0.1:6379", false),
            ("rediss://user:p%40ss@a", "a:6379", true),
            ("valkeys://a", "a:6379", true),
            ("redis-cluster://127.0.0.1:7000", "127.0.0.1:7000", false),
            ("redis-cluster://user:p%40ss@a:7000,b:7001", "a:7000, b:7001", false),
            ("rediss-cluster://a:7000,b:7001,c", "a:7000, b:7001, c:6379", true),
            ("redis-sentinel://user:p@ss@a,b:7/main", "a:26379, b:7", false),
            ("rediss-sentinel://[::1]/x.y_z-0", "::1:26379", true),
        ] {
            assert_eq!(place(url), Ok((at.to_owned(), has_tls)), "{url}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_is_refused() {
        for (url, why) in [
            ("http://a", "redis://host:port"),
            ("redis", "redis://host:port"),
            ("unix-cluster://a", "redis://host:port"),
            ("redis-cluster://", "redis://host:port"),
            ("redis-cluster://a:b", "redis://host:port"),
            ("redis-cluster://a:1,,b:2", "redis://host:port"),
            ("rediss://a#insecure", "--redis-tls-ca"),
            ("rediss-cluster://a:1,b:2#insecure", "--redis-tls-ca"),
            ("rediss-sentinel://a/main#insecure", "--redis-tls-ca"),
            ("redis-sentinel://a:26379", "/NAME"),
            ("redis-sentinel://a/", "/NAME"),
            ("redis-sentinel://a/main/0", "/NAME"),
            ("redis-sentinel://a,/main", "host"),
            ("redis-sentinel:///main", "host"),
            ("redis-sentinel://a/main?sentinel-pasword=x", "sentinel-password"),
        ] {
            assert!(place(url).is_err_and(|said| said.contains(why)), "{url}: {:?}", place(url));
        }
    }

    #[test]
    fn certificates_without_tls_are_refused() {
        let certificates = Certificates { ca: Some("/ca.pem".into()), ..Certificates::default() };
        let refused = Address::parse("redis://a", certificates.clone()).err();
        assert!(refused.is_some_and(|error| error.to_string().contains("--redis-tls-ca")));
        assert!(Address::parse("rediss://a", certificates).is_ok());
    }
}
