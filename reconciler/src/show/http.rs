//! What is served over HTTP, to read only: the page, /status, /metrics, /readyz, /livez.

use super::view::Viewer;
use super::{metrics, page};
use crate::model::standing::Process;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves until it is told to stop.
pub async fn serve(listener: TcpListener, viewer: Viewer, stop: CancellationToken) {
    // Each answers GET and HEAD; other methods are refused with 405.
    let routes = Router::new()
        .route("/", get(live_page))
        .route("/status", get(status))
        .route("/metrics", get(measure))
        .route("/readyz", get(readyz))
        .route("/livez", get(livez))
        .layer(map_response(guard))
        .with_state(Arc::new(viewer));
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "the page, health and metrics are no longer served");
    }
}

/// What holds for every answer: it is of this moment, is what it says it is, and is nobody else's to embed.
async fn guard(response: Response) -> impl IntoResponse {
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, page::POLICY.as_str()),
    ];
    (headers, response)
}

async fn live_page() -> Html<&'static str> {
    Html(page::HTML)
}

async fn status(State(viewer): State<Arc<Viewer>>) -> impl IntoResponse {
    // Numbers and text: this cannot fail.
    let json = serde_json::to_vec(&*viewer.look().await).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], json)
}

async fn measure(State(viewer): State<Arc<Viewer>>) -> impl IntoResponse {
    let view = viewer.look().await;
    let text = metrics::render(&viewer.source.standing(), &view);
    ([(header::CONTENT_TYPE, metrics::OPENMETRICS_TEXT)], text)
}

async fn readyz(State(viewer): State<Arc<Viewer>>) -> impl IntoResponse {
    let process = viewer.source.standing().process;
    let Process { redis, postgresql, shards, stalled, .. } = &process;
    let text = format!(
        "redis: {}\npostgresql: {}\nshards: {} of {}{}\nrelay: {}\n",
        redis.why.as_deref().unwrap_or("ok"),
        postgresql.why.as_deref().unwrap_or("ok"),
        shards.held,
        shards.of,
        shards.why.as_ref().map_or_else(String::new, |why| format!(": {why}")),
        stalled.as_deref().unwrap_or("ok")
    );
    (if process.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

/// The process runs. Whether it can work is not asked here: restarting it would not bring back a server.
async fn livez() -> &'static str {
    "ok\n"
}
