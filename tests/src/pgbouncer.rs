//! A pooler before a PostgreSQL.

use crate::artifact;
use crate::deadline::{DEADLINE, within};
use crate::port;
use crate::postgres_server::{self, Postgres};
use crate::process::{Process, Program};
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use tempfile::TempDir;

/// A running PgBouncer.
pub struct PgBouncer {
    port: u16,
    // Dropped in this order: a failing process still shows its log, which lies in the directory.
    _process: Process,
    _directory: TempDir,
}

impl PgBouncer {
    /// Starts one as it comes, but for where it listens and whom it lets in, in this mode: `session` or `transaction`.
    ///
    /// # Panics
    /// If it does not listen.
    #[must_use]
    pub fn start(postgres: &Postgres, mode: &str) -> Self {
        let directory = postgres_server::temporary_directory();
        let port = port::free();
        let config = directory.path().join("pgbouncer.ini");
        let users = directory.path().join("users.txt");
        fs::write(&users, "\"postgres\" \"\"\n").expect("a file in its directory");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\n",
            postgres.port,
            users.display()
        );
        fs::write(&config, settings).expect("a file in its directory");
        let program = Program {
            name: "pgbouncer",
            file: artifact::pgbouncer(),
            args: vec![config.into()],
            env: Vec::new(),
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            // It refuses to be root, as PostgreSQL does.
            account: postgres_server::account(),
        };
        let mut process = program.start();
        let is_up = within(DEADLINE, || match process.ended() {
            Some(_) => Some(false),
            None => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(true),
        });
        assert_eq!(is_up, Some(true), "pgbouncer does not start:\n{}", process.log());
        Self { port, _process: process, _directory: directory }
    }

    /// The way to the database through it.
    #[must_use]
    pub fn url(&self, postgres: &Postgres) -> String {
        postgres.url_at(self.port)
    }
}
