//! What is served over HTTP, to read only: the page, /status, /metrics, /readyz, /livez.

use crate::daemon::Daemon;
use crate::{page, shards};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The media type of Prometheus's text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until the daemon stops.
pub async fn serve(listener: TcpListener, daemon: Arc<Daemon>) {
    let stop = daemon.stop.clone();
    // Each answers GET and HEAD; other methods are refused with 405.
    let routes = Router::new()
        .route("/", get(live_page))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route("/readyz", get(readyz))
        .route("/livez", get(livez))
        .layer(map_response(guard))
        .with_state(daemon);
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "the page, health and metrics are no longer served");
    }
}

/// What holds for every answer: it is of this moment, is what it says it is, and is nobody else's to embed.
async fn guard(mut response: Response) -> Response {
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, page::POLICY.clone());
    response
}

async fn live_page() -> Html<&'static str> {
    Html(page::HTML)
}

async fn status(State(daemon): State<Arc<Daemon>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], daemon.overview().await)
}

async fn metrics(State(daemon): State<Arc<Daemon>>) -> impl IntoResponse {
    let gauges = daemon.gauges().await;
    ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], daemon.metrics.render(&gauges))
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

/// The process runs. Whether it can work is not asked here: restarting it would not bring back a server.
async fn livez() -> &'static str {
    "ok\n"
}
