//! The way to Redis: one server, a cluster whose slots may move, or the primary that sentinels name.

use super::sentinel::Sentinel;
use super::server::{CONNECT_TIMEOUT, Certificates, RESPONSE_TIMEOUT, Server, away, login_and_rest, tcp};
use super::unexpected;
use crate::cli::Address;
use ::redis::aio::{MultiplexedConnection, PubSub};
use ::redis::cluster::ClusterClient;
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use ::redis::{Cmd, FromRedisValue, Pipeline, RedisResult, Value, cmd, from_redis_value};
use coupon_core::message;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Mutex;
use tokio::time::timeout;

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

/// Keys looked at by one SCAN call.
const SCAN_COUNT: u32 = 1000;

/// Redis, connected when needed.
pub struct Redis {
    way: RwLock<(Address, Arc<Way>)>,
    certificates: Certificates,
    connection: Mutex<Option<Connection>>,
}

/// Where it is.
enum Way {
    Server(Box<Server>),
    /// The nodes of a cluster that were named.
    Cluster(Vec<Server>),
    Sentinel(Box<Sentinel>),
}

/// A connection, shared by all who clone it.
#[derive(Clone)]
enum Connection {
    Server(MultiplexedConnection),
    /// To all nodes.
    Cluster(ClusterConnection),
}

/// Where a walk over all keys stands: nodes one after the other, none at the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanCursor {
    node: usize,
    cursor: u64,
}

impl Redis {
    /// Reads the address; connects later.
    pub fn new(address: Address, certificates: Certificates) -> RedisResult<Self> {
        let way = Way::parse(&address.url, &certificates)?;
        Ok(Self { way: RwLock::new((address, Arc::new(way))), certificates, connection: Mutex::default() })
    }

    fn way(&self) -> Arc<Way> {
        Arc::clone(&self.way.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// Where a connection goes and whether by TLS, for people.
    pub fn place(&self) -> String {
        let servers = self.way().servers();
        let tls = if servers.iter().any(Server::has_tls) { "by TLS" } else { "without TLS" };
        format!("{}, {tls}", servers.iter().map(Server::to_string).collect::<Vec<_>>().join(", "))
    }

    /// Whether a server that takes no writes is a matter of time, as the primary is found by others than the operator.
    pub fn finds_primary(&self) -> bool {
        !matches!(*self.way(), Way::Server(_))
    }

    /// An error if there is another primary than the one that is connected.
    pub async fn check_primary(&self) -> RedisResult<()> {
        let Way::Sentinel(sentinel) = &*self.way() else { return Ok(()) };
        sentinel.check().await
    }

    async fn connection(&self) -> RedisResult<Connection> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = &*slot {
            return Ok(connection.clone());
        }
        let connection = match &*self.way() {
            Way::Server(server) => Connection::Server(server.connect().await?),
            Way::Cluster(nodes) => Connection::Cluster(cluster(nodes)?.get_async_connection().await?),
            Way::Sentinel(sentinel) => Connection::Server(sentinel.connect().await?),
        };
        Ok(slot.insert(connection).clone())
    }

    /// Forgets the connection; the next command makes a new one, by what the address's file holds then.
    pub async fn disconnect(&self) {
        {
            let (address, way) = &mut *self.way.write().unwrap_or_else(PoisonError::into_inner);
            let renewed = address.renew(|url| Way::parse(url, &self.certificates));
            renewed.into_iter().for_each(|now| *way = Arc::new(now));
        }
        *self.connection.lock().await = None;
    }

    /// A connection of its own for messages, subscribed to all of the module's channels. In a cluster any node has them all,
    /// so the first that answers will do.
    pub async fn subscribe(&self) -> RedisResult<PubSub> {
        let subscribe = async {
            // Where sentinels name the primary, this is what meets it.
            self.connection().await?;
            let mut refusal = unexpected("no server is named");
            for server in self.way().servers() {
                match server.client()?.get_async_pubsub().await {
                    Ok(mut messages) => return messages.subscribe(&message::CHANNELS).await.map(|()| messages),
                    Err(error) => refusal = error,
                }
            }
            Err(refusal)
        };
        timeout(CONNECT_TIMEOUT, subscribe).await.map_err(io::Error::from)?
    }

    /// Sends one command, in a cluster to where its key is.
    pub(super) async fn call<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match self.connection().await? {
            Connection::Server(mut server) => command.query_async(&mut server).await,
            Connection::Cluster(mut cluster) => command.query_async(&mut cluster).await,
        }
    }

    /// Sends several at once.
    pub(super) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> RedisResult<T> {
        match self.connection().await? {
            Connection::Server(mut server) => pipeline.query_async(&mut server).await,
            Connection::Cluster(mut cluster) => pipeline.query_async(&mut cluster).await,
        }
    }

