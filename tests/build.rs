//! Takes the Rust program out of docs/clients.md, for the compiler to see what the page shows.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

const PAGE: &str = "../docs/clients.md";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PAGE}");
    let page = fs::read_to_string(PAGE)?;
    let program = page.split("```rust run:rust\n").nth(1).and_then(|rest| rest.split("\n```").next());
    let program = program.ok_or_else(|| format!("{PAGE} shows no Rust program"))?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("page_client.rs"), program)?;
    Ok(())
}
