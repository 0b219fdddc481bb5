//! A container as `docker run` makes it: the image's own entrypoint, user, settings and health check.

use coupon_tests::container::engine::{PREFIX, TAG, ask, wait, written};
use coupon_tests::deadline::{DEADLINE, eventually, within};
use coupon_tests::resp::Client;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tempfile::TempDir;
use testcontainers::bollard::models::ContainerInspectResponse;
use testcontainers::bollard::query_parameters::InspectContainerOptions;
use testcontainers::core::{ExecCommand, IntoContainerPort, Mount};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage};

/// Several looks of a health check, each seconds after the other.
const HEALTH_DEADLINE: Duration = DEADLINE.saturating_mul(2);

/// A request for a container of one of our images.
pub fn image(name: &str) -> ContainerRequest<GenericImage> {
    GenericImage::new(format!("{PREFIX}/{name}"), TAG.into()).into()
}

/// A name that no other container or network has.
pub fn unique(name: &str) -> String {
    format!("coupon-{name}-{:016x}", fastrand::u64(..))
}

/// A container, removed with its volumes when dropped.
pub struct Shipped {
    container: Option<ContainerAsync<GenericImage>>,
}

impl Shipped {
    pub fn start(request: ContainerRequest<GenericImage>) -> Self {
        let container = wait(request.start()).expect("the container starts");
        Self { container: Some(container) }
    }

    fn container(&self) -> &ContainerAsync<GenericImage> {
        self.container.as_ref().expect("it is there until it is dropped")
    }

    /// Exit code and output of a command in the container.
    pub fn exec(&self, command: &[&str]) -> (i64, String) {
        wait(async {
            let mut ended = self.container().exec(ExecCommand::new(command.iter().copied())).await.expect("exec");
            let output = [ended.stdout_to_vec().await.expect("stdout"), ended.stderr_to_vec().await.expect("stderr")];
            // Known once the output has ended, or a moment later.
            let code = loop {
                if let Some(code) = ended.exit_code().await.expect("an exit code") {
                    break code;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            };
            (code, String::from_utf8_lossy(&output.concat()).trim_end().to_owned())
        })
    }

    /// All that is known of it.
    pub fn inspect(&self) -> ContainerInspectResponse {
        let inspected = ask(|docker| async move {
            docker.inspect_container(self.container().id(), None::<InspectContainerOptions>).await
        });
        inspected.expect("the engine tells all of a container")
    }

    /// What it has written.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&written(self.container().id())).into_owned()
    }

    /// What its health check says: starting, healthy or unhealthy.
    pub fn health(&self) -> String {
        let health = self.inspect().state.and_then(|state| state.health).and_then(|health| health.status);
        health.expect("the image has a health check").to_string()
    }

    /// Waits until its health check says so.
    pub fn await_health(&self, health: &str) {
        let said = within(HEALTH_DEADLINE, || (self.health() == health).then_some(()));
        assert!(said.is_some(), "not {health} but {}:\n{}", self.health(), self.log());
    }

    /// The port on this machine that leads to one of the container's.
    pub fn port(&self, port: u16) -> u16 {
        wait(self.container().get_host_port_ipv4(port.tcp())).expect("the port is published")
    }

    /// Its Redis, once it takes connections.
    pub fn client(&self) -> Client {
        let port = self.port(6379);
        eventually("Redis answers", || {
            let mut client = Client::connect(port).ok()?;
            client.try_call(&["PING"]).is_ok().then(|| Client::connect(port).ok())?
        })
    }

    /// As `docker stop`: asks it to end, and waits. Its exit code.
    pub fn stop(&self) -> i64 {
        wait(async {
            self.container().stop_with_timeout(Some(30)).await.expect("it stops");
            self.container().exit_code().await.expect("its state").expect("it has ended")
        })
    }

    /// As `docker start`, after a stop.
    pub fn start_again(&self) {
        wait(self.container().start()).expect("it starts again");
    }
}

impl Drop for Shipped {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the container wrote:\n{}", self.log());
        }
        if let Some(container) = self.container.take() {
            let _ = wait(container.rm());
        }
    }
}

/// Where an orchestrator puts secrets.
pub const SECRETS: &str = "/run/secrets";

/// Files that are given to a container.
pub struct Files {
    directory: TempDir,
}

impl Files {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("for any user of a container");
        for (name, text) in files {
            let file = directory.path().join(name);
            fs::write(&file, text).expect("write a secret");
            fs::set_permissions(&file, Permissions::from_mode(0o444)).expect("for any user of a container");
        }
        Self { directory }
    }

    pub fn mount(&self, at: &str) -> Mount {
        Mount::bind_mount(self.directory.path().display().to_string(), at)
    }
}