    /// Asks one server, in a cluster any primary, for what it says of itself; the client would ask all.
    pub(super) async fn ask_one<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match self.connection().await? {
            Connection::Server(mut server) => command.query_async(&mut server).await,
            Connection::Cluster(mut cluster) => {
                let routing = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
                Ok(from_redis_value(cluster.route_command(command.clone(), routing).await?)?)
            }
        }
    }

    /// One step over the keys that can be coupons: where it goes on, none at the end, and the keys.
    pub async fn scan(&self, at: ScanCursor, glob: &str) -> RedisResult<(Option<ScanCursor>, Vec<Vec<u8>>)> {
        let ScanCursor { node, cursor } = at;
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg(("MATCH", glob, "COUNT", SCAN_COUNT, "TYPE", "hash"));
        let (nodes, reply) = match self.connection().await? {
            Connection::Server(mut server) => (1, scan.query_async(&mut server).await?),
            Connection::Cluster(mut cluster) => {
                let primaries = primaries(&mut cluster).await?;
                // The list may have become shorter since the last step; the next walk sees what this one misses.
                let Some((host, port)) = primaries.get(node).cloned() else { return Ok((None, Vec::new())) };
                let routing = RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress { host, port });
                (primaries.len(), cluster.route_command(scan, routing).await?)
            }
        };
        let (next, keys): (u64, Vec<Vec<u8>>) = from_redis_value(reply)?;
        let next = match next {
            0 => (node + 1 < nodes).then_some(ScanCursor { node: node + 1, cursor: 0 }),
            cursor => Some(ScanCursor { node, cursor }),
        };
        Ok((next, keys))
    }
}

impl Way {
    fn parse(url: &str, certificates: &Certificates) -> RedisResult<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let of = |suffix| scheme.strip_suffix(suffix).filter(|scheme| SCHEMES.contains(scheme));
        let way = if let Some(scheme) = of(CLUSTER_SUFFIX) {
            let (login, nodes) = login_and_rest(rest);
            let node = |node| Server::parse(format!("{scheme}://{login}{node}"), certificates);
            Self::Cluster(nodes.split(',').map(node).collect::<RedisResult<_>>()?)
        } else if let Some(scheme) = of(SENTINEL_SUFFIX) {
            Self::Sentinel(Box::new(Sentinel::parse(scheme, rest, certificates)?))
        } else {
            Self::Server(Box::new(Server::parse(url, certificates)?))
        };
        if *certificates != Certificates::default() && !way.servers().iter().any(Server::has_tls) {
            return Err(away("--redis-tls-ca, --redis-tls-cert and --redis-tls-key are for TLS; write rediss://"));
        }
        Ok(way)
    }

    /// Where connections go; to the sentinels until the primary is met.
    fn servers(&self) -> Vec<Server> {
        match self {
            Self::Server(server) => vec![(**server).clone()],
            Self::Cluster(nodes) => nodes.clone(),
            Self::Sentinel(sentinel) => sentinel.servers(),
        }
    }
}

fn cluster(nodes: &[Server]) -> RedisResult<ClusterClient> {
    let builder = ClusterClient::builder(nodes.iter().map(|node| node.info.clone()))
        .tcp_settings(tcp())
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(RESPONSE_TIMEOUT)
        .retries(CLUSTER_RETRIES)
        .min_retry_wait(CLUSTER_RETRY_WAIT_MS)
        .max_retry_wait(CLUSTER_RETRY_WAIT_MS * 4);
    match nodes.first().and_then(Server::certificates) {
        Some(certificates) => builder.certs(certificates?).build(),
        None => builder.build(),
    }
}

/// The addresses of all primaries that serve slots, in a fixed order.
async fn primaries(connection: &mut ClusterConnection) -> RedisResult<Vec<(String, u16)>> {
    let slots: Vec<Vec<Value>> = cmd("CLUSTER").arg("SLOTS").query_async(connection).await?;
    let mut primaries = BTreeSet::new();
    for range in slots {
        // From, to, the primary and its replicas; of each the host, the port and more.
        let mut primary: Vec<Value> = from_redis_value(range.into_iter().nth(2).unwrap_or(Value::Nil))?;
        primary.truncate(2);
        primaries.insert(from_redis_value(Value::Array(primary))?);
    }
    Ok(primaries.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(url: &str, certificates: Certificates) -> RedisResult<Redis> {
        let Ok(address) = Address::given(url);
        Redis::new(address, certificates)
    }

    fn place(url: &str) -> Result<String, String> {
        redis(url, Certificates::default()).map(|redis| redis.place()).map_err(|error| error.to_string())
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
            let tls = if has_tls { "by" } else { "without" };
            assert_eq!(place(url), Ok(format!("{at}, {tls} TLS")), "{url}");
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
        let refused = redis("redis://a", certificates.clone()).err();
        assert!(refused.is_some_and(|error| error.to_string().contains("--redis-tls-ca")));
        assert!(redis("rediss://a", certificates).is_ok());
    }
}
