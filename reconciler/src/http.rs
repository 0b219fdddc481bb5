//! Health and metrics over HTTP: /livez, /readyz, /metrics.

use crate::daemon::Daemon;
use crate::shards;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The media type of Prometheus's text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until the daemon stops.
pub async fn serve(listener: TcpListener, daemon: Arc<Daemon>) {
    let stop = daemon.stop.clone();
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(daemon);
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "health and metrics are no longer served");
    }
}

/// The process runs. Whether it can work is not asked here: restarting it would not bring back a server.
async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(daemon): State<Arc<Daemon>>) -> impl IntoResponse {
    let mut text = String::new();
    let mut status = StatusCode::OK;
    for (side, presence) in [("redis", &daemon.sides.redis), ("postgresql", &daemon.sides.postgresql)] {
        let why = presence.why();
        if why.is_some() {
            status = StatusCode::SERVICE_UNAVAILABLE;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{side}: {}", why.as_deref().unwrap_or("ok"));
    }
    let _ = writeln!(text, "shards: {} of {}", daemon.shards.len(), shards::COUNT);
    (status, text)
}

async fn metrics(State(daemon): State<Arc<Daemon>>) -> impl IntoResponse {
    let gauges = daemon.gauges().await;
    ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], daemon.metrics.render(&gauges))
}
