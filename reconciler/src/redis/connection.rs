//! The way to Redis: one server, or a cluster whose slots may move.

use super::unexpected;
use ::redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use ::redis::cluster::ClusterClient;
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError, RedisFuture,
    RedisResult, Value, cmd, from_redis_value,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// A server that does not accept within this time is away.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A command that is not answered within this time failed. Far above the longest ISSUE or a page of the stream.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How the address of a cluster begins; several nodes follow, with commas between them.
const CLUSTER_SCHEME: &str = "redis-cluster://";

/// Times that a command is sent again because a slot has moved, or a node is not ready. The module's own TRYAGAIN is among
/// what is tried again, so there are few, and soon.
const CLUSTER_RETRIES: u32 = 3;
const CLUSTER_RETRY_WAIT_MS: u64 = 50;

/// Where Redis is.
pub enum Address {
    /// One server.
    Server(Client),
    /// A cluster, and a client for each node that was named.
    Cluster(Box<ClusterClient>, Vec<Client>),
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
    pub fn parse(url: &str) -> RedisResult<Self> {
        let Some(nodes) = url.strip_prefix(CLUSTER_SCHEME) else {
            return Ok(Self::Server(client(url)?));
        };
        // Who logs in is said once, before the first node.
        let (login, nodes) = match nodes.rsplit_once('@') {
            Some((login, nodes)) => (format!("{login}@"), nodes),
            None => (String::new(), nodes),
        };
        let nodes: Vec<String> = nodes.split(',').map(|node| format!("redis://{login}{node}")).collect();
        let clients = nodes.iter().map(|node| client(node)).collect::<RedisResult<Vec<_>>>()?;
        let cluster = ClusterClient::builder(nodes)
            .tcp_settings(tcp())
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            .retries(CLUSTER_RETRIES)
            .min_retry_wait(CLUSTER_RETRY_WAIT_MS)
            .max_retry_wait(CLUSTER_RETRY_WAIT_MS * 4)
            .build()?;
        Ok(Self::Cluster(Box::new(cluster), clients))
    }

    /// Connects.
    pub async fn connect(&self) -> RedisResult<Connection> {
        match self {
            Self::Server(client) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(Some(RESPONSE_TIMEOUT));
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Server)
            }
            Self::Cluster(cluster, _) => cluster.get_async_connection().await.map(Connection::Cluster),
        }
    }

    /// A connection for messages. In a cluster any node has them all, so the first that answers will do.
    pub async fn listen(&self) -> RedisResult<PubSub> {
        match self {
            Self::Server(client) => client.get_async_pubsub().await,
            Self::Cluster(_, nodes) => {
                let mut refusal = unexpected("no node of the cluster is named");
                for node in nodes {
                    match node.get_async_pubsub().await {
                        Ok(messages) => return Ok(messages),
                        Err(error) => refusal = error,
                    }
                }
                Err(refusal)
            }
        }
    }
}

fn tcp() -> TcpSettings {
    // Without it, a small command waits for the acknowledgement of the one before.
    TcpSettings::default().set_nodelay(true)
}

fn client(url: &str) -> RedisResult<Client> {
    Client::open(url.into_connection_info()?.set_tcp_settings(tcp()))
}

impl Connection {
    /// Whether this goes to a cluster.
    pub const fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
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
        let primary = range.into_iter().nth(2).ok_or_else(|| unexpected("CLUSTER SLOTS names no primary"))?;
        let mut parts: Vec<Value> = from_redis_value(primary)?;
        parts.truncate(2);
        let (Some(port), Some(host)) = (parts.pop(), parts.pop()) else {
            return Err(unexpected("CLUSTER SLOTS names a primary without an address"));
        };
        primaries.insert((from_redis_value(host)?, from_redis_value(port)?));
    }
    Ok(primaries.into_iter().collect())
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// The error of a connection that took too long.
pub fn timed_out() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_named_by_one_or_more_of_its_nodes() {
        for (url, nodes) in [
            ("redis-cluster://a:7000,b:7001", 2),
            ("redis-cluster://user:p%40ss@a:7000,b:7001,c:7002", 3),
            ("redis-cluster://127.0.0.1:7000", 1),
        ] {
            match Address::parse(url) {
                Ok(Address::Cluster(_, clients)) => assert_eq!(clients.len(), nodes, "{url}"),
                _ => assert_eq!(url, "", "not read as a cluster"),
            }
        }
        assert!(matches!(Address::parse("redis://127.0.0.1:6379"), Ok(Address::Server(_))));
        for wrong in ["redis-cluster://", "redis-cluster://a:b", "redis-cluster://a:1,,b:2", "http://a"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
