//! What a comparison comes to, and where and how it was measured.

use crate::chart::Plot;
use crate::line::Line;
use anyhow::Result;
use serde::Serialize;

/// What one topic comes to.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// Its lines.
    pub lines: Vec<Line>,
    /// What can be drawn of it.
    pub plots: Vec<Plot>,
    /// Every slice, for whoever wants to look closer.
    pub slices: serde_json::Map<String, serde_json::Value>,
}

impl Findings {
    /// Keeps figures that are behind the lines.
    pub fn keep(&mut self, name: &str, figures: &impl Serialize) -> Result<()> {
        self.slices.insert(name.to_owned(), serde_json::to_value(figures)?);
        Ok(())
    }

    /// Adds those of another topic.
    pub fn join(&mut self, other: Self) {
        self.lines.extend(other.lines);
        self.plots.extend(other.plots);
        self.slices.extend(other.slices);
    }
}

/// Where and how it was measured.
#[derive(Debug, Serialize)]
pub struct Circumstances {
    /// The processor, its cores, the system.
    pub machine: String,
    /// Versions of both servers.
    pub servers: String,
    /// How the load reaches Redis.
    pub method: String,
    /// When, by PostgreSQL's clock.
    pub at: String,
}
